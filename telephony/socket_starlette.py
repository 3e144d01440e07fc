"""The server's WebSocket as a `telephony.socket.Socket`: starlette's, and so FastAPI's."""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from telephony.socket import SocketClosed
from telephony.socket_uvicorn import media_websocket

_CLOSE_PATIENCE_S: Final = 2.0
"""A peer that stopped reading blocks the close frame too; the server drops it when the handler returns."""
_MAX_REASON_BYTES: Final = 123
"""RFC 6455 section 5.5: a control frame carries 125 bytes, two of them the code."""


class StarletteSocket:
    """Wraps an accepted WebSocket. Cancelling any method loses no message."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._closed: SocketClosed | None = None
        self._below = media_websocket(websocket.scope)

    async def receive(self) -> str | bytes:
        while self._closed is None:
            try:
                message = await self._websocket.receive()
            except (RuntimeError, OSError):
                # RuntimeError is starlette's word for a socket on which `disconnect` was received.
                self._closed = SocketClosed()
                break
            if message["type"] == "websocket.disconnect":
                self._closed = _why(message.get("code"), message.get("reason"))
                break
            text = message.get("text")
            if text is not None:
                return str(text)
            data = message.get("bytes")
            if data is not None:
                return bytes(data)
        raise self._closed

    async def send(self, message: str | bytes) -> None:
        if self._closed is not None:
            raise self._closed
        try:
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)
        except (RuntimeError, OSError, WebSocketDisconnect):
            # The server's own exception for a lost peer is an OSError, which starlette turns into
            # WebSocketDisconnect. Not remembered: what came before the loss may still be received.
            raise SocketClosed() from None

    def send_now(self, message: str | bytes) -> bool:
        """See `telephony.socket.SendsAtOnce`."""
        return self._below is not None and self._closed is None and self._below.send_now(message)

    def deliver_to(self, take: Callable[[str | bytes], bool] | None) -> None:
        """See `telephony.socket.DeliversAtOnce`."""
        if self._below is not None:
            self._below.take = take

    async def close(self, code: int = 1000, reason: str = "") -> None:
        fitting = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        try:
            async with asyncio.timeout(_CLOSE_PATIENCE_S):
                await self._websocket.close(code, fitting)
        except (RuntimeError, OSError, WebSocketDisconnect):
            return


def _why(code: int | None, reason: str | None) -> SocketClosed:
    # uvicorn reports a connection that ended without a close frame as 1005 with no reason at all,
    # which RFC 6455 section 7.1.5 calls 1006.
    if code is None or (code == 1005 and reason is None):
        return SocketClosed(1006)
    return SocketClosed(code, reason or "")
