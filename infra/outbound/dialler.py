"""Makes calls: one order after another, at the pace that the carrier takes.

An order is checked when it is given and again when its turn comes: the list, the hours and the limits may
have changed meanwhile. What became of the last ten thousand can be asked, while the process lives.
"""

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

from infra.admission.desk import NoLineFree
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.policy import (
    AnsweringMachinePolicy,
    Dialled,
    OutboundSettings,
    Refused,
    permitted,
)
from pipeline.events import CallerTurn, CallEvent
from pipeline.persona import Persona

log = logging.getLogger(__name__)

State = Literal["waiting", "dialling", "ringing", "answered", "over", "failed"]

_ENDED: tuple[State, ...] = ("over", "failed")
_ORDERS_KEPT = 10_000
_UNHEARD_S = 600.0
"""Carriers may keep a call in a queue of their own before it rings."""
_OPTS_OUT = re.compile(
    r"\b((do not|don['’]?t|stop|never|quit) (you )?(ever )?"
    r"(call|calling|phone|phoning|ring|ringing|(contact|contacting|bothering) (me|us))"
    r"|(do not|don['’]?t) (want|need) (any |more |any more |your |these |such )*(phone )?calls"
    r"|(do not|don['’]?t) (want|wish|like) to be (called|phoned|rung|contacted|bothered)"
    r"|(do not|don['’]?t) want (you|you people) (to call|calling)"
    r"|(take|remove|delete) (me|my number|us|our number|this number)\b.*\b(list|database|records)"
    r"|(remove|delete|lose|forget) (my|our|this) number|no more calls|unsubscribe|opt(ing)? (me |us )?out)\b",
    re.I,
)

_COMPLETED = "completed"
_UNANSWERED = {
    "no-answer": "no answer",
    "canceled": "no answer",
    _COMPLETED: "hung up before the call began",
}
"""What Twilio calls the end of a call on which nobody was talked to."""


class CarrierRefused(Exception):
    """The call could not be placed; the message is for whoever ordered it."""


@dataclass(frozen=True, slots=True)
class Order:
    """One call to make. `call_id` is the carrier's, once it has one."""

    id: str
    number: str
    persona: str
    state: State = "waiting"
    detail: str = ""
    call_id: str = ""


class Carrier(Protocol):
    async def place(self, order: Order) -> str:
        """Begin to dial; the carrier's id of the call. When somebody answers, the line comes in as any
        other, with the order's id. Raises `CarrierRefused`."""
        ...


class Places(Protocol):
    """Where a call has its place; `infra.admission.desk.Admission` is one."""

    async def wait_and_take(self, call_id: str, *, for_s: float) -> None:
        """A place, as soon as there is one. Raises `NoLineFree` where the house closes."""
        ...

    def give_back(self, call_id: str) -> None: ...


class Unlimited:
    """There is always a place."""

    async def wait_and_take(self, call_id: str, *, for_s: float) -> None:
        return None

    def give_back(self, call_id: str) -> None:
        return None


