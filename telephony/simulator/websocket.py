"""The caller's real WebSocket as a `telephony.socket.Socket`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from telephony.simulator.errors import CannotCall
from telephony.socket import SocketClosed

_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0


class ClientSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)

    def abort(self) -> None:
        """Vanish: no close frame, no goodbye of TCP's either where the system allows."""
        self._connection.transport.abort()


def _closed(closed: ConnectionClosed) -> SocketClosed:
    received = closed.rcvd
    return SocketClosed(received.code, received.reason) if received is not None else SocketClosed()


@asynccontextmanager
async def open_socket(url: str, headers: Mapping[str, str]) -> AsyncIterator[ClientSocket]:
    """Connect, without compression and pings, as Twilio does. Raises `CannotCall`."""
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
        raise CannotCall(f"{url} cannot be reached: {error}; is the server running?") from None
    try:
        yield ClientSocket(connection)
    finally:
        await connection.close()
