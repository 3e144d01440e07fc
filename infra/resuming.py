"""Calls that outlive their front-end: what all front-ends know of them by the store, and this one by itself.

A front-end is named in the store after where the others reach it, `<host>_<port>_<six letters>`, with `tls_`
before that where it has a certificate, and with the host `local-<this machine>` where only its own machine
does. So one to which Twilio brings a request about somebody else's call can pass it on, or learns that nobody
is there any more. Where the store is away, calls that this process itself lost a line of still go on.
"""

import asyncio
import functools
import hashlib
import itertools
import logging
import re
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

from infra.access.tls import Certificate, Neighbourhood
from infra.records.pauses import NOT_RECORDED
from infra.settings import Settings
from infra.store.errors import StoreError
from infra.store.rows import StoredCall, ToolRow, TurnRow, Unfinished
from pipeline.events import CallEvent, CallObserver
from pipeline.line import LineInfo
from pipeline.resuming import CallMemory, CallSoFar, PastTurn, clauses_within, line_was_lost
from pipeline.tools.toolbox import call_text
from telephony.twilio.elsewhere import Found

log = logging.getLogger(__name__)

KIND: Final = "twilio"
"""The one way in whose calls outlive a line."""
_QUIET_S: Final = 120.0
"""Longer nothing happens on no call: its silences are broken, and then it ends."""
_STORE_PATIENCE_S: Final = 2.5
_TOKENS_AT_ONCE: Final = 1_000
_GRACE_S: Final = 0.4
"""How long the end of a call may take from its front-end to the store: one that ended on purpose is over."""
_KEPT_S: Final = 120.0
"""How long a call is remembered after its line was lost."""
_NAME: Final = re.compile(r"(?P<tls>tls_)?(?P<host>[A-Za-z0-9.-]+)_(?P<port>[0-9]{1,5})_[0-9a-f]+")
_LOCAL: Final = "local-"
_LOOPBACK: Final = "127.0.0.1"
_T = TypeVar("_T")


class StoredCalls(Protocol):
    """What is needed of `infra.store.store.CallStore`. Everything blocks and may raise `StoreError`."""

    front_end: str

    @property
    def away(self) -> bool: ...

    def unfinished(self, call_id: str) -> Unfinished | None: ...

    def call(self, call_id: str) -> StoredCall | None: ...

    def claim(self, call_id: str, front_end: str = "") -> bool: ...

    def use_each_once(self, until: Mapping[str, float]) -> frozenset[str]: ...


