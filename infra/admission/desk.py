"""Who is let in: the slots of `infra.admission.slots` on the event loop's clock.

A way in asks `take(call_id)` before it takes a call, and `Calls.answer` holds the call inside
`lease(call_id)`. In between the call rings; one whose audio never comes loses its slots after `ring_s`. While
it is on, every event that it reports (`observer`) renews its lease; one that reports nothing for `lease_s` is
ended, its slots are free at once, and `expired` counts it.

Callers who are asked to wait (`keep_turn`) come before everybody who asks later: a place that falls free is
theirs, in the order in which they came, as long as they ask again in time.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from infra.admission.slots import EVERY_MODEL, Capacity, Lease, SlotBook
from pipeline.events import CallerAudio, CallEvent

log = logging.getLogger(__name__)


_BACK_S: Final = 20.0
"""Within it a caller whose line was lost is back, or is somewhere else."""


class NoLineFree(Exception):
    """The house is full, or takes no more calls."""


class LeaseExpired(Exception):
    """The call has not shown that it lives for too long and was ended."""


@dataclass(frozen=True, slots=True)
class CapacityView:
    """What pages, metrics and readiness show. `in_use` of `of` calls; `ringing` of them have not begun."""

    in_use: int
    of: int
    ringing: int
    refused: int
    """Calls turned away since the start."""
    expired: int
    """Calls that were on and whose lease ran out."""
    unstarted: int
    """Calls that were taken and never began."""
    overdue: int
    """Calls whose lease ran out and that have still not ended."""
    models: dict[str, tuple[int, int]]
    """(in use, of) of stt, llm and tts."""
    waiting: int = 0
    """Callers who were asked to hold the line."""

    @property
    def full(self) -> bool:
        return any(used >= of for used, of in self.models.values())


class Admission:
    """Made on a running loop. `ring_s` is how long a call may take to begin, `lease_s` how long one that is
    on may be without a sign of life. Implements `telephony.answer.Lines`."""

    def __init__(self, capacity: Capacity, *, ring_s: float, lease_s: float) -> None:
        self.closing = False
        """No new call is taken; those that have their slots are."""
        self.refused = 0
        self.expired = 0
        self.unstarted = 0
        self._book = SlotBook(capacity)
        self._ring_s = ring_s
        self._lease_s = lease_s
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, tuple[Lease, asyncio.Timeout]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = float("inf")
        self._waiting: list[asyncio.Future[None]] = []
        log.info("up to %d calls at once: %s", capacity.calls, capacity)
        self._turns: dict[str, float] = {}
        """Callers who wait, whoever came first before the others: when each is taken to have left."""

    # Before a call

    def take(self, call_id: str, *, for_s: float | None = None, goes_on: bool = False) -> bool:
        """Reserve what the call needs, for `for_s` seconds (None: `ring_s`) if it does not begin. True again
        for a call that has it. `goes_on`: it was on a moment ago, and may come back for `_BACK_S`, even where
        we are closing, and before those who wait."""
        if for_s is None:
            for_s = min(_BACK_S, self._ring_s) if goes_on else self._ring_s
        until = self._loop.time() + for_s
        known = self._book.lease(call_id) is not None
        not_now = not (known or goes_on) and (self.closing or self._others_go_first(call_id))
        if not_now or self._book.reserve(call_id, until) is None:
            if call_id not in self._turns:
                self._refuse(call_id)
            return False
        self._turns.pop(call_id, None)
        self._arm(until)
        return True

    def keep_turn(self, call_id: str, *, for_s: float, first: bool = False) -> None:
        """The caller waits, and asks again (`take`) within `for_s`: nobody who comes later goes first.
        `first`: nor do those who wait, for this one was in a call that was lost."""
        until = self._loop.time() + for_s
        if first:
            self._turns = {call_id: until} | self._turns
        self._turns[call_id] = until
        self._arm(until)

    def leave(self, call_id: str) -> None:
        """The caller has waited for long enough, and is turned away."""
        if self._turns.pop(call_id, None) is not None:
            self._refuse(call_id)
            self._wake()

    def _others_go_first(self, call_id: str) -> bool:
        """Every place that is free is somebody's who waits for longer."""
        if not self._turns:
            return False
        keys = list(self._turns)
        ahead = keys.index(call_id) if call_id in self._turns else len(keys)
        return ahead >= self._book.free

    def _refuse(self, call_id: str) -> None:
        self.refused += 1
        if self.closing:
            log.warning("no place for call %s: this server takes no more calls", call_id)
            return
        full = [model for model, (used, of) in self._book.usage().items() if used >= of]
        setting = "calls" if len(full) in (0, len(EVERY_MODEL)) else ", ".join(full)
        log.warning(
            "no place for call %s: %d of %d are taken; where the machine carries more, raise [capacity] %s",
            call_id,
            self._book.leases,
            self._book.capacity.calls,
            setting,
        )

    def give_back(self, call_id: str) -> None:
        """The call will not begin after all. Nothing where it is on, or has nothing."""
        lease = self._book.lease(call_id)
        left = self._turns.pop(call_id, None) is not None
        if left or (lease is not None and call_id not in self._held and self._book.give_back(lease)):
            self._wake()

    async def wait_and_take(self, call_id: str, *, for_s: float) -> None:
        """As soon as there is a place: for calls that we make. Raises `NoLineFree` when we close."""
        while True:
            if self.closing:
                raise NoLineFree
            known = self._book.lease(call_id) is not None
            free = known or (self._book.free > 0 and not self._others_go_first(call_id))
            if free and self.take(call_id, for_s=for_s):
                return
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)

    def close(self) -> None:
        self.closing = True
        self._wake()

    # A call that is on

    @asynccontextmanager
    async def lease(self, call_id: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a call inside; yields what renews its lease. Raises `NoLineFree` before anything else, and
        `LeaseExpired` where the call was ended because it showed no life. The slots are given back however
        the block is left."""
        until = self._loop.time() + self._lease_s
        comes_late = self.closing and self._book.lease(call_id) is None
        twice = call_id in self._held
        lease = None if comes_late or twice else self._book.reserve(call_id, until)
        if lease is None:
            self._refuse(call_id)
            raise NoLineFree
        scope = asyncio.timeout(None)
        self._held[call_id] = lease, scope
        self._arm(until)
        try:
            async with scope:
                yield lambda: lease.renew(self._loop.time() + self._lease_s)
        except TimeoutError:
            if scope.expired():
                raise LeaseExpired from None
            raise
        finally:
            del self._held[call_id]
            if self._book.give_back(lease):
                self._wake()

    def observer(self, call_id: str) -> "SignOfLife":
        """Renews the lease of that call by whatever the call reports."""
        held = self._held.get(call_id)
        return SignOfLife(held[0] if held is not None else None, self._loop.time, self._lease_s)

    # What is to be seen

    @property
    def in_use(self) -> int:
        return self._book.leases

    @property
    def ringing(self) -> int:
        """Calls that have their slots and have not begun."""
        begun = sum(not lease.lost for lease, _ in self._held.values())
        return self._book.leases - begun

    def view(self) -> CapacityView:
        return CapacityView(
            in_use=self._book.leases,
            of=self._book.capacity.calls,
            ringing=self.ringing,
            refused=self.refused,
            expired=self.expired,
            unstarted=self.unstarted,
            overdue=sum(lease.lost for lease, _ in self._held.values()),
            models={str(model): use for model, use in self._book.usage().items()},
            waiting=len(self._turns),
        )

    # The clock

    def _arm(self, at: float) -> None:
        """Renewals do not come here: the timer finds them when it fires."""
        if self._timer is not None and self._due_at <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        late = self._book.expire(self._loop.time())
        for lease in late:
            held = self._held.get(lease.key)
            if held is None or held[0] is not lease:
                self.unstarted += 1
                log.warning("call %s never began; its place is free again", lease.key)
                continue
            self.expired += 1
            log.error("call %s has shown no life for %.0f s and is ended", lease.key, self._lease_s)
            held[1].reschedule(self._loop.time())
        now = self._loop.time()
        gone = [call_id for call_id, until in self._turns.items() if until <= now]
        for call_id in gone:
            del self._turns[call_id]
        if late or gone:
            self._wake()
        deadlines = [self._book.next_deadline(), *self._turns.values()]
        if known := [deadline for deadline in deadlines if deadline is not None]:
            self._arm(min(known))

    def _wake(self) -> None:
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    def aclose(self) -> None:
        """Stop the timer. Calls must have ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class SignOfLife:
    """Observes a call: what it reports proves that it lives. The sound that its line brings does not: that
    comes into a call that hangs, too."""

    def __init__(self, lease: Lease | None, now: Callable[[], float], lease_s: float) -> None:
        self._lease = lease
        self._now = now
        self._lease_s = lease_s

    def observe(self, event: CallEvent) -> None:
        if self._lease is not None and type(event) is not CallerAudio:
            self._lease.until = self._now() + self._lease_s
