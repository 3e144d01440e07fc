"""A front-end's side: one connection to one replica, shared by all calls, and what is asked over it."""

import asyncio
import contextlib
import itertools
import logging
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.cluster.choice import IDLE_PING_S, PING_S, Candidate, Watch
from infra.cluster.roles import Role
from infra.cluster.tls import pinned
from infra.cluster.wire import NONCE_BYTES, Packet, Unpacker, WireError, error_in, is_proof, proof
from infra.loopback import is_loopback

log = logging.getLogger(__name__)

CONNECT_S = 2.0
_READ_BYTES = 2**16
_UNSENT_BYTES = 2**24
"""A replica that takes nothing any more is given no more than this."""


class ReplicaLost(Exception):
    """The connection is gone: the replica died, or the way to it."""


class ReplicaSlow(Exception):
    """It does not answer in time. What was asked is still asked; take another one, or ask on."""


@dataclass(frozen=True, slots=True)
class Replica:
    """Where one is, as Ray told."""

    replica: str
    role: Role
    host: str
    port: int
    secret: bytes
    slots: int
    pid: int = 0
    """Of its process, on its machine."""
    certificate: str = ""
    """PEM. "" for one on this machine's loopback, which speaks plain TCP."""


class Answer:
    """To one request: `next()` until it is over, then or before `drop()`."""

    def __init__(self, link: "Link", number: int) -> None:
        self._link = link
        self._number = number
        self._packets: asyncio.Queue[Packet | Exception] = asyncio.Queue()

    def put(self, packet: Packet | Exception) -> None:
        self._packets.put_nowait(packet)

    async def next(self, within_s: float) -> Packet:
        """Raises `ReplicaLost`; `ReplicaSlow`, after which one may ask again; `ModelError` as the model
        did."""
        try:
            async with asyncio.timeout(within_s):
                packet = await self._packets.get()
        except TimeoutError:
            raise ReplicaSlow(f"{self._link.name} has not answered within {within_s:.1f} s") from None
        if isinstance(packet, Exception):
            raise packet
        if "error" in packet.header:
            self.drop(cancel=False)
            raise error_in(packet.header)
        return packet

    def drop(self, *, cancel: bool = True) -> None:
        """No more of it. Safe to call twice, and after its end with `cancel=False`."""
        self._link.forget(self._number, cancel=cancel)