def front_end_name(settings: Settings) -> str:
    """A name that tells other front-ends where this one is, new at each start; "" where they cannot reach it,
    or would not take its certificate. Raises `AccessConfigError`."""
    own = Certificate.of(settings.access)
    if own is not None and not Neighbourhood(settings.access, settings.public_base_url).knows(own):
        return ""
    host = settings.bind_host
    if host in ("", "0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = socket.gethostname()
    elif host in ("localhost", _LOOPBACK):
        host = _this_machine()
    name = f"{'tls_' if own is not None else ''}{host}_{settings.port}_{secrets.token_hex(3)}"
    return name if _NAME.fullmatch(name) and len(name) <= 100 else ""


def address_of(front_end: str) -> str | None:
    """Where a front-end of this name is reached: "http://10.0.0.5:8080", or "https://10.0.0.5:8443"."""
    known = _NAME.fullmatch(front_end)
    if known is None or int(known["port"]) > 65_535:
        return None
    host = known["host"]
    if host.startswith(_LOCAL):
        if host != _this_machine():
            return None
        host = _LOOPBACK
    return f"http{'s' if known['tls'] else ''}://{host}:{known['port']}"


@functools.cache
def _this_machine() -> str:
    """A name for its loopback that means nothing on another one, nor in another container."""
    try:
        number = Path("/etc/machine-id").read_text().strip()
    except OSError:
        number = ""
    return _LOCAL + hashlib.sha256(f"{number}/{socket.gethostname()}".encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a call goes on, and as whom."""

    so_far: CallSoFar
    persona: str


class _Kept:
    """One call as this process knows it."""

    def __init__(self, info: LineInfo, clock: Callable[[], float]) -> None:
        self.info = info
        self.memory = CallMemory()
        self.ended_at: float | None = None
        self._clock = clock
        self._zero_s = clock()

    def observe(self, event: CallEvent) -> None:
        before = self.memory.at_s
        self.memory.observe(event)
        if self.memory.at_s > before:
            self._zero_s = self._clock() - self.memory.at_s
        self.ended_at = self._clock() if self.memory.ended is not None else None

    @property
    def may_go_on(self) -> bool:
        ended = self.memory.ended
        return ended is None or line_was_lost(ended.reason)

    def resumption(self) -> Resumption:
        at_s = self._clock() - self._zero_s
        return Resumption(self.memory.so_far(at_s), self.memory.persona)


class Resuming:
    """`telephony.twilio.elsewhere.CallsElsewhere` over the store; `claim` before a call goes on. `observer`
    is a watcher of calls: give it all of them. `tls_only`: front-ends without TLS are not spoken to."""

    def __init__(
        self,
        store: StoredCalls | None,
        *,
        tls_only: bool = False,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tls_only = tls_only
        self._wall = wall
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._partly: set[str] = set()
        """Calls whose beginning only the store knows."""
        self._tokens: dict[str, tuple[float, asyncio.Future[bool]]] = {}
        """That wait to be checked: until when each is good, and whether it is used for the first time."""
        self._checking: asyncio.Task[None] | None = None
        # A question that is given up holds its thread until the database answers: never one that others need.
        self._asking = ThreadPoolExecutor(4, thread_name_prefix="store-ask")

    def observer(self, info: LineInfo) -> CallObserver | None:
        if info.kind != KIND:
            return None
        self._forget()
        kept = self._kept.get(info.call_id)
        if kept is None:
            kept = self._kept[info.call_id] = _Kept(info, self._clock)
        return kept

    @property
    def here(self) -> str:
        return self._store.front_end if self._store is not None and self._own_address else ""

    def address(self, front_end: str) -> str | None:
        there = address_of(front_end)
        if there == self._own_address or (self._tls_only and there and not there.startswith("https:")):
            return None
        return there

    @property
    def _own_address(self) -> str | None:
        return None if self._store is None else address_of(self._store.front_end)

    async def find(self, call_id: str) -> Found | None:
        kept = self._kept.get(call_id)
        if self._store is None:
            return _found(kept)
        try:
            known = await self._ask(lambda store: store.unfinished(call_id))
            if known is not None and self._nobody_to_ask(known):
                await asyncio.sleep(_GRACE_S)
                known = await self._ask(lambda store: store.unfinished(call_id))
        except (StoreError, TimeoutError) as error:
            log.error("call %s: whether it may go on cannot be known: %s", call_id, error)
            return _found(kept)
        if known is None or known.way != KIND:
            # The store hears of a call's beginning a moment after we do, and of its end.
            return _found(kept) if known is None and kept is not None and self._is_new(kept) else None
        if kept is not None and known.front_end == self._store.front_end:
            return _found(kept)
        info = LineInfo(call_id, KIND, caller=known.caller, called=known.called)
        return Found(info, None if self._nobody_to_ask(known) else self.address(known.front_end))

    async def ended_well(self, call_id: str) -> bool:
        """Another front-end has ended the call as it wanted to."""
        if self._store is None:
            return False
        try:
            known = await self._ask(lambda store: store.call(call_id))
        except (StoreError, TimeoutError) as error:
            log.error("call %s: how it ended cannot be known: %s", call_id, error)
            return False
        if known is None or known.call.ended_at is None:
            return False
        return known.call.outcome == "completed" and not line_was_lost(known.call.reason)

    def _nobody_to_ask(self, known: Unfinished) -> bool:
        """It is ours, or was a process's that listened where we listen now, or whose address is not known."""
        assert self._store is not None  # noqa: S101  (it told us)
        return known.front_end != self._store.front_end and self.address(known.front_end) is None

    def _is_new(self, kept: _Kept) -> bool:
        return kept.may_go_on and kept.memory.at_s < _STORE_PATIENCE_S

    async def use_once(self, nonce: str, until_s: float) -> bool:
        if self._store is None or self._store.away:
            return True
        if nonce in self._tokens:
            return False
        first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tokens[nonce] = until_s, first
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_tokens(self._store), name="tokens")
        try:
            async with asyncio.timeout(_STORE_PATIENCE_S):
                return await first
        except TimeoutError:
            log.warning("whether a stream's token was used at another front-end is not known in time")
            # The token is signed, young and used once here: better than to turn callers away.
            return True
        finally:
            self._tokens.pop(nonce, None)

    async def _check_tokens(self, store: StoredCalls) -> None:
        """All that wait at once, for a commit takes as long for one as for hundreds; and one question at a
        time, so that a database that hangs has one thread of those that ask."""
        loop = asyncio.get_running_loop()
        try:
            while self._tokens:
                asked = dict(itertools.islice(self._tokens.items(), _TOKENS_AT_ONCE))
                until = {nonce: until_s for nonce, (until_s, _) in asked.items()}
                used: Set[str] = frozenset()
                try:
                    used = until.keys() - await loop.run_in_executor(self._asking, store.use_each_once, until)
                except Exception as error:  # whatever it is, callers are let in
                    what = str(error) if isinstance(error, StoreError) else repr(error)
                    log.warning(
                        "whether %d token(s) were used elsewhere cannot be known: %s", len(until), what
                    )
                for nonce, (_, first) in asked.items():
                    self._tokens.pop(nonce, None)
                    if not first.done():
                        first.set_result(nonce not in used)
        finally:
            self._checking = None

    async def claim(self, call_id: str) -> Resumption | None:
        """The call is this process's from now on. None where it is over, somebody else was quicker, or
        nothing is known of it."""
        kept = self._kept.get(call_id)
        ours = kept.resumption() if kept is not None and kept.may_go_on else None
        if self._store is None:
            return ours
        own_name = self._store.front_end
        try:
            known = await self._ask(lambda store: store.unfinished(call_id))
            if known is None:
                return ours if kept is not None and self._is_new(kept) else None
            if not await self._ask(lambda store: store.claim(call_id)):
                log.warning("call %s: another front-end goes on with it", call_id)
                return None
            if ours is not None and known.front_end == own_name and call_id not in self._partly:
                return ours
            whole = await self._ask(lambda store: store.call(call_id))
        except (StoreError, TimeoutError) as error:
            log.error("call %s: what is known of it cannot be read: %s", call_id, error)
            return ours
        so_far = stored_so_far(known, self._wall())
        paused = whole is not None and _recording_paused(whole)
        self._partly.add(call_id)
        return Resumption(replace(so_far, recording_paused=paused), known.persona)

    async def _ask(self, question: Callable[[StoredCalls], _T], within_s: float = _STORE_PATIENCE_S) -> _T:
        store = self._store
        assert store is not None  # noqa: S101  (asked where there is one)
        asking = asyncio.get_running_loop().run_in_executor(self._asking, question, store)
        async with asyncio.timeout(within_s):
            return await asking

    def _forget(self) -> None:
        """Calls that are over."""
        now = self._clock()
        over = [
            call_id
            for call_id, kept in self._kept.items()
            if kept.ended_at is not None and (not kept.may_go_on or now - kept.ended_at > _KEPT_S)
        ]
        for call_id in over:
            del self._kept[call_id]
            self._partly.discard(call_id)


def _found(kept: _Kept | None) -> Found | None:
    return Found(kept.info) if kept is not None and kept.may_go_on else None


def _recording_paused(call: StoredCall) -> bool:
    told = [note.kind for note in call.notes if note.kind in ("paused", "resumed")]
    return bool(told) and told[-1] == "paused"


def stored_so_far(known: Unfinished, now_s: float) -> CallSoFar:
    """What the store knows, as a call goes on from it. `now_s`: seconds since 1970. Words that were not to be
    stored are not there to go on from."""
    rows = [*known.turns, *([known.under_way] if known.under_way is not None else [])]
    turns: dict[int, PastTurn] = {}
    for row in rows:
        turns[row.turn] = _past_turn(row, turns.get(row.turn), _tools(known.tools, row))
    last = max(turns, default=0)
    # A turn that nobody finished, and behind which others came, was given up.
    past = [turn if turn.over or turn.number == last else replace(turn, over=True) for turn in turns.values()]
    latest_s = max((row.done_at_s or row.began_at_s or row.caller_at_s or 0.0 for row in rows), default=0.0)
    elapsed_s = now_s - known.started_at
    # Two machines' clocks, or one that was set, may be hours apart: a call is not over for that.
    at_s = elapsed_s if latest_s <= elapsed_s <= latest_s + _QUIET_S else latest_s
    return CallSoFar(tuple(sorted(past, key=lambda turn: turn.number)), at_s)


def _past_turn(row: TurnRow, before: PastTurn | None, tools: tuple[tuple[str, str], ...]) -> PastTurn:
    """`before` is the same turn in an earlier process, which did not finish it."""
    caller = _stored(row.caller) or (before.caller if before is not None else "")
    if row.state == "done":
        return PastTurn(row.turn, caller, _stored(row.heard), row.interrupted, tools=tools)
    heard_before = before.clauses[: before.clauses_heard] if before is not None else ()
    clauses = tuple(filter(None, map(_stored, row.clauses)))
    heard = len(heard_before) + clauses_within(clauses, _stored(row.heard))
    return PastTurn(
        row.turn, caller, over=False, tools=tools, clauses=heard_before + clauses, clauses_heard=heard
    )


def _tools(rows: Sequence[ToolRow], turn: TurnRow) -> tuple[tuple[str, str], ...]:
    return tuple(
        (call_text(row.name, row.arguments), row.result)
        for row in rows
        if row.turn == turn.turn and row.outcome != "refused" and row.result != NOT_RECORDED
    )


def _stored(words: str) -> str:
    return "" if words == NOT_RECORDED else words
