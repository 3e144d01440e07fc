"""The WebSocket shell around `PageProtocol`: one call as a `pipeline.line.Line`.

Reads the running loop's clock and nothing else, so it runs in virtual time over an in-memory socket.
"""

import asyncio
from collections import deque
from typing import Final

from pipeline.line import HangUpReason, LineClosed, LineEvent, LineInfo, Pcm
from telephony.browser.errors import PageSilent, RemoteProtocolError
from telephony.browser.protocol import CallLeft, CallPlaced, PageEvent, PageProtocol
from telephony.socket import Socket, SocketClosed

CALLER_HUNG_UP: Final = "caller hung up"
CONNECTION_LOST: Final = "connection lost"
SERVER_SHUT_DOWN: Final = "server shut down"

_MESSAGES_PER_BREATH: Final = 16
"""Messages that are there already are read without leaving the task; other calls want their turn."""
_BREATH_S: Final = 0.001
_STALLED_S: Final = 10.0
"""A page that takes nothing for so long is gone, whatever it still sends."""
_LAST_WORDS_S: Final = 1.0


class PagePump:
    """Socket messages in, protocol events out; knows why the call ended.

    Only one task reads. `over` is None while the call lives, then the reason.
    """

    def __init__(self, socket: Socket, protocol: PageProtocol) -> None:
        self.socket = socket
        self.protocol = protocol
        self.over: str | None = None
        self.close_code = 1000
        self._ready: deque[PageEvent] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._reading: asyncio.Timeout | None = None
        self._last_message_at = 0.0
        self._in_a_row = 0

    async def next(self) -> PageEvent:
        """The next event. Raises `LineClosed` at the call's end. Safe to cancel, and to call again."""
        while not self._ready:
            if self.over is not None:
                raise LineClosed(self.over)
            message = await self._receive()
            if message is not None:
                await self._take(message)
        return self._ready.popleft()

    async def send(self, message: str | bytes) -> None:
        """Raises `LineClosed`, with the reader's reason where the reader finds one."""
        if self.over is not None:
            raise LineClosed(self.over)
        try:
            async with asyncio.timeout(_STALLED_S):
                await self.socket.send(message)
        except TimeoutError:
            self.end(f"{CONNECTION_LOST}: the page takes nothing more")
            raise LineClosed(self.over or CONNECTION_LOST) from None
        except SocketClosed:
            # A `stop` may wait to be read, which says more than the socket's loss.
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
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(self._loop.time())

    async def _receive(self) -> str | bytes | None:
        """One message, or None when a deadline passed or the call ended meanwhile."""
        try:
            async with asyncio.timeout_at(self.protocol.next_deadline()) as scope:
                self._reading = scope
                try:
                    return await self.socket.receive()
                finally:
                    self._reading = None
        except TimeoutError:
            self._check_deadline()
        except SocketClosed as closed:
            self.end(_why(closed))
        return None

    def _check_deadline(self) -> None:
        if self.over is not None:
            return
        try:
            self.protocol.handle_timer(self._loop.time())
        except PageSilent as late:
            self.end(late.reason, late.close_code)

    async def _take(self, message: str | bytes) -> None:
        now = self._loop.time()
        try:
            events = self.protocol.receive_message(message, now)
        except RemoteProtocolError as fault:
            self.end(f"protocol error: {fault.reason}", fault.close_code)
            return
        for event in events:
            if isinstance(event, CallLeft):
                self.end(CALLER_HUNG_UP)
            else:
                self._ready.append(event)
        # Marks and junk may keep coming while the media has stopped: no timer fires then.
        self._check_deadline()
        self._in_a_row = self._in_a_row + 1 if now - self._last_message_at < _BREATH_S else 0
        self._last_message_at = now
        if self._in_a_row >= _MESSAGES_PER_BREATH:
            self._in_a_row = 0
            await asyncio.sleep(0)


def _why(closed: SocketClosed) -> str:
    """A page that is closed or left behind says 1001, and may not get to its `stop`."""
    if closed.code in (1000, 1001, 1005):
        return CALLER_HUNG_UP
    if closed.code == 1012:  # uvicorn's word to its own sockets when it stops
        return SERVER_SHUT_DOWN
    return f"{CONNECTION_LOST} (code {closed.code})" if closed.code != 1006 else CONNECTION_LOST


class BrowserLine:
    """A `pipeline.line.Line` over a call that the page has placed."""

    lead_s = 0.2
    """The page plays out of a queue of its own. So much hides the stall of one lost TCP segment on a good
    network."""

    def __init__(self, pump: PagePump, info: LineInfo) -> None:
        self.info = info
        self.hung_up: HangUpReason | None = None
        self._pump = pump

    def events(self) -> "BrowserLine":
        return self

    def __aiter__(self) -> "BrowserLine":
        return self

    async def __anext__(self) -> LineEvent:
        while True:
            event = await self._pump.next()
            if not isinstance(event, CallPlaced | CallLeft):
                return event

    @property
    def counters(self) -> dict[str, int]:
        """What was odd about this call, by name."""
        return dict(self._pump.protocol.counters)

    async def send_audio(self, pcm: Pcm) -> None:
        self._must_live()
        if len(pcm):
            await self._pump.send(self._pump.protocol.media(pcm))

    async def send_mark(self, name: str) -> None:
        self._must_live()
        await self._pump.send(self._pump.protocol.mark(name))

    async def clear(self) -> None:
        self._must_live()
        await self._pump.send(self._pump.protocol.clear())

    async def hang_up(self, reason: HangUpReason) -> None:
        """Ends the call; the desk tells the page why, and closes the socket, once `answer` has returned."""
        if self._pump.over is not None:
            return
        self.hung_up = reason
        self._pump.end(f"we hung up: {reason}")

    def _must_live(self) -> None:
        """Before the protocol is asked, for which sending on a call that is over is our own mistake."""
        if self._pump.over is not None:
            raise LineClosed(self._pump.over)
