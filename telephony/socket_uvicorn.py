"""uvicorn's WebSocket for small messages that come and go fifty times a second on each of a hundred calls.

    uvicorn.Config(app, ws=MediaWebSocket, ws_per_message_deflate=False)

uvicorn's own stops reading the socket at every message until the application has taken it; each message that
arrives passes through a parser, a queue and four coroutines, and each that is sent through as many and a
general writer. Here a few small messages may wait, and `telephony.socket_starlette` finds in the scope whom
to give messages to as they arrive (`take`), and `send_now`. Whatever is not a plain message on an open
connection goes uvicorn's way.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a compiler
    from websockets.utils import apply_mask

_EXTENSION: Final = "maya.media"
_MOST_WAITING: Final = 16
_SMALL_BYTES: Final = 4096
"""Of one message, so that what waits for the application stays small."""
_FINAL_TEXT, _FINAL_BINARY = int(0x80 | Opcode.TEXT), int(0x80 | Opcode.BINARY)
_MASKED: Final = 0x80
_MOST_AT_ONCE: Final = 16
"""Of what one peer sent; other calls want their turn."""


class MediaWebSocket(WebSocketsSansIOProtocol):
    take: Callable[[str | bytes], bool] | None = None
    """See `telephony.socket.DeliversAtOnce`."""

    _all_delivered = False
    """Since uvicorn was last given something, or it has dealt with that."""

    def data_received(self, data: bytes) -> None:
        if self.take is not None and self._nothing_waits():
            data = self._deliver(data, self.take)
            if not data:
                return
        self._all_delivered = False
        super().data_received(data)

    def _nothing_waits(self) -> bool:
        """All that came was taken, and what comes begins with a message."""
        if self.close_sent or self.disconnected or self.conn.state is not State.OPEN:
            return False
        if not self._all_delivered:
            self._all_delivered = self._uvicorn_is_done()
        return self._all_delivered

    def _uvicorn_is_done(self) -> bool:
        connection = self.conn
        return (
            self.queue.empty()
            and connection.current_size is None
            and not connection.extensions
            and not connection.reader.buffer
            and _between_frames(connection.parser)
        )

    def _deliver(self, data: bytes, take: Callable[[str | bytes], bool]) -> bytes:
        """What is left of `data` when the plain small messages at its beginning were taken. RFC 6455 section
        5.2; a client masks everything."""
        at = 0
        for _ in range(_MOST_AT_ONCE):
            if len(data) - at < 6 or data[at + 1] < _MASKED:
                break
            kind, size, head = data[at], data[at + 1] - _MASKED, at + 2
            if size == 126:
                size, head = data[head] << 8 | data[head + 1], at + 4
            elif size > 126:  # a length of eight bytes
                break
            end = head + 4 + size
            if size > _SMALL_BYTES or end > len(data) or kind not in (_FINAL_TEXT, _FINAL_BINARY):
                break
            content = apply_mask(data[head + 4 : end], data[head : head + 4])
            try:
                taken = take(content.decode() if kind == _FINAL_TEXT else content)
            except UnicodeDecodeError:
                break
            if not taken:
                break
            at = end
        return data[at:] if at else data

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


def _between_frames(parser: Any) -> bool:
    """It waits for the beginning of a WebSocket frame, not for the rest of one."""
    while (inner := getattr(parser, "gi_yieldfrom", None)) is not None:
        parser = inner
    return getattr(parser, "__name__", "") == "at_eof"


def media_websocket(scope: Mapping[str, Any]) -> MediaWebSocket | None:
    """The one under an ASGI connection, where the server has it."""
    found = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, MediaWebSocket) else None
