"""Asterisk as seen from our end: chan_websocket and AudioSocket as they were recorded, with a caller behind.

Debian has no Asterisk. What is here follows what was seen of it and how it is written: messages, limits,
silences. Where we break one of its rules it says so in `complaints`, and does what Asterisk would.
"""

import asyncio
import json
import struct
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.line import LINE_RATE_HZ, Pcm
from telephony import g711
from telephony.simulator.virtual import MemorySocket
from telephony.socket import Socket, SocketClosed

TICK_S = 0.02
SAMPLES = 160
QUEUE_MAX, XOFF_LEVEL, XON_LEVEL = 1000, 900, 800
LONGEST_COMMAND = 128

CODECS: dict[str, tuple[int, Callable[[Pcm], bytes], Callable[[bytes], Pcm]]] = {
    "ulaw": (1, g711.encode, g711.decode),
    "alaw": (1, g711.encode_alaw, g711.decode_alaw),
    "slin": (2, lambda pcm: pcm.astype("<i2").tobytes(), lambda data: np.frombuffer(data, "<i2")),
}


class MemoryPipe(MemorySocket):
    """A stream in memory: what `telephony.asterisk.stream.PacedSocket` asks for. Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[float, bytes]] = []
        self.unsent = 0

    def write(self, data: bytes) -> int:
        self.written.append((asyncio.get_running_loop().time(), data))
        if self._closed is None:
            self._peer._inbox.append(data)
            self._peer._wake()
        return self.unsent


class Caller:
    """Whoever is on the phone: what they say, in order, and what they hear, 20 ms at a time."""

    def __init__(self) -> None:
        self.heard: list[Pcm] = []
        self.heard_at: list[float] = []
        """When each piece of `heard` began to sound."""
        self.quiet = False
        """The phone suppresses silence: nothing is sent where nothing is said."""
        self._says: deque[Pcm] = deque()

    def mouth(self) -> Pcm | None:
        if self._says:
            return self._says.popleft()
        return None if self.quiet else np.zeros(SAMPLES, np.int16)

    def ear(self, pcm: Pcm) -> None:
        self.heard.append(pcm)
        self.heard_at.append(asyncio.get_running_loop().time())

    async def say(self, pcm: Pcm) -> None:
        """Returns when the last sample has been spoken."""
        padded = np.concatenate([pcm, np.zeros(-len(pcm) % SAMPLES, np.int16)])
        self._says.extend(padded.reshape(-1, SAMPLES))
        await asyncio.sleep(len(padded) / LINE_RATE_HZ)

    @property
    def audio(self) -> Pcm:
        return np.concatenate(self.heard) if self.heard else np.zeros(0, np.int16)

    def hears_now(self) -> bool:
        """Something sounds in the ear's last 60 ms."""
        return bool(self.heard) and any(np.abs(piece).max() > 300 for piece in self.heard[-3:])

    async def until(self, sounding: bool, patience_s: float = 30.0, for_s: float = 0.3) -> None:
        """Wait until the agent speaks, or has been silent for `for_s`."""
        async with asyncio.timeout(patience_s):
            since = asyncio.get_running_loop().time()
            while True:
                await asyncio.sleep(TICK_S)
                if self.hears_now() != sounding:
                    since = asyncio.get_running_loop().time()
                elif sounding or asyncio.get_running_loop().time() - since >= for_s:
                    return


