"""uvicorn's WebSocket for small messages that come and go fifty times a second on each of a hundred calls.

    uvicorn.Config(app, ws=MediaWebSocket, ws_per_message_deflate=False)

uvicorn's own stops reading the socket at every message until the application has taken it, and each message
that is sent passes through four coroutines and a general writer. Here a few small messages may wait, and
`telephony.socket_starlette` finds `send_now` in the scope. Whatever is not a plain message on an open
connection goes uvicorn's way.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State

_EXTENSION: Final = "maya.media"
_MOST_WAITING: Final = 16
_SMALL_BYTES: Final = 4096
"""Of one message, so that what waits for the application stays small."""
_FINAL_TEXT, _FINAL_BINARY = 0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY


class MediaWebSocket(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, object], self.scope["extensions"])[_EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        small = sum(map(len, self.frames)) <= _SMALL_BYTES
        if self.read_paused or not small or self.queue.qsize() >= _MOST_WAITING:
            super().send_receive_event_to_app()
            return
        # uvicorn takes it that reading is paused already.
        self.read_paused = True
        try:
            super().send_receive_event_to_app()
        finally:
            self.read_paused = False

    def send_now(self, message: str | bytes) -> bool:
        """Hand a message to the system. False, and nothing was done: it has to wait, or cannot be sent, and
        ASGI's `send` will say why."""
        connection = self.conn
        if (
            not self.handshake_complete
            or self.close_sent
            or self.disconnected
            or self.initial_response is not None
            or connection.state is not State.OPEN
            or connection.extensions
            or not self.writable.is_set()
        ):
            return False
        if isinstance(message, str):
            kind, data = _FINAL_TEXT, message.encode()
        else:
            kind, data = _FINAL_BINARY, message
        # RFC 6455 section 5.2; a server masks nothing.
        size = len(data)
        if size < 126:
            head = bytes((kind, size))
        elif size < 65_536:
            head = bytes((kind, 126, size >> 8, size & 0xFF))
        else:
            return False
        self.transport.write(head + data)
        return True


def media_websocket(scope: Mapping[str, Any]) -> MediaWebSocket | None:
    """The one under an ASGI connection, where the server has it."""
    found = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, MediaWebSocket) else None
