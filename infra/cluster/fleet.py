"""All replicas that one front-end knows, its connections to them, and its calls' seats on them."""

import asyncio
import contextlib
import logging
import math
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.cluster.choice import Patience, choose
from infra.cluster.link import Answer, Link, Replica, ReplicaLost, ReplicaSlow
from infra.cluster.roles import ROLES, Role
from infra.cluster.wire import Packet
from models.base import ModelBusy, ModelFailed

log = logging.getLogger(__name__)

STALL_S = 0.25
_AGAIN_S, _AGAIN_MOST_S = 0.2, 3.0
_LOOK_S = 0.1
"""How often somebody who waits for a stalled replica looks for another one."""


class NoReplica(ModelFailed):
    """None that could serve came within a call's patience."""


@dataclass(slots=True, eq=False)
class Seat:
    """One call's session on a replica."""

    link: Link
    ticket: str
    opened: Mapping[str, Any]
    known: set[str] = field(default_factory=set)
    """Keys of the caller's speech that the replica was sent."""
    open: bool = True


class Fleet:
    """Lives on one event loop: `update` may come before it, everything else needs it running. `tell` is told
    what Ray should count: ("hold", role, replica, ticket)."""

    def __init__(
        self,
        *,
        patience: Patience | None = None,
        stall_s: float = STALL_S,
        tell: Callable[[tuple[str, ...]], None] = lambda news: None,
    ) -> None:
        self.patience = patience or Patience()
        self.on_connected: list[Callable[[Link], None]] = []
        self.on_first_use: Callable[[], None] | None = None
        """Called once, on the loop, before anybody asks for a replica."""
        self.moved: dict[Role, int] = dict.fromkeys(ROLES, 0)
        """Requests that went on on another replica."""
        self._stall_s = stall_s
        self._tell = tell
        self._links: dict[str, Link] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: asyncio.Event | None = None
        self._closed = False

    # Who is there

    def update(self, replicas: Iterable[Replica]) -> None:
        """The replicas that serve now. Connections to others stay until nothing of ours is on them."""
        if self._closed:
            return
        if self._changed is None:
            self._changed = asyncio.Event()
        serving = {where.replica: where for where in replicas}
        for name, link in self._links.items():
            link.leaving = name not in serving
        for name, where in serving.items():
            if name not in self._links:
                self._links[name] = link = Link(
                    where, stall_s=self._stall_s, on_change=self._wake, on_connected=self._greet
                )
                self._tasks[name] = asyncio.create_task(self._keep(link), name=f"link-{name}")
        self._wake()

    async def _keep(self, link: Link) -> None:
        """Connected for as long as it serves or serves us."""
        wait_s = _AGAIN_S
        try:
            while not (link.leaving and link.idle):
                running = asyncio.create_task(link.run(), name=f"run-{link.where.replica}")
                try:
                    while not running.done():
                        await asyncio.wait({running}, timeout=1.0)
                        if link.connected:
                            wait_s = _AGAIN_S
                        if link.leaving and link.idle:
                            break
                finally:
                    running.cancel()
                    await asyncio.wait({running})
                if link.leaving:
                    break
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _AGAIN_MOST_S)
        finally:
            self._links.pop(link.where.replica, None)
            self._tasks.pop(link.where.replica, None)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def _greet(self, link: Link) -> None:
        for greet in self.on_connected:
            greet(link)

    def links(self, role: Role) -> list[Link]:
        return [link for link in self._links.values() if link.where.role == role]

    def serving(self) -> dict[Role, int]:
        """Replicas of each role that could be asked now."""
        return {role: len(self._choices(role, ())) for role in ROLES}

    def slots(self) -> dict[Role, int]:
        """Slots of all replicas that could be asked now."""
        return {
            role: sum(self._links[name].where.slots for name in self._choices(role, ())) for role in ROLES
        }

    def _choices(self, role: Role, without: Collection[str]) -> list[str]:
        now = asyncio.get_running_loop().time()
        return choose((link.candidate() for link in self.links(role)), now, without=without)

    def other_than(self, link: Link) -> bool:
        """Somebody else could do its work."""
        return bool(self._choices(link.where.role, {link.where.replica}))

    def move_on(self, seat: Seat, tried: set[str], error: Exception, nobody: str) -> None:
        """Leave `seat`, whose replica did not do its work: the next request is another one's. Raises
        `ModelFailed` when enough were tried, and the model's own where no other could do it."""
        link = seat.link
        if isinstance(error, ModelFailed):
            link.failed()
            if not self.other_than(link):
                raise error
        tried.add(link.where.replica)
        self.leave(seat)
        if len(tried) >= self.patience.tries:
            raise ModelFailed(f"{nobody}: {error}") from error
        self.moved[link.where.role] += 1
        log.warning("%s: another replica goes on: %s", link.where.role, error)

    async def replica(
        self, role: Role, *, without: Collection[str] = (), within_s: float | None = None
    ) -> Link:
        """The best one, as soon as there is one. Raises `NoReplica`."""
        if self.on_first_use is not None:
            begin, self.on_first_use = self.on_first_use, None
            begin()
        if self._changed is None:
            self._changed = asyncio.Event()
        patience_s = self.patience.replica if within_s is None else within_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not (names := self._choices(role, without)):
                    self._changed.clear()
                    await self._changed.wait()
                return self._links[names[0]]
        raise NoReplica(
            f"No {role} replica of the cluster answers; its models may be loading, or it is gone."
        )

    # Seats

    async def seat(
        self, role: Role, op: str, header: Mapping[str, Any], *, without: Collection[str] = ()
    ) -> Seat:
        """Open a session. Raises `ModelBusy` where none has a slot, `NoReplica`, `ModelError` as the model
        does."""
        tried = set(without)
        refusal: ModelBusy | ModelFailed | None = None
        for _ in range(self.patience.tries + len(self._links)):
            try:
                link = await self.replica(role, without=tried, within_s=0.0 if refusal else None)
            except NoReplica:
                if refusal is not None:
                    raise refusal from None
                raise
            ticket = uuid.uuid4().hex
            tried.add(link.where.replica)
            try:
                asked = {"op": op, "ticket": ticket, **header}
                packet = await self.patient_once(link, asked, within_s=self.patience.open)
            except ModelBusy as busy:
                refusal = refusal or busy
            except ModelFailed as failed:
                link.failed()
                refusal = failed
            except (ReplicaLost, ReplicaSlow) as error:
                log.warning("no session on a replica: %s", error)
                link.post({"op": "close", "ticket": ticket})
            except BaseException:
                link.post({"op": "close", "ticket": ticket})
                raise
            else:
                link.sessions += 1
                self.hold(link, ticket)
                return Seat(link, ticket, packet.header)
        raise refusal or NoReplica(f"No {role} replica took the call.")

    def hold(self, link: Link, ticket: str) -> None:
        """Let Ray count this as an ongoing request of the replica."""
        self._tell(("hold", link.where.role, link.where.replica, ticket))

    def leave(self, seat: Seat) -> None:
        """Give the session back. Safe to call twice."""
        if seat.open:
            seat.open = False
            seat.link.sessions -= 1
            seat.link.post({"op": "close", "ticket": seat.ticket})

    # Waiting for answers

    async def patient(self, link: Link, answer: Answer, *, within_s: float) -> Packet:
        """The answer's next packet. A stalled replica is waited for only as long as nobody else could do its
        work, and a call's patience lasts; once it answers pings again it has its whole time. Raises
        `ReplicaLost`, `ReplicaSlow`, `ModelError`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        stalled_until = math.inf
        while True:
            left_s = min(until, stalled_until) - loop.time()
            try:
                return await answer.next(max(0.0, min(_LOOK_S, left_s) if link.stalled else left_s))
            except ReplicaSlow:
                now = loop.time()
                if not link.stalled:
                    stalled_until = math.inf
                if now >= min(until, stalled_until):
                    link.failed()
                    raise
                if not link.stalled:
                    continue
                if self.other_than(link):
                    raise
                stalled_until = min(stalled_until, now + self.patience.replica)

    async def patient_once(
        self, link: Link, header: dict[str, Any], body: bytes = b"", *, within_s: float
    ) -> Packet:
        answer = link.ask(header, body)
        try:
            packet = await self.patient(link, answer, within_s=within_s)
        except BaseException:
            answer.drop()
            raise
        answer.drop(cancel=False)
        return packet

    async def stream(
        self, link: Link, header: dict[str, Any], body: bytes = b"", *, first_s: float, next_s: float
    ) -> AsyncGenerator[Packet, None]:
        """Packets up to and without the one that ends the answer, which is the one without `piece`, `audio`
        or `turn_end`; that is yielded last. Closing cancels the request."""
        answer = link.ask(header, body)
        over = False
        within_s = first_s
        try:
            while not over:
                packet = await self.patient(link, answer, within_s=within_s)
                over = not packet.header.keys() & {"piece", "audio", "turn_end"}
                within_s = next_s
                yield packet
        finally:
            answer.drop(cancel=not over)

    async def aclose(self) -> None:
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
