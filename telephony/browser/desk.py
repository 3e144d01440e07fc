"""Where calls from the page report: which are on, what their pages are told, and how each of them ended."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from pipeline.events import CallObserver
from pipeline.line import LineClosed, LineInfo
from telephony.answer import Answer, CallOutcome, Lines, WhileAccepting
from telephony.browser.config import BrowserConfig
from telephony.browser.line import BrowserLine, PagePump, page_pump
from telephony.browser.protocol import CallPlaced, Limits, PageProtocol
from telephony.browser.screen import Screen
from telephony.pump import CALLER_HUNG_UP
from telephony.socket import Socket, SocketClosed

logger = logging.getLogger(__name__)

_LAST_WORDS_S = 2.0
BUSY = "busy"
FAILED = "failed"


class BrowserDesk:
    """Serves every call of one process that comes through the page. `lines`, or `accepting()`, is asked
    before a call is taken; `wall()` is the time of day in seconds since the epoch, for the logins' expiry.

    `answer(line)` holds the call, and gives its events to `observer(line.info)` beside its other observers.
    """

    def __init__(
        self,
        config: BrowserConfig,
        answer: Answer,
        *,
        accepting: Callable[[], bool] = lambda: True,
        lines: Lines | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.wall = wall
        self._lines = lines or WhileAccepting(accepting)
        self.live: dict[str, Screen] = {}
        self._answer = answer
        self._waiting = 0
        self._limits = Limits(start_timeout_s=config.start_timeout_s, media_timeout_s=config.media_timeout_s)

    def observer(self, info: LineInfo) -> CallObserver | None:
        """Who shows this call's events on its page; None for a call that is not the page's. Never blocks."""
        return self.live.get(info.call_id) if info.kind == "browser" else None

    @property
    def crowded(self) -> bool:
        """Too many sockets wait for their start: one more is refused before it is accepted."""
        return self._waiting >= self.config.max_pending_sockets

    async def serve(self, socket: Socket) -> None:
        """One accepted socket, until its call is over. Raises nothing but cancellation."""
        pump = page_pump(socket, PageProtocol(asyncio.get_running_loop().time(), self._limits))
        self._waiting += 1
        try:
            placed = await pump.next()
        except LineClosed as closed:
            logger.info("a page left before its call began: %s", closed.reason)
            await socket.close(pump.close_code, closed.reason)
            return
        finally:
            self._waiting -= 1
        if not isinstance(placed, CallPlaced):
            raise AssertionError("the table lets nothing come before start")
        screen = Screen()
        call_id = f"web-{secrets.token_hex(12)}"
        if len(self.live) >= self.config.max_calls or not self._lines.take(call_id):
            logger.warning("a call from the page was turned away: no line is free")
            await self._part(screen, pump, BUSY, 1013)
            return
        await self._hold(LineInfo(call_id, "browser", caller="browser"), screen, pump)

    async def _hold(self, info: LineInfo, screen: Screen, pump: PagePump) -> None:
        """The call itself. Whatever happens in it stays in it."""
        line = BrowserLine(pump, info)
        self.live[info.call_id] = screen
        telling = asyncio.create_task(self._tell(screen, pump), name=f"screen/{info.call_id}")
        why, code = FAILED, 1011
        try:
            outcome = await self._answer(line)
            why, code = _word(line, outcome), 1000
        except LineClosed as closed:
            why, code = closed.reason, pump.close_code
        except Exception:
            logger.exception("call %s failed", info.call_id)
        finally:
            del self.live[info.call_id]
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            pump.end("the call is over")
            await self._part(screen, pump, why, code)
        logger.info(
            "call %s is over: %s; %s; page: %s", info.call_id, why, pump.over, line.counters or "in order"
        )

    async def _tell(self, screen: Screen, pump: PagePump) -> None:
        try:
            await screen.deliver(pump.send)
        except LineClosed:
            return  # the call's reader knows it too

    async def _part(self, screen: Screen, pump: PagePump, reason: str, code: int) -> None:
        """Tell the page why, and close."""
        screen.tell({"event": "ended", "reason": reason})
        if pump.over != CALLER_HUNG_UP:
            try:
                async with asyncio.timeout(_LAST_WORDS_S):
                    await screen.flush(pump.socket.send)
            except (SocketClosed, TimeoutError):
                logger.debug("a page was gone before it was told why")
        await pump.socket.close(code if pump.close_code == 1000 else pump.close_code, reason)


def _word(line: BrowserLine, outcome: CallOutcome) -> str:
    """Why the call ended, as the page is told: the reason that we hung up with, what the caller did, `busy`,
    or `failed` where the caller is owed an apology."""
    if outcome.completed:
        return line.hung_up or outcome.reason
    return BUSY if outcome.reason == BUSY else FAILED
