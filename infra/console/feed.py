"""Tells every open page what changed, as server-sent events (WHATWG HTML, section 9.2).

At most `PER_S` messages a second go to each viewer, each with all that is new since its last one. Nothing is
queued: a viewer whose connection takes nothing is not told anything meanwhile, and is let go after
`PATIENCE_S`; it opens the stream anew, and begins with everything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.console.live import LiveBoard

log = logging.getLogger(__name__)

PER_S: Final = 4
MOST_VIEWERS: Final = 32
PATIENCE_S: Final = 10.0
"""How long one message may take to be taken."""
_QUIET_S: Final = 2.0
"""A viewer hears something at least so often; so soon it is noticed, too, that one may not look any more."""


class Feed:
    """The viewers of `board`. `house()` is told about the whole server with every message; time is the event
    loop's."""

    def __init__(
        self,
        board: LiveBoard,
        *,
        house: Callable[[], dict[str, Any]] = dict,
        most_viewers: int = MOST_VIEWERS,
    ) -> None:
        self.board = board
        self.viewers = 0
        self.dropped = 0
        """Viewers that were too slow, since the start."""
        self._house = house
        self._most_viewers = most_viewers
        self._waiting: set[asyncio.Event] = set()
        board.on_change = self._wake

    @property
    def crowded(self) -> bool:
        return self.viewers >= self._most_viewers

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()

    async def tell(
        self,
        send: Callable[[str], Awaitable[None]],
        call_id: str = "",
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send messages until `allowed()` says no, or `send` takes longer than `PATIENCE_S`. Raises what
        `send` raises."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        self.viewers += 1
        seen = -1
        try:
            while allowed():
                self.board.forget_ended()
                message = self.board.message(seen, call_id, self._house())
                seen = self.board.revision
                changed.clear()
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await send(message)
                except TimeoutError:
                    self.dropped += 1
                    log.info("a viewer of the console takes nothing and is let go")
                    return
                await asyncio.sleep(1 / PER_S)
                await _set_within(changed, _QUIET_S)
        finally:
            self.viewers -= 1
            self._waiting.discard(changed)


async def _set_within(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


class EventStream(Response):
    """The answer to one viewer's request, which goes on until the viewer leaves."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, call_id: str, allowed: Callable[[], bool], headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["Content-Length"]
        self._feed = feed
        self._call_id = call_id
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def message(text: str) -> None:
            body = b"data: " + text.encode(errors="replace") + b"\n\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        telling = asyncio.ensure_future(self._feed.tell(message, self._call_id, self._allowed))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
