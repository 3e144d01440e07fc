"""The WebSocket shell around `PageProtocol`: one call as a `pipeline.line.Line`.

Reads the running loop's clock and nothing else, so it runs in virtual time over an in-memory socket.
"""

from pipeline.line import HangUpReason, LineEvent, LineInfo, Pcm
from telephony.browser.protocol import CallLeft, CallPlaced, PageEvent, PageProtocol
from telephony.pump import CALLER_HUNG_UP, Pump
from telephony.socket import Socket

PagePump = Pump[Socket, PageProtocol, PageEvent]


def page_pump(socket: Socket, protocol: PageProtocol) -> PagePump:
    return Pump(socket, protocol, lambda event: CALLER_HUNG_UP if isinstance(event, CallLeft) else None)


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
        return dict(self._pump.core.counters)

    async def send_audio(self, pcm: Pcm) -> None:
        self._pump.must_live()
        if len(pcm):
            await self._pump.send(self._pump.core.media(pcm))

    async def send_mark(self, name: str) -> None:
        self._pump.must_live()
        await self._pump.send(self._pump.core.mark(name))

    async def clear(self) -> None:
        self._pump.must_live()
        await self._pump.send(self._pump.core.clear())

    async def hang_up(self, reason: HangUpReason) -> None:
        """Ends the call; the desk tells the page why, and closes the socket, once `answer` has returned."""
        if self._pump.over is not None:
            return
        self.hung_up = reason
        self._pump.end(f"we hung up: {reason}")