class MediaChannel(Caller):
    """`Dial(WebSocket/...)`: one channel of chan_websocket, from either side's connection on. `run()` holds
    it until somebody hangs up."""

    def __init__(
        self,
        socket: Socket,
        *,
        as_json: bool = False,
        format: str = "ulaw",  # noqa: A002  Asterisk's word
        variables: dict[str, str] | None = None,
        channel_id: str = "1795333949.4",
        connection_id: str = "conn1",
    ) -> None:
        super().__init__()
        self.socket = socket
        self.as_json = as_json
        self.format = format
        self.variables = variables or {}
        self.channel_id = channel_id
        self.connection_id = connection_id
        self.complaints: list[str] = []
        self.commands: list[str] = []
        self.queue: deque[bytes | str] = deque()
        self.queued = 0
        self.full = self.paused = self.bulk = self.report_drained = False
        self.leftover = b""
        self.hung_up_by_us = False
        self.closed: SocketClosed | None = None
        width, self._encode, self._decode = CODECS[format]
        self.piece = width * SAMPLES

    async def run(self) -> None:
        await self._event("MEDIA_START", start=True)
        timer = asyncio.create_task(self._tick(), name="asterisk timer")
        try:
            while not self.hung_up_by_us:
                message = await self.socket.receive()
                if isinstance(message, str):
                    await self._command(message)
                else:
                    await self._media(message)
        except SocketClosed as closed:
            self.closed = closed
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        await self.socket.close(1000)

    async def hang_up(self) -> None:
        await self.socket.close(1000)

    async def press(self, digit: str) -> None:
        if self.as_json:
            await self._event("DTMF_END", digit=digit)
        else:
            await self.socket.send(f"DTMF_END digit:{digit} channel_id:{self.channel_id}")

    async def _event(self, name: str, *, start: bool = False, **fields: Any) -> None:
        await self.socket.send(self._text(name, start=start, **fields))

    def _text(self, name: str, *, start: bool = False, **fields: Any) -> str:
        if start:
            fields = {
                "connection_id": self.connection_id,
                "channel": f"WebSocket/{self.connection_id}/0x7f3c5800f5d0",
                "channel_id": self.channel_id,
                "format": self.format,
                "optimal_frame_size": self.piece,
                "ptime": 20,
            }
            if self.as_json:
                fields["channel_variables"] = self.variables
            return self._form(name, fields)
        return self._form(name, {"channel_id": self.channel_id} | fields if self.as_json else fields)

    def _form(self, name: str, fields: dict[str, Any]) -> str:
        if self.as_json:
            return json.dumps({"event": name} | fields, separators=(",", ":"))
        if set(fields) == {"correlation_id"}:
            return f"{name} {fields['correlation_id']}".strip()
        return " ".join([name, *(f"{key}:{value}" for key, value in fields.items())])

    async def _complain(self, text: str) -> None:
        self.complaints.append(text)
        if self.as_json:
            await self._event("ERROR", error_text=text)
        else:
            await self.socket.send(f"ERROR channel_id:{self.channel_id} error_text:{text}")

    async def _command(self, text: str) -> None:
        if len(text.encode()) > LONGEST_COMMAND:
            await self._complain(f"a command of {len(text.encode())} bytes")
            return
        if self.as_json:
            try:
                fields = json.loads(text)
            except ValueError:
                await self._complain("Unable to parse JSON command")
                return
            name, argument = fields.get("command"), fields.get("correlation_id", "")
        else:
            name, _, argument = text.partition(" ")
        self.commands.append(name)
        if name == "HANGUP":
            self.hung_up_by_us = True
        elif name == "START_MEDIA_BUFFERING":
            self.bulk = True
        elif name == "STOP_MEDIA_BUFFERING":
            self.bulk = False
            if self.leftover:
                await self._queue(self.leftover)
            self.leftover = b""
            self.queue.append(self._text("MEDIA_BUFFERING_COMPLETED", correlation_id=argument))
        elif name == "MARK_MEDIA":
            self.queue.append(self._text("MEDIA_MARK_PROCESSED", correlation_id=argument))
        elif name == "FLUSH_MEDIA":
            self.queue.clear()
            self.queued, self.bulk, self.leftover = 0, False, b""
        elif name == "REPORT_QUEUE_DRAINED":
            self.report_drained = True
        elif name in ("PAUSE_MEDIA", "CONTINUE_MEDIA"):
            self.paused = name == "PAUSE_MEDIA"
        elif name == "GET_STATUS":
            await self._event("STATUS", queue_length=self.queued, xon_level=XON_LEVEL, xoff_level=XOFF_LEVEL)
        elif name != "ANSWER":
            await self._complain(f"command {name!r} unknown")

    async def _media(self, data: bytes) -> None:
        if self.queued >= QUEUE_MAX:
            self.complaints.append("media dropped: the queue is full")
            return
        data = self.leftover + data
        self.leftover = b""
        whole = len(data) // self.piece * self.piece
        for at in range(0, whole, self.piece):
            await self._queue(data[at : at + self.piece])
        if whole == len(data):
            return
        if self.bulk:
            self.leftover = data[whole:]
        else:
            self.complaints.append(f"{len(data) - whole} bytes of media dropped: less than one piece")

    async def _queue(self, piece: bytes) -> None:
        self.queue.append(piece)
        self.queued += 1
        if not self.full and self.queued >= XOFF_LEVEL:
            self.full = True
            await self._event("MEDIA_XOFF")

    async def _tick(self) -> None:
        due = asyncio.get_running_loop().time()
        try:
            while True:
                said = self.mouth()
                if said is not None:
                    await self.socket.send(self._encode(said))
                await self._play()
                due += TICK_S
                await asyncio.sleep(due - asyncio.get_running_loop().time())
        except SocketClosed:
            return

    async def _play(self) -> None:
        pcm = np.zeros(SAMPLES, np.int16)
        if not self.paused:
            if self.full and self.queued < XON_LEVEL:
                self.full = False
                await self._event("MEDIA_XON")
            while self.queue:
                head = self.queue.popleft()
                if isinstance(head, bytes):
                    self.queued -= 1
                    played = self._decode(head)
                    pcm[: len(played)] = played
                    break
                await self.socket.send(head)
            else:
                if self.report_drained:
                    self.report_drained = False
                    await self._event("QUEUE_DRAINED")
        self.ear(pcm)


