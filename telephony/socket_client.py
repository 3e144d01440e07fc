"""A WebSocket that we opened, as a `telephony.socket.Socket`."""

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from telephony.socket import SocketClosed

_MOST_REASON_BYTES = 123
"""RFC 6455 section 5.5: a control message has 125 bytes, two of them the code."""


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
        await self._connection.close(code, reason.encode()[:_MOST_REASON_BYTES].decode(errors="ignore"))

    def abort(self) -> None:
        """Vanish: no close frame, no goodbye of TCP's either where the system allows."""
        self._connection.transport.abort()


def _closed(closed: ConnectionClosed) -> SocketClosed:
    received = closed.rcvd
    return SocketClosed(received.code, received.reason) if received is not None else SocketClosed()
