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
from telephony.asterisk.errors import RemoteProtocolError
from telephony.asterisk.events import CallEvent, MediaStarted, PeerEnded, UuidReceived
from telephony.asterisk.metronome import Metronome
from telephony.asterisk.protocol import MediaWebSocketProtocol
from telephony.socket import Socket, SocketClosed

CALLER_HUNG_UP: Final = "caller hung up"
CONNECTION_LOST: Final = "connection lost"
SERVER_SHUT_DOWN: Final = "server shut down"

_MESSAGES_PER_BREATH: Final = 16
"""Messages that are there already are read without leaving the task; other calls want their turn."""
_BREATH_S: Final = 0.001
_STALLED_S: Final = 10.0
"""A peer that takes nothing for so long is gone, whatever it still sends."""
_MOST_UNSENT_BYTES: Final = 160_000
"""The same, of a stream of 16,000 bytes/s that is written without waiting."""
_LAST_WORDS_S: Final = 1.0


class PacedSocket(Socket, Protocol):
    """A socket that can be written to from a timer."""

    def write(self, data: bytes) -> int:
        """Send without waiting; on a closed socket nothing happens. Returns the bytes not sent yet."""
        ...


class Core(Protocol):
    """What the pump needs of a protocol core."""

    counters: Counter[str]

    @property
    def incomplete(self) -> bool: ...

    def receive_message(self, message: str | bytes, now: float) -> list[CallEvent]: ...

    def next_deadline(self) -> float | None: ...

    def handle_timer(self, now: float) -> list[CallEvent]: ...

    def to_send(self) -> deque[str | bytes]: ...

    def send_audio(self, pcm: Pcm, now: float) -> None: ...

    def send_mark(self, name: str) -> None: ...

    def clear(self, now: float) -> list[CallEvent]: ...

    def hang_up(self) -> None: ...


AnyCore = TypeVar("AnyCore", bound=Core)
AnySocket = TypeVar("AnySocket", bound=Socket)


class Pump(Generic[AnyCore, AnySocket]):
    """Messages in, events out, and what the core wants sent; knows why the call ended.

    Only one task reads. `over` is None while the call lives, then the reason.
    """

    def __init__(self, socket: AnySocket, core: AnyCore) -> None:
        self.socket = socket
        self.core = core
        self.over: str | None = None
        self.close_code = 1000
        self.fault: RemoteProtocolError | None = None
        """What the peer did wrong, where that ended the call."""
        self._ready: deque[CallEvent] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._sending = asyncio.Lock()
        self._reading: asyncio.Timeout | None = None
        self._last_message_at = 0.0
        self._in_a_row = 0

    async def next(self) -> CallEvent:
        """The next event. Raises `LineClosed` at the call's end. Safe to cancel, and to call again."""
        while not self._ready:
            if self.over is not None:
                raise LineClosed(self.over)
            message = await self._receive()
            if message is not None:
                await self._take(message)
            if self.core.to_send():
                await self.flush()
        return self._ready.popleft()

    def tell(self, events: Iterable[CallEvent]) -> None:
        """Events that did not come over the socket; and the core's deadline may have changed."""
        self._ready.extend(events)
        if self._reading is None or self._reading.expired():
            return
        if self._ready:
            self._wake_reader()
            return
        deadline, armed = self.core.next_deadline(), self._reading.when()
        if deadline is not None and (armed is None or deadline < armed):
            self._reading.reschedule(deadline)

    async def flush(self) -> None:
        """Send what the core wants sent. Raises `LineClosed`, with the reader's reason where it finds one."""
        outbox = self.core.to_send()
        try:
            async with asyncio.timeout(_STALLED_S), self._sending:
                while outbox:
                    await self.socket.send(outbox.popleft())
        except TimeoutError:
            self.end(f"{CONNECTION_LOST}: the peer takes nothing more")
            raise LineClosed(self.over or CONNECTION_LOST) from None
        except SocketClosed:
            # A normal close may wait to be read, which says more than the socket's loss.
            try:
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._ended.wait()
            except TimeoutError:
                self.end(CONNECTION_LOST)
            raise LineClosed(self.over or CONNECTION_LOST) from None

    def end(self, reason: str, close_code: int = 1000) -> None:
        """End the call from our side: whoever reads or sends gets `LineClosed(reason)`."""
        if self.over is not None:
            return
        self.over = reason
        self.close_code = close_code
        self._ended.set()
        self._wake_reader()

    async def close(self) -> None:
        """Send what is left to send, and close the socket. Never raises."""
        with contextlib.suppress(LineClosed):
            if self.core.to_send():
                await self.flush()
        await self.socket.close(self.close_code, self.over or "")

    def must_live(self) -> None:
        """Before the core is asked, for which sending on a call that is over is our own mistake."""
        if self.over is not None:
            raise LineClosed(self.over)

    def _wake_reader(self) -> None:
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(self._loop.time())

    async def _receive(self) -> str | bytes | None:
        """One message, or None when a deadline passed or there is something else to do."""
        try:
            async with asyncio.timeout_at(self.core.next_deadline()) as scope:
                self._reading = scope
                try:
                    return await self.socket.receive()
                finally:
                    self._reading = None
        except TimeoutError:
            self._handle_timer()
        except SocketClosed as closed:
            self.end(_why(closed, torn=self.core.incomplete))
        return None

    def _handle_timer(self) -> None:
        if self.over is not None:
            return
        try:
            self._sort(self.core.handle_timer(self._loop.time()))
        except RemoteProtocolError as late:
            self.fault = late
            self.end(late.reason, late.close_code)

    async def _take(self, message: str | bytes) -> None:
        now = self._loop.time()
        try:
            self._sort(self.core.receive_message(message, now))
        except RemoteProtocolError as fault:
            self.fault = fault
            self.end(f"protocol error: {fault.reason}", fault.close_code)
            return
        # Marks and junk may keep coming while the media has stopped: no timer fires then.
        self._handle_timer()
        self._in_a_row = self._in_a_row + 1 if now - self._last_message_at < _BREATH_S else 0
        self._last_message_at = now
        if self._in_a_row >= _MESSAGES_PER_BREATH:
            self._in_a_row = 0
            await asyncio.sleep(0)

    def _sort(self, events: Iterable[CallEvent]) -> None:
        for event in events:
            if isinstance(event, PeerEnded):
                self.end(event.reason)
            else:
                self._ready.append(event)


def _why(closed: SocketClosed, *, torn: bool) -> str:
    """Asterisk closes normally when the channel hangs up; its cause comes along as the code."""
    if torn:
        return f"{CONNECTION_LOST} in the middle of a message"
    if closed.code in (1000, 1001, 1005):
        return CALLER_HUNG_UP
    if closed.code == 1012:  # uvicorn's word to its own sockets when it stops
        return SERVER_SHUT_DOWN
    return f"{CONNECTION_LOST} (code {closed.code})" if closed.code != 1006 else CONNECTION_LOST


class AsteriskLine(Generic[AnyCore, AnySocket]):
    """A `pipeline.line.Line` over a call that has begun and is trusted: what both protocols share."""

    lead_s = 0.2

    def __init__(
        self,
        pump: Pump[AnyCore, AnySocket],
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
        pump: Pump[AudioSocketProtocol, PacedSocket],
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
