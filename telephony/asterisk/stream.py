"""The shell around either protocol core: one call as a `pipeline.line.Line`.

Reads the running loop's clock and nothing else, so it runs in virtual time over an in-memory socket.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from pipeline.line import HangUpReason, LineClosed, LineEvent, LineInfo, Pcm
from telephony.asterisk.audiosocket import AudioSocketProtocol
from telephony.asterisk.events import CallEvent, MediaStarted, PeerEnded, UuidReceived
from telephony.asterisk.metronome import Metronome
from telephony.asterisk.protocol import MediaWebSocketProtocol
from telephony.pump import CONNECTION_LOST, Core, Pump
from telephony.socket import Socket, SocketClosed

_MOST_UNSENT_BYTES: Final = 160_000
"""A peer that takes nothing for 10 s is gone, whatever it still sends: of a stream of 16,000 bytes/s that is
written without waiting."""


class PacedSocket(Socket, Protocol):
    """A socket that can be written to from a timer."""

    def write(self, data: bytes) -> int:
        """Send without waiting; on a closed socket nothing happens. Returns the bytes not sent yet."""
        ...


class CallCore(Core[CallEvent], Protocol):
    """What the line needs of either protocol core."""

    counters: Counter[str]

    @property
    def incomplete(self) -> bool: ...

    def to_send(self) -> deque[str | bytes]: ...

    def send_audio(self, pcm: Pcm, now: float) -> None: ...

    def send_mark(self, name: str) -> None: ...

    def clear(self, now: float) -> list[CallEvent]: ...

    def hang_up(self) -> None: ...


AnyCore = TypeVar("AnyCore", bound=CallCore)
AnySocket = TypeVar("AnySocket", bound=Socket)


class CallPump(Pump[AnySocket, AnyCore, CallEvent]):
    """Also sends what the core wants sent."""

    def __init__(self, socket: AnySocket, core: AnyCore) -> None:
        super().__init__(socket, core, lambda event: event.reason if isinstance(event, PeerEnded) else None)
        self._sending = asyncio.Lock()

    def tell(self, events: Iterable[CallEvent]) -> None:
        """Events that did not come over the socket; and the core's deadline may have changed."""
        self._ready.extend(events)
        if self._reading is None or self._reading.over:
            return
        if self._ready:
            self._wake_reader()
            return
        deadline, armed = self.core.next_deadline(), self._reading.when
        if deadline is not None and (armed is None or deadline < armed):
            self._reading.reschedule(deadline)

    async def flush(self) -> None:
        """Send what the core wants sent. Raises `LineClosed`, with the reader's reason where it finds one."""
        outbox = self.core.to_send()
        async with self._sending:
            while outbox:
                await self._send([outbox.popleft()])

    async def close(self) -> None:
        """Send what is left to send, and close the socket. Never raises."""
        with contextlib.suppress(LineClosed):
            if self.core.to_send():
                await self.flush()
        await self.socket.close(self.close_code, self.over or "")

    async def _read(self) -> None:
        await super()._read()
        if self.core.to_send():
            await self.flush()

    def _why(self, closed: SocketClosed) -> str:
        if self.core.incomplete:
            return f"{CONNECTION_LOST} in the middle of a message"
        return super()._why(closed)


class AsteriskLine(Generic[AnyCore, AnySocket]):
    """A `pipeline.line.Line` over a call that has begun and is trusted: what both protocols share."""

    lead_s = 0.2

    def __init__(
        self,
        pump: CallPump[AnySocket, AnyCore],
        info: LineInfo,
        *,
        on_hang_up: Callable[[HangUpReason], None] = lambda reason: None,
    ) -> None:
        self.info = info
        self._on_hang_up = on_hang_up
        self.hung_up: HangUpReason | None = None
        self._pump = pump
        self._loop = asyncio.get_running_loop()

    def events(self) -> "AsteriskLine[AnyCore, AnySocket]":
        return self

    def __aiter__(self) -> "AsteriskLine[AnyCore, AnySocket]":
        return self

    async def __anext__(self) -> LineEvent:
        while True:
            event = await self._pump.next()
            if not isinstance(event, MediaStarted | UuidReceived | PeerEnded):
                return event

    @property
    def counters(self) -> dict[str, int]:
        """What was odd about this call, by name."""
        return dict(self._pump.core.counters)

    @property
    def over(self) -> str | None:
        return self._pump.over

    async def send_audio(self, pcm: Pcm) -> None:
        self._pump.must_live()
        if len(pcm):
            self._pump.core.send_audio(pcm, self._loop.time())
            await self._sent()

    async def send_mark(self, name: str) -> None:
        self._pump.must_live()
        self._pump.core.send_mark(name)
        await self._sent()

    async def clear(self) -> None:
        self._pump.must_live()
        self._pump.tell(self._pump.core.clear(self._loop.time()))
        await self._sent()

    async def hang_up(self, reason: HangUpReason) -> None:
        if self._pump.over is not None:
            return
        self.hung_up = reason
        self._on_hang_up(reason)
        self._pump.core.hang_up()
        self._pump.end(f"we hung up: {reason}")
        await self._pump.close()

    def end(self, reason: str, close_code: int = 1000) -> None:
        """Close the call from outside; whoever reads or sends gets `LineClosed(reason)`."""
        self._pump.core.hang_up()
        self._pump.end(reason, close_code)

    def begin(self) -> None:
        """The call is taken."""

    def release(self) -> None:
        """The call is over, whatever way. Safe to call twice."""

    async def _sent(self) -> None:
        if self._pump.core.to_send():
            await self._pump.flush()
        self._pump.tell(())


class MediaWebSocketLine(AsteriskLine[MediaWebSocketProtocol, Socket]):
    """chan_websocket: Asterisk paces what it is sent out of its own queue."""

    lead_s = 0.2
    """Survives a collection pause or a busy core; short enough that little is taken back on `clear`."""


class AudioSocketLine(AsteriskLine[AudioSocketProtocol, PacedSocket]):
    """AudioSocket: this line keeps the time."""

    lead_s = 0.06

    def __init__(
        self,
        pump: CallPump[PacedSocket, AudioSocketProtocol],
        info: LineInfo,
        metronome: Metronome,
        *,
        on_hang_up: Callable[[HangUpReason], None] = lambda reason: None,
    ) -> None:
        super().__init__(pump, info, on_hang_up=on_hang_up)
        self._metronome = metronome

    def begin(self) -> None:
        self._metronome.join(self._beat)

    def release(self) -> None:
        self._metronome.leave(self._beat)

    def _beat(self) -> None:
        data, reached = self._pump.core.beat()
        if not data or self._pump.over is not None:
            self.release()
            return
        if self._pump.socket.write(data) > _MOST_UNSENT_BYTES:
            self._pump.end(f"{CONNECTION_LOST}: the peer takes nothing more")
        elif reached:
            self._pump.tell(reached)