class AudioSocketCall(Caller):
    """`AudioSocket(${UUID},host:port)`: the application of the dialplan. `run()` holds the call until
    somebody hangs up. It plays what it gets at once, and keeps no time of its own."""

    def __init__(self, socket: Socket, name: uuid.UUID | None = None) -> None:
        super().__init__()
        self.socket = socket
        self.uuid = name or uuid.UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
        self.complaints: list[str] = []
        self.hung_up_by_us = False
        self.closed: SocketClosed | None = None
        self._buffer = b""

    async def run(self) -> None:
        await self.socket.send(_message(0x01, self.uuid.bytes))
        timer = asyncio.create_task(self._tick(), name="asterisk channel")
        try:
            while not self.hung_up_by_us and not self.complaints:
                message = await self.socket.receive()
                assert isinstance(message, bytes)
                self._take(message)
        except SocketClosed as closed:
            self.closed = closed
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        await self.socket.close()

    async def hang_up(self) -> None:
        """Asterisk just closes; it sends no 0x00."""
        await self.socket.close()

    async def press(self, digit: str) -> None:
        await self.socket.send(_message(0x03, digit.encode()))

    def _take(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 3:
            kind, length = struct.unpack_from(">BH", self._buffer)
            if kind == 0x00:
                self.hung_up_by_us = True
                return
            if kind != 0x10:
                self.complaints.append(f"kind 0x{kind:02x}")
                return
            if length < 1:
                self.complaints.append("a message without length")
                return
            if len(self._buffer) < 3 + length:
                return
            payload, self._buffer = self._buffer[3 : 3 + length], self._buffer[3 + length :]
            if length != 320:
                self.complaints.append(f"{length} bytes are not 20 ms")
            self.ear(np.frombuffer(payload, "<i2").astype(np.int16))

    async def _tick(self) -> None:
        due = asyncio.get_running_loop().time()
        try:
            while True:
                said = self.mouth()
                if said is not None:
                    await self.socket.send(_message(0x10, said.astype("<i2").tobytes()))
                due += TICK_S
                await asyncio.sleep(due - asyncio.get_running_loop().time())
        except SocketClosed:
            return


def _message(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BH", kind, len(payload)) + payload