class Link:
    """`run()` is its task and ends with the connection. `on_change` is told when it can be asked or not,
    `on_connected` when it can be for the first time."""

    def __init__(
        self,
        where: Replica,
        *,
        stall_s: float,
        on_change: Callable[[], None] = lambda: None,
        on_connected: Callable[["Link"], None] = lambda link: None,
    ) -> None:
        self.where = where
        self.connected = False
        self.leaving = False
        self.failed_at = float("-inf")
        self.sessions = 0
        """Ours."""
        self._used = 0
        """By all front-ends, as the replica said last."""
        self._on_change = on_change
        self._on_connected = on_connected
        self._stall_s = stall_s
        self._watch = Watch(stall_s)
        self._numbers = itertools.count()
        self._answers: dict[int, Answer] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._refused = ""
        """Why it could not be connected last."""
        self._busy = asyncio.Event()

    @property
    def name(self) -> str:
        return f"{self.where.role} replica {self.where.replica}"

    @property
    def stalled(self) -> bool:
        return self._watch.stalled

    @property
    def idle(self) -> bool:
        """Nothing of ours is on it."""
        return not self.sessions and not self._answers

    def candidate(self) -> Candidate:
        ours = self.sessions if self.where.role != "stt" else len(self._answers)
        return Candidate(
            self.where.replica,
            self.where.slots,
            max(self._used, ours),
            connected=self.connected,
            stalled=self.stalled,
            leaving=self.leaving,
            failed_at=self.failed_at,
        )

    def failed(self) -> None:
        """Its model failed us, or hangs: it comes last for a while."""
        self.failed_at = asyncio.get_running_loop().time()

    # Asking

    def ask(self, header: dict[str, Any], body: bytes = b"") -> Answer:
        """Send a request. Raises `ReplicaLost`."""
        number = next(self._numbers)
        answer = Answer(self, number)
        self._send({**header, "id": number}, body)
        self._answers[number] = answer
        self._busy.set()
        return answer

    async def ask_once(self, header: dict[str, Any], body: bytes = b"", *, within_s: float) -> Packet:
        """A request with one answer. Raises as `Answer.next`; nobody waits for it any more then."""
        answer = self.ask(header, body)
        try:
            packet = await answer.next(within_s)
        except BaseException:
            answer.drop()
            raise
        answer.drop(cancel=False)
        return packet

    def post(self, header: dict[str, Any], body: bytes = b"") -> None:
        """A request whose answer nobody waits for. Nothing where the connection is gone."""
        with contextlib.suppress(ReplicaLost):
            self._send({**header, "id": next(self._numbers)}, body)

    def forget(self, number: int, *, cancel: bool) -> None:
        if self._answers.pop(number, None) is not None and cancel:
            with contextlib.suppress(ReplicaLost):
                self._send({"op": "cancel", "id": number})

    def _send(self, header: dict[str, Any], body: bytes = b"") -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise ReplicaLost(f"{self.name} is gone")
        if writer.transport.get_write_buffer_size() > _UNSENT_BYTES:
            raise ReplicaLost(f"{self.name} takes nothing any more")
        writer.write(Packet(header, body).encode())

    # The connection

    async def run(self) -> None:
        """Connect and serve until the connection ends, for whatever reason; whoever waits is told. Raises
        nothing but cancellation."""
        reason = "it hung up"
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, self._writer = await self._open()
                unpacker = Unpacker()
                await self._prove(reader, unpacker)
            self.connected = True
            self._refused = ""
            self._watch = Watch(self._stall_s)
            self._on_change()
            self._on_connected(self)
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(self._ping(), name=f"ping-{self.where.replica}")
                await self._read(reader, unpacker)
                pinging.cancel()
        except* (OSError, WireError, TimeoutError, asyncio.IncompleteReadError) as errors:
            reason = "; ".join(str(error) or type(error).__name__ for error in errors.exceptions)
            if not self.connected and reason != self._refused:
                self._refused = reason
                log.warning("no connection to %s: %s", self.name, reason)
        finally:
            self._lose(reason)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises `OSError`; `WireError` where whoever answers is not whom Ray told of."""
        where = self.where
        if not where.certificate and not is_loopback(where.host):
            raise WireError(
                f"{where.host} is another machine and Ray told no certificate: upgrade the replica"
            )
        try:
            return await asyncio.open_connection(
                where.host, where.port, ssl=pinned(where.certificate) if where.certificate else None
            )
        except ssl.SSLError as error:
            raise WireError(
                f"what answers at {where.host}:{where.port} is not what Ray told of ({error.reason})"
            ) from error

    def _lose(self, reason: str) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        was, self.connected = self.connected, False
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.put(ReplicaLost(f"{self.name} is gone: {reason}"))
        if was:
            log.warning("%s is gone (%s); %d request(s) were under way", self.name, reason, len(answers))
            self._on_change()

    async def _prove(self, reader: asyncio.StreamReader, unpacker: Unpacker) -> None:
        secret = self.where.secret
        theirs = bytes.fromhex(str((await _packet(reader, unpacker)).header.get("nonce", "")))
        ours = secrets.token_bytes(NONCE_BYTES)
        self._send({"nonce": ours.hex(), "proof": proof(secret, "front-end", ours, theirs)})
        header = (await _packet(reader, unpacker)).header
        if not is_proof(header.get("proof"), secret, "replica", theirs, ours):
            raise WireError("a replica that does not know its secret")
        if header.get("role") != self.where.role:
            raise WireError(f"a replica for {header.get('role')!r}")

    async def _read(self, reader: asyncio.StreamReader, unpacker: Unpacker) -> None:
        while data := await reader.read(_READ_BYTES):
            stalled = self.stalled
            self._watch.heard()
            for packet in unpacker.feed(data):
                if "pong" in packet.header:
                    self._used = int(packet.header.get("used", 0))
                    continue
                answer = self._answers.get(int(packet.header.get("id", -1)))
                if answer is not None:
                    answer.put(packet)
            if stalled:
                log.warning("%s answers again", self.name)
                self._on_change()

    async def _ping(self) -> None:
        """Quick pings while something of ours is under way, slow ones otherwise."""
        for number in itertools.count():
            with contextlib.suppress(ReplicaLost):
                self._send({"op": "ping", "ping": number})
            busy = bool(self._answers)
            if busy:
                await asyncio.sleep(PING_S)
            else:
                self._busy.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_PING_S):
                        await self._busy.wait()
                        continue
            was = self.stalled
            if self._watch.tick() and not was:
                log.warning("%s answers no ping", self.name)
                for answer in self._answers.values():
                    answer.put(ReplicaSlow(f"{self.name} answers no ping"))
                self._on_change()


async def _packet(reader: asyncio.StreamReader, unpacker: Unpacker) -> Packet:
    packets: list[Packet] = []
    while not packets:
        data = await reader.read(_READ_BYTES)
        if not data:
            raise WireError("hung up")
        packets = unpacker.feed(data)
    return packets[0]
