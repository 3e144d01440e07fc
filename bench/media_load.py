"""Many callers from one process and one core: Twilio's side of each stream over a bare WebSocket client.

The client speaks as little of RFC 6455 as this needs (text messages, a zero mask), because sixty callers
must cost less than the server that they load. Times are `time.monotonic()`: uvloop's own clock counts whole
milliseconds. The protocol on top is the simulated caller's own, strict as ever.
"""

import asyncio
import base64
import secrets
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES, LINE_RATE_HZ
from telephony import g711
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide

SUB_TICKS = 10
"""Callers are spread over so many moments of each 20 ms, as strangers' packets are."""

_SILENCE = bytes((g711.SILENCE,)) * AUDIO_FRAME_SAMPLES
_MEDIA = b'{"event":"media"'
_TEXT, _CLOSE = 0x81, 0x88


@dataclass(slots=True)
class Passage:
    """One stretch of the agent's speech without a break. For each packet: when it came, and where its audio
    starts in the passage, both in seconds."""

    arrived_s: "array[float]" = field(default_factory=lambda: array("d"))
    position_s: "array[float]" = field(default_factory=lambda: array("d"))


class LoadCaller(asyncio.Protocol):
    """One call. `tick()` sends the next 20 ms; it interrupts the agent `offset` AudioFrames after it began,
    and then every `cycle`, `earlier` sooner the first time: callers who came together are to go on apart.
    `identity` is what its webhook has led to, `headers` go into the handshake."""

    def __init__(
        self,
        number: int,
        line: Sequence[bytes],
        cycle: int,
        offset: int,
        *,
        earlier: int = 0,
        identity: StreamIdentity | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sid = secrets.token_hex(16)
        self.twilio = TwilioSide(
            identity or StreamIdentity("AC" + "0" * 32, f"CA{sid}", f"MZ{sid}", {"caller": str(number)})
        )
        self.close_code = 0
        """Of the server's close; 0 where it has not closed, 1006 where it was lost without one."""
        self.ended = asyncio.Event()
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.passages: list[Passage] = []
        self.packets_in = 0
        self.starved = 0
        """Packets that came after the audio before them had run out, in the middle of a sentence."""
        self.closed = False
        self._hung_up = False
        self._line = line
        self._cycle = cycle
        self._ticks = -offset
        self._earlier = min(earlier, cycle - len(line) - 1)
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._began_s = time.monotonic()
        self._transport: asyncio.Transport | None = None
        self._opened = self._loop.create_future()
        self._buffer = bytearray()
        self._passage: Passage | None = None
        self._cleared = True

    async def open(self, port: int) -> None:
        """Connect, start the stream. Raises `ConnectionError` if the server refuses."""
        await self._loop.create_connection(lambda: self, "127.0.0.1", port)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        request = (
            f"GET /twilio/media HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{self._headers}\r\n"
        )
        if self._transport is None:
            raise ConnectionError("no connection")
        self._transport.write(request.encode())
        await self._opened
        self._began_s = time.monotonic()
        for message in self.twilio.open():
            self._send(message)

    def tick(self) -> None:
        if self.closed or self._hung_up:
            return
        number = self._ticks
        self._ticks += 1
        if number == len(self._line):
            self._ticks += self._earlier
        self._sent += 1
        if number < 0:
            audio = _SILENCE
        else:
            place = number % self._cycle
            audio = self._line[place] if place < len(self._line) else _SILENCE
        for mark in self.twilio.advance(self._now()):
            self._send(mark)
        self._send(self.twilio.media(audio, self._sent * 20))

    def hang_up(self) -> None:
        """Say so, and leave the rest to the server, as Twilio does: who closes a connection on which there is
        still something to be read resets it, and takes back what was said last."""
        if self._transport is not None and not self.closed and not self._hung_up:
            self._send(self.twilio.stop())
            self._hung_up = True
            self._loop.call_later(_CLOSED_WITHIN_S, self._transport.close)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.close_code = self.close_code or 1006
        self.ended.set()
        if not self._opened.done():
            self._opened.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._opened.done():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in buffer[: buffer.find(b"\r\n")]:
                self._opened.set_exception(ConnectionError(buffer[:100].decode("latin-1")))
                return
            del buffer[: end + 4]
            self._opened.set_result(None)
        start = 0
        while len(buffer) - start >= 2:
            length, header = buffer[start + 1], 2
            if length == 126:
                if len(buffer) - start < 4:
                    break
                length, header = int.from_bytes(buffer[start + 2 : start + 4], "big"), 4
            elif length == 127:
                if len(buffer) - start < 10:
                    break
                length, header = int.from_bytes(buffer[start + 2 : start + 10], "big"), 10
            if len(buffer) - start < header + length:
                break
            if buffer[start] == _TEXT:
                self._receive(bytes(buffer[start + header : start + header + length]))
            elif buffer[start] == _CLOSE:
                self.closed = True
                self.close_code = int.from_bytes(buffer[start + header : start + header + 2], "big") or 1005
                if self._hung_up and self._transport is not None:
                    self._transport.close()
            start += header + length
        del buffer[:start]

    def _receive(self, message: bytes) -> None:
        now = self._now()
        playback = self.twilio.playback
        end_s = playback.end_s
        for echo in self.twilio.receive(message.decode(), now):
            self._send(echo)
        if message.startswith(_MEDIA):
            self.packets_in += 1
            self._note(now, end_s, playback.end_s)
        elif b'"clear"' in message:
            self._cleared = True

    def _note(self, now: float, end_s: float, new_end_s: float) -> None:
        """Begin a passage after a `clear` and after silence longer than any stall; else place the packet in
        it."""
        duration_s = new_end_s - max(end_s, now)
        passage = self._passage
        if passage is None or not passage.position_s or self._cleared or now - end_s > _BREAK_S:
            passage = self._passage = Passage()
            self.passages.append(passage)
            self._cleared = False
            position_s = 0.0
        else:
            position_s = passage.position_s[-1] + AUDIO_FRAME_S
            self.starved += now > end_s + 1 / LINE_RATE_HZ
        if duration_s > 0:
            passage.arrived_s.append(self._began_s + now)
            passage.position_s.append(position_s)

    def _send(self, message: str) -> None:
        if self._transport is None or self.closed:
            return
        payload = message.encode()
        length = len(payload)
        head = (
            bytes((_TEXT, 0x80 | length))
            if length < 126
            else bytes((_TEXT, 0xFE)) + length.to_bytes(2, "big")
        )
        self._transport.write(head + b"\0\0\0\0" + payload)

    def _now(self) -> float:
        return time.monotonic() - self._began_s


_CLOSED_WITHIN_S = 2.0
_BREAK_S = 0.5
"""A longer silence of the agent ends the passage: it had nothing to say. A shorter one is a stall."""


class Pacer:
    """Ticks every caller each 20 ms on a fixed schedule. `late_s` is how late each sub-tick was: the load's
    own jitter, which no server can be blamed for."""

    def __init__(self) -> None:
        self.callers: list[LoadCaller] = []
        self.late_s: array[float] = array("d")

    async def run(self) -> None:
        step_s = AUDIO_FRAME_S / SUB_TICKS
        began, number = time.monotonic(), 0
        while True:
            number += 1
            due = began + number * step_s
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            elif number % SUB_TICKS == 0:
                await asyncio.sleep(0)
            self.late_s.append(time.monotonic() - due)
            for caller in self.callers[number % SUB_TICKS :: SUB_TICKS]:
                caller.tick()
