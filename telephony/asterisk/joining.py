"""When it is we who connect: taking a channel that waits in Asterisk, `Dial(WebSocket/INCOMING/...)` or ARI's
externalMedia. Its name is the channel variable MEDIA_WEBSOCKET_CONNECTION_ID."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from telephony.answer import Answer, CallOutcome
from telephony.asterisk.book import CallBook
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.desk import CallDesk
from telephony.asterisk.errors import AsteriskConfigError, CannotJoin
from telephony.socket_client import ClientSocket

_CONNECTION_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_OPEN_TIMEOUT_S: Final = 5.0
_CLOSE_TIMEOUT_S: Final = 2.0
_LARGEST_MESSAGE_BYTES: Final = 2**21


class ChannelJoiner:
    """`await join(connection_id)` holds one call; safe to call for many at a time. `live` are those that are
    on."""

    def __init__(
        self,
        config: AsteriskConfig,
        answer: Answer,
        *,
        accepting: Callable[[], bool] = lambda: True,
        book: CallBook | None = None,
    ) -> None:
        if not config.asterisk_url:
            raise AsteriskConfigError(
                "asterisk_url is not set: say where Asterisk's web server is, such as http://10.0.0.5:8088."
            )
        self._url = "ws" + config.asterisk_url.removeprefix("http")
        self._desk = CallDesk(config, answer, accepting=accepting, book=book)
        self.live = self._desk.live

    async def join(
        self, connection_id: str, parameters: Mapping[str, str] | None = None
    ) -> CallOutcome | None:
        """Connect to the channel that waits under `connection_id` and hold its call to the end. `parameters`
        are what the agent should know; `caller` and `called` among them. Returns what `answer` returned, None
        where the call failed. Raises `CannotJoin` before it began."""
        if not _CONNECTION_ID.fullmatch(connection_id):
            raise CannotJoin(f"{connection_id[:40]!r} is no MEDIA_WEBSOCKET_CONNECTION_ID.")
        place = self._desk.admit()
        if place is None:
            raise CannotJoin("Too many connections wait for their MEDIA_START.")
        try:
            connection = await self._connect(f"{self._url}/media/{connection_id}", connection_id)
            try:
                return await self._desk.serve_websocket(ClientSocket(connection), place, parameters)
            finally:
                await connection.close()
        finally:
            place.release()

    async def _connect(self, url: str, connection_id: str) -> ClientConnection:
        try:
            return await connect(
                url,
                subprotocols=[Subprotocol("media")],
                compression=None,
                max_size=_LARGEST_MESSAGE_BYTES,
                ping_interval=None,
                proxy=None,
                open_timeout=_OPEN_TIMEOUT_S,
                close_timeout=_CLOSE_TIMEOUT_S,
            )
        except InvalidStatus as refusal:
            status = refusal.response.status_code
            raise CannotJoin(_HINTS.get(status, _OTHERWISE).format(connection_id, status), status) from None
        except (OSError, TimeoutError, asyncio.IncompleteReadError, WebSocketException) as error:
            raise CannotJoin(
                f"Asterisk's web server does not answer at {url}: {error or type(error).__name__}. In "
                "http.conf set enabled=yes and bindaddr, and load res_http_websocket and chan_websocket."
            ) from None


_HINTS: Final = {
    404: "No channel waits in Asterisk under {!r}: it was hung up meanwhile, or chan_websocket is not loaded "
    "(`module show like websocket`).",
    409: "The channel {!r} is taken: another connection has it.",
}
_OTHERWISE: Final = "Asterisk refused channel {!r} with status {}."
