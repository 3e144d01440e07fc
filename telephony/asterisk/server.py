"""AudioSocket's TCP server."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from telephony.answer import Answer, Lines
from telephony.asterisk.access import Doorkeeper
from telephony.asterisk.book import CallBook
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.desk import AnyLine, CallDesk
from telephony.asterisk.errors import AccessRefused, AsteriskConfigError
from telephony.socket import SocketClosed

logger = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 8_192
_CLOSE_PATIENCE_S: Final = 2.0
_COMPLAIN_EVERY_S: Final = 10.0
"""Port scanners come by the thousand."""


class TcpSocket:
    """A TCP connection as a `telephony.asterisk.stream.PacedSocket`. Its "messages" are whatever pieces of
    the stream arrive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._closing = False

    async def receive(self) -> bytes:
        try:
            data = await self._reader.read(_CHUNK_BYTES)
        except OSError:
            raise SocketClosed(1006) from None
        if not data:
            raise SocketClosed(1000)
        return data

    async def send(self, message: str | bytes) -> None:
        self.write(message.encode() if isinstance(message, str) else message)
        try:
            await self._writer.drain()
        except OSError:
            raise SocketClosed(1006) from None

    def write(self, data: bytes) -> int:
        transport = self._writer.transport
        if self._closing or transport.is_closing():
            return 0
        self._writer.write(data)
        return transport.get_write_buffer_size()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """What was written is sent first, for a moment; a peer that does not read is then dropped."""
        if self._closing:
            return
        self._closing = True
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_PATIENCE_S):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return


class AudioSocketServer:
    """Takes Asterisk's AudioSocket connections and hands every call to `answer(line)`, each in its own task.

        async with AudioSocketServer(config, answer, accepting=...) as server:
            ...                                # serves at server.address

    Raises `AsteriskConfigError` where it cannot listen. Leaving ends the calls that are still on, with
    "server shut down". `book` is what `create_router` was given, so that the dialplan can tell who
    calls.
    """

    def __init__(
        self,
        config: AsteriskConfig,
        answer: Answer,
        accepting: Callable[[], bool] = lambda: True,
        *,
        lines: Lines | None = None,
        book: CallBook | None = None,
    ) -> None:
        self._config = config
        self._door = Doorkeeper(config)
        if config.announced_only and book is None:
            raise AsteriskConfigError(
                "announced_only is set, but nothing takes announcements: give AudioSocketServer and "
                "create_router the same CallBook."
            )
        self._desk = CallDesk(config, answer, accepting=accepting, lines=lines, book=book)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained_at = float("-inf")
        self.refused = 0
        """Connections turned away since the start."""

    @property
    def live(self) -> dict[str, AnyLine]:
        """The calls that are on, by id."""
        return self._desk.live

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("AudioSocketServer is not open")
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def __aenter__(self) -> Self:
        host, port = self._config.audiosocket_host, self._config.audiosocket_port
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=2 * _CHUNK_BYTES)
        except OSError as error:
            raise AsteriskConfigError(
                f"AudioSocket cannot listen on {host} port {port}: {error.strerror or error}. See who has it "
                f"(ss -ltnp 'sport = :{port}'), or set audiosocket_port and change extensions.conf too."
            ) from None
        logger.info("AudioSocket listens on %s port %s", *self.address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._desk.shut_down()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """asyncio gives each connection a task of its own."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        socket = TcpSocket(reader, writer)
        try:
            await self._serve(socket, writer)
        finally:
            await socket.close()

    async def _serve(self, socket: TcpSocket, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else None
        try:
            self._door.check_peer(host)
        except AccessRefused as refused:
            self._refuse(str(refused))
            return
        place = self._desk.admit()
        if place is None:
            self._refuse("too many connections wait for their UUID")
            return
        try:
            await self._desk.serve_audiosocket(socket, place)
        finally:
            place.release()

    def _refuse(self, why: str) -> None:
        self.refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = now
            logger.warning("AudioSocket connection refused (%d so far): %s", self.refused, why)
