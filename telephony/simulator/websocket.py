"""The caller's real WebSocket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from telephony.simulator.errors import CannotCall, Unreachable
from telephony.socket_client import ClientSocket

_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0


@asynccontextmanager
async def open_socket(url: str, headers: Mapping[str, str]) -> AsyncIterator[ClientSocket]:
    """Connect, without compression and pings, as Twilio does. Raises `CannotCall`, and `Unreachable`
    where nothing answers."""
    try:
        connection = await connect(
            url,
            additional_headers=dict(headers),
            compression=None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            proxy=None,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        hint = (
            "; does the server want a signed call (http://HOST/twilio/voice, auth token)?"
            if status == 403
            else ""
        )
        raise CannotCall(
            f"{url} refused the stream with status {status} (Twilio error 31920){hint}"
        ) from None
    except (OSError, TimeoutError, ValueError, WebSocketException) as error:
        raise Unreachable(f"{url} cannot be reached: {error}; is the server running?") from None
    try:
        yield ClientSocket(connection)
    finally:
        await connection.close()