class Dialler:
    """`run()` in a task of its own; `order()`, `status()`, `cancel()` from anywhere on the loop.

    `persona_named` finds a persona that may call, `rehearse` makes it ready before anything rings.
    `accepting()` turning false, nothing is dialled any more. A call has its place in `places`, by its order's
    id, before anything is dialled. `wall()` is the time of day, aware.
    """

    def __init__(
        self,
        settings: OutboundSettings,
        carrier: Carrier,
        ledger: CallLedger,
        unwanted: DoNotCall,
        *,
        persona_named: Callable[[str], Persona | None],
        rehearse: Callable[[Persona], Awaitable[None]],
        accepting: Callable[[], bool] = lambda: True,
        places: Places | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._carrier = carrier
        self._ledger = ledger
        self._unwanted = unwanted
        self._persona_named = persona_named
        self._rehearse = rehearse
        self._accepting = accepting
        self._places = places or Unlimited()
        self._wall = wall
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._by_key: dict[str, str] = {}
        self._callers: dict[str, Persona] = {}
        """Who speaks when somebody answers: as rehearsed, whatever the files say meanwhile."""
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._free_at = 0.0
        self._changed = asyncio.Event()
        """An order's state has."""

    @property
    def answering_machine(self) -> AnsweringMachinePolicy:
        return self._settings.answering_machine

    # Orders

    async def order(self, number: str, persona: str = "", *, key: str = "") -> Order:
        """Take one call into the queue. The same `key` again gives the same order, and no second call.
        Raises `Refused`."""
        if (known := self._known(number, persona, key)) is not None:
            return known
        if self._persona_named(persona) is None:
            raise Refused(f"no persona is named {persona!r}", 422)
        wanted = await self._permitted(number)
        if self._waiting.qsize() >= self._settings.most_waiting:
            raise Refused(f"{self._settings.most_waiting} calls wait already", 429)
        # While the files were read, another order may have come with this key.
        if (known := self._known(number, persona, key)) is not None:
            return known
        order = Order(secrets.token_urlsafe(12), wanted, persona)
        self._keep(order)
        if key:
            self._by_key[key] = order.id
        self._waiting.put_nowait(order.id)
        return order

    def _known(self, number: str, persona: str, key: str) -> Order | None:
        known = self._orders.get(self._by_key.get(key, "")) if key else None
        if known is not None and (known.persona, known.number) != (persona, self._shape(number)):
            raise Refused("this idempotency key was used for another call", 409)
        return known

    @property
    def ringing(self) -> int:
        """Calls that are being made, and that nobody has answered yet."""
        return sum(order.state in ("dialling", "ringing") for order in self._orders.values())

    def counted(self) -> dict[State, int]:
        """How many orders, of those that are remembered, are in each state."""
        counts: dict[State, int] = dict.fromkeys(get_args(State), 0)
        for order in self._orders.values():
            counts[order.state] += 1
        return counts

    def status(self, order_id: str) -> Order | None:
        return self._orders.get(order_id)

    def cancel(self, order_id: str) -> bool:
        """False when it rings already, or never was."""
        order = self._orders.get(order_id)
        if order is None or order.state != "waiting":
            return False
        self._keep(replace(order, state="failed", detail="cancelled"))
        return True

    # The queue

    async def run(self) -> None:
        """Dial for ever, at most `calls_per_s`."""
        while True:
            order = self._orders.get(await self._waiting.get())
            if order is not None and order.state == "waiting":
                await self._dial(order)

    async def _dial(self, order: Order) -> None:
        loop = asyncio.get_running_loop()
        try:
            persona = self._persona_named(order.persona)
            if persona is None:
                raise Refused(f"no persona is named {order.persona!r} any more")
            await self._rehearse(persona.calling())
            if persona.outbound.message and self.answering_machine == "leave_message":
                await self._rehearse(persona.leaving_message())
            await self._a_line_is_free()
            await asyncio.sleep(max(0.0, self._free_at - loop.time()))
            await self._take_place(order.id)
            # Behind all waiting: what is asked here must hold when it rings.
            await self._permitted(order.number)
            if self._now(order).state != "waiting":
                self._places.give_back(order.id)
                return
            self._callers[order.id] = persona
            self._keep(replace(order, state="dialling"))
            await asyncio.to_thread(self._ledger.add, Dialled(order.number, self._wall()))
            self._free_at = loop.time() + 1 / self._settings.calls_per_s
            call_id = await self._carrier.place(order)
        except Exception as error:
            known = isinstance(error, Refused | CarrierRefused)
            log.warning("order %s was not dialled: %s", order.id, error, exc_info=None if known else error)
            detail = str(error) if known else f"{type(error).__name__}: {error}"
            self._places.give_back(order.id)
            now = self._now(order)
            if now.state in ("waiting", "dialling"):  # neither taken back nor, in spite of all, answered
                self._keep(replace(now, state="failed", detail=detail))
            return
        # The carrier's webhooks may have come before its answer to us.
        now = self._now(order)
        self._keep(replace(now, call_id=call_id, state="ringing" if now.state == "dialling" else now.state))
        loop.call_later(self._settings.ring_s + _UNHEARD_S, self._unheard, order.id)

    async def _take_place(self, order_id: str) -> None:
        try:
            await self._places.wait_and_take(order_id, for_s=self._settings.ring_s + _UNHEARD_S)
        except NoLineFree:
            raise Refused("this server is about to stop", 503) from None

    async def _a_line_is_free(self) -> None:
        busy = ("dialling", "ringing", "answered")
        while sum(order.state in busy for order in self._orders.values()) >= self._settings.most_at_once:
            self._changed.clear()
            await self._changed.wait()

    def _now(self, order: Order) -> Order:
        """As it stands. One that is not known any more was over before it was forgotten."""
        return self._orders.get(order.id, replace(order, state="failed"))

    def _unheard(self, order_id: str) -> None:
        """A report of the carrier's was lost: nothing rings for that long."""
        order = self._orders.get(order_id)
        if order is not None and order.state == "ringing":
            self._keep(replace(order, state="failed", detail="the carrier has not said what became of it"))

    async def _permitted(self, number: str) -> str:
        if not self._accepting():
            raise Refused("this server is about to stop", 503)
        try:
            now = self._wall()
            before = await asyncio.to_thread(self._ledger.recent, now)
            unwanted = await asyncio.to_thread(self._unwanted.numbers)
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"the records of calls cannot be read, so nobody is called: {error}", 503) from None
        return permitted(number, self._settings, now=now, before=before, unwanted=unwanted)

    # What becomes of an order

    def answered(self, order_id: str) -> tuple[Order, Persona] | None:
        """A line came in that carries this order's id: who speaks on it. None for ids that are not ours."""
        order = self._orders.get(order_id)
        if order is None or order.state not in ("dialling", "ringing"):
            return None
        persona = self._callers[order_id]
        self._keep(replace(order, state="answered"))
        return order, persona.calling()

    def over(self, order_id: str, detail: str) -> None:
        """The call has ended, or never began; said twice, the first word counts. That a call on which we talk
        is `completed` says nothing: whoever talks knows how it went, and says so next."""
        order = self._orders.get(order_id)
        if order is None or order.state in _ENDED:
            return
        if order.state == "answered":
            if detail == _COMPLETED:
                return
            self._keep(replace(order, state="over", detail=detail))
        else:
            self._keep(replace(order, state="failed", detail=_UNANSWERED.get(detail, detail)))

    def opt_out_observer(self, number: str) -> "OptOut":
        """For a call of ours to `number` (E.164)."""
        return OptOut(number, self._unwanted)

    def _keep(self, order: Order) -> None:
        self._orders[order.id] = order
        self._orders.move_to_end(order.id)
        self._changed.set()
        if order.state in _ENDED:
            self._callers.pop(order.id, None)
            self._places.give_back(order.id)
        if len(self._orders) > _ORDERS_KEPT:
            self._forget_one()

    def _forget_one(self) -> None:
        """The oldest that is over; one that waits or rings is never forgotten."""
        ended = (order.id for order in self._orders.values() if order.state in _ENDED)
        if (oldest := next(ended, None)) is not None:
            del self._orders[oldest]
            self._by_key = {key: kept for key, kept in self._by_key.items() if kept != oldest}

    def _shape(self, number: str) -> str:
        from telephony.numbers import NotDialable, dialable

        try:
            return dialable(number)
        except NotDialable:
            return number


class OptOut:
    """Observes a call that we made: whoever says that they want no calls is never called again."""

    def __init__(self, number: str, unwanted: DoNotCall) -> None:
        self._number = number
        self._unwanted = unwanted
        self._writing: asyncio.Task[None] | None = None

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, CallerTurn) and self._writing is None and _OPTS_OUT.search(event.text):
            log.info("%s wants no calls and goes on the do-not-call list", self._number)
            self._writing = asyncio.get_running_loop().create_task(self._write(event.text), name="opt-out")

    async def _write(self, said: str) -> None:
        try:
            await asyncio.to_thread(self._unwanted.add, self._number, f"said: {said[:200]}")
        except (OSError, UnicodeDecodeError) as error:
            log.error("%s WANTS NO CALLS, and the list cannot be written: %s", self._number, error)
