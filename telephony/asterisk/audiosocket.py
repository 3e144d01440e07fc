"""AudioSocket, the server's side, without I/O.

Bytes and the time go in, events and bytes to send come out:

    protocol = AudioSocketProtocol(now)
    events = protocol.receive_message(data, now)      # any piece of the stream; raises RemoteProtocolError
    ... every 20 ms: data, events = protocol.beat()   # one AudioFrame for the caller, silence if need be
    ... at protocol.next_deadline(): events = protocol.handle_timer(now)

A message is one byte of kind, two of length (big-endian), and the payload. Asterisk plays what it gets at
once, so the beat is the caller's clock, and what has left cannot be taken back. Audio waits here until then.
https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket/
"""

import struct
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

import numpy as np

from pipeline.line import (
    AUDIO_FRAME_SAMPLES,
    LINE_RATE_HZ,
    AudioReceived,
    KeyPressed,
    LineEvent,
    MarkReached,
    Pcm,
)
from telephony import g711
from telephony.allowance import Allowance
from telephony.asterisk.codecs import decode_slin, encode_slin
from telephony.asterisk.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    StreamTimeout,
    WrongAudio,
)
from telephony.asterisk.events import CallEvent, PeerEnded, UuidReceived
from telephony.asterisk.protocol import DIGITS
from telephony.asterisk.timeline import Timeline


class Kind(IntEnum):
    HANG_UP = 0x00
    UUID = 0x01
    DTMF = 0x03
    AUDIO = 0x10
    ERROR = 0xFF


OTHER_RATES_HZ: Final = {
    0x11: 12_000,
    0x12: 16_000,
    0x13: 24_000,
    0x14: 32_000,
    0x15: 44_100,
    0x16: 48_000,
    0x17: 96_000,
    0x18: 192_000,
}
"""Kinds of audio that newer Asterisks send for c(slin12) to c(slin192)."""

HEADER: Final = struct.Struct(">BH")
HANG_UP: Final = HEADER.pack(Kind.HANG_UP, 0)
AUDIO_FRAME_BYTES: Final = 2 * AUDIO_FRAME_SAMPLES

_AUDIO_HEADER: Final = HEADER.pack(Kind.AUDIO, AUDIO_FRAME_BYTES)
_SILENCE: Final = _AUDIO_HEADER + bytes(AUDIO_FRAME_BYTES)


@dataclass(frozen=True, slots=True)
class AudioSocketLimits:
    """What one call may take. A healthy one sends 50 messages/s of 323 bytes."""

    start_timeout_s: float = 5.0
    media_timeout_s: float = 30.0
    max_audio_bytes: int = 16_000
    """A second in one message. What claims to be longer is out of step, or no AudioSocket."""
    max_other_bytes: int = 1_024
    messages_per_s: float = 200.0
    message_burst: int = 600
    malformed_per_s: float = 5.0
    malformed_burst: int = 50
    max_lead_s: float = 10.0
    max_queued_s: float = 60.0
    max_pending_marks: int = 1024


class State(Enum):
    EXPECT_UUID = "expect UUID"
    STREAMING = "streaming"
    OVER = "over"
    FAILED = "failed"


_OVER: Final = frozenset({State.OVER, State.FAILED})
_CALLER_GONE: Final = 0x01
"""Asterisk's error code for a caller who hung up."""


class _Malformed(Exception):
    """This one message is wrong. The argument is the counter to add it to."""


class AudioSocketProtocol:
    """One call, from the opened connection to its end. `now` is monotonic seconds, on any origin."""

    def __init__(self, now: float, limits: AudioSocketLimits | None = None) -> None:
        self.limits = limits = limits or AudioSocketLimits()
        self.state = State.EXPECT_UUID
        self.counters: Counter[str] = Counter()
        self._start_deadline = now + limits.start_timeout_s
        self._last_media_at = now
        self._messages = Allowance(limits.messages_per_s, limits.message_burst, now)
        self._malformed = Allowance(limits.malformed_per_s, limits.malformed_burst, now)
        self._timeline = Timeline(max_lead_s=limits.max_lead_s)
        self._trap = MuLawTrap()
        self._buffer = bytearray()
        # What waits for its beat, and positions in it behind which a mark stands.
        self._queue = bytearray()
        self._marks: deque[tuple[int, str]] = deque()
        self._left_bytes = 0
        """Of the queue's own audio, since the call began; marks stand at such positions."""
        self._outbox: deque[str | bytes] = deque()

    # What arrives

    @property
    def incomplete(self) -> bool:
        """A message was torn: its rest has not arrived."""
        return bool(self._buffer)

    def receive_message(self, message: str | bytes, now: float) -> list[CallEvent]:
        """Events of one piece of the stream, which may hold many messages and parts of some. Raises
        `RemoteProtocolError` when the call must end; events before that are lost with it."""
        if self.state in _OVER:
            return []
        if isinstance(message, str):
            raise LocalProtocolError("AudioSocket is made of bytes")
        self._buffer += message
        events: list[CallEvent] = []
        at = 0
        while self.state not in _OVER and len(self._buffer) - at >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer, at)
            self._check_length(kind, length)
            end = at + HEADER.size + length
            if end > len(self._buffer):
                break
            payload = bytes(self._buffer[at + HEADER.size : end])
            at = end
            events += self._receive(kind, payload, now)
        del self._buffer[:at]
        return events

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`, unless bytes come before; None when the call is over."""
        if self.state in _OVER:
            return None
        if self.state is State.EXPECT_UUID:
            return self._start_deadline
        deadline = self._last_media_at + self.limits.media_timeout_s
        fill_at = self._timeline.next_deadline()
        return deadline if fill_at is None else min(deadline, fill_at)

    def handle_timer(self, now: float) -> list[CallEvent]:
        """What is due at `now`: silence for audio that stays away. Raises `StreamTimeout`."""
        if self.state in _OVER:
            return []
        if self.state is State.EXPECT_UUID:
            if now >= self._start_deadline:
                self.state = State.FAILED
                raise StreamTimeout(f"no UUID within {self.limits.start_timeout_s:g} s")
            return []
        if now >= self._last_media_at + self.limits.media_timeout_s:
            self.state = State.FAILED
            raise StreamTimeout(f"no media for {self.limits.media_timeout_s:g} s")
        return self._silence(now)

    def _silence(self, now: float) -> list[CallEvent]:
        missing = self._timeline.fill(now)
        if not missing:
            return []
        self.counters["samples filled with silence"] += missing
        return [AudioReceived(np.zeros(missing, np.int16))]

    def _fail(self, reason: str) -> RemoteProtocolError:
        self.state = State.FAILED
        return RemoteProtocolError(reason)

    def _check_length(self, kind: int, length: int) -> None:
        """Before the payload is waited for: nobody gets to fill our memory, or to keep us waiting."""
        if self.state is State.EXPECT_UUID and kind != Kind.UUID:
            raise self._fail(f"kind 0x{kind:02x} before the UUID")
        if kind in OTHER_RATES_HZ:
            self.state = State.FAILED
            raise WrongAudio(
                f"audio of kind 0x{kind:02x} ({OTHER_RATES_HZ[kind]} Hz)",
                "write Dial(AudioSocket/.../c(slin)): the agent hears and speaks at 8 kHz",
            )
        largest = self.limits.max_audio_bytes if kind == Kind.AUDIO else self.limits.max_other_bytes
        if length > largest:
            raise self._fail(f"a message of kind 0x{kind:02x} with {length} bytes")

    def _receive(self, kind: int, payload: bytes, now: float) -> list[CallEvent]:
        if not self._messages.take(now):
            raise self._fail(f"more than {self.limits.messages_per_s:.0f} messages per second")
        try:
            return self._receive_one(kind, payload, now)
        except _Malformed as fault:
            self.counters[str(fault)] += 1
            if not self._malformed.take(now):
                raise self._fail(f"too many malformed messages, the last one: {fault}") from None
            return []

    def _receive_one(self, kind: int, payload: bytes, now: float) -> list[CallEvent]:
        if kind == Kind.AUDIO:
            return self._on_audio(payload, now)
        if kind == Kind.DTMF:
            digit = payload.decode("latin-1").upper()
            if digit not in DIGITS:
                raise _Malformed("bad digit")
            return [KeyPressed(digit)]
        if kind == Kind.UUID:
            return [self._on_uuid(payload, now)]
        if kind == Kind.HANG_UP:
            self.state = State.OVER
            return [PeerEnded("caller hung up")]
        if kind == Kind.ERROR:
            self.state = State.OVER
            code = payload[0] if payload else 0
            self.counters["error reported by Asterisk"] += 1
            gone = code == _CALLER_GONE
            return [PeerEnded("caller hung up" if gone else f"Asterisk reported error 0x{code:02x}")]
        self.counters["unknown kind"] += 1
        return []

    def _on_uuid(self, payload: bytes, now: float) -> UuidReceived:
        if self.state is not State.EXPECT_UUID:
            raise self._fail("a second UUID")
        if len(payload) != 16:
            raise self._fail(f"a UUID of {len(payload)} bytes")
        self.state = State.STREAMING
        self._last_media_at = now
        return UuidReceived(uuid.UUID(bytes=payload))

    def _on_audio(self, payload: bytes, now: float) -> list[CallEvent]:
        if not payload:
            raise _Malformed("empty audio message")
        if len(payload) % 2:
            raise _Malformed("half a sample")
        if self._trap.sprung_by(payload):
            self.state = State.FAILED
            raise WrongAudio(
                "mu-law in messages that are marked as linear audio",
                "the dial string says c(ulaw), which AudioSocket labels wrongly: write "
                "Dial(AudioSocket/host:port/uuid/c(slin))",
            )
        silence = self._silence(now)
        if not self._timeline.take(len(payload) // 2, now):
            raise _Malformed("more audio than time")
        self._last_media_at = now
        return [*silence, AudioReceived(decode_slin(payload))]

    # What we send

    def to_send(self) -> deque[str | bytes]:
        """What to send beside the beat, oldest first; taken out as it is sent."""
        return self._outbox

    def send_audio(self, pcm: Pcm, now: float) -> None:
        """Queue (n,) int16 at 8 kHz for the coming beats. Raises `LocalProtocolError`."""
        self._must_stream("audio")
        if len(self._queue) > self.limits.max_queued_s * 2 * LINE_RATE_HZ:
            self.counters["audio dropped: the queue is full"] += 1
            return
        self._queue += encode_slin(pcm)

    def send_mark(self, name: str) -> None:
        """`MarkReached(name)` follows once everything before it was played."""
        self._must_stream("mark")
        if len(self._marks) >= self.limits.max_pending_marks:
            self._marks.popleft()
            self.counters["mark never returned"] += 1
        self._marks.append((self._left_bytes + len(self._queue), name))

    def clear(self, now: float) -> list[CallEvent]:
        """Discard what waits. What a mark stood behind has left already: it was heard, or is in its 20 ms."""
        self._must_stream("clear")
        played, self._queue = self._left_bytes, bytearray()
        marks, self._marks = self._marks, deque()
        return [MarkReached(name, heard=at <= played) for at, name in marks]

    def beat(self) -> tuple[bytes, list[LineEvent]]:
        """The message of the next 20 ms, and the marks that the 20 ms before it have passed; nothing outside
        a call. To be written at once: some Asterisks misread a header that comes in two parts."""
        if self.state is not State.STREAMING:
            return b"", []
        reached: list[LineEvent] = []
        while self._marks and self._marks[0][0] <= self._left_bytes:
            reached.append(MarkReached(self._marks.popleft()[1], heard=True))
        if not self._queue:
            return _SILENCE, reached
        audio = bytes(self._queue[:AUDIO_FRAME_BYTES])
        del self._queue[:AUDIO_FRAME_BYTES]
        self._left_bytes += len(audio)
        return _AUDIO_HEADER + audio.ljust(AUDIO_FRAME_BYTES, b"\0"), reached

    def hang_up(self) -> None:
        """Nothing may follow."""
        if self.state is State.STREAMING:
            self._outbox.append(HANG_UP)
        self.state = State.OVER

    def _must_stream(self, what: str) -> None:
        if self.state is not State.STREAMING:
            raise LocalProtocolError(f"cannot send {what} in state {self.state.value!r}")


class MuLawTrap:
    """Notices mu-law that is labelled as linear: `Dial(AudioSocket/.../c(ulaw))` sends 160 bytes where 320
    are due, and the caller would be heard as noise at twice the speed.

    160 bytes alone prove nothing, for a phone may send 10 ms at a time. But mu-law read as linear is far
    louder than what it means, while linear audio read as mu-law is loud whatever it means. Silence is the
    same in both, so only loud messages are judged, and several must agree.
    """

    _BYTES: Final = 160
    _LOUD: Final = 0.2 * 32_768
    _VERDICTS: Final = 10

    def __init__(self) -> None:
        self._against = 0

    def sprung_by(self, payload: bytes) -> bool:
        """Whether this message makes it certain."""
        if len(payload) != self._BYTES:
            self._against = 0
            return False
        as_linear = _rms(decode_slin(payload))
        if as_linear < self._LOUD:
            return False
        self._against = self._against + 1 if as_linear > 2 * _rms(g711.decode(payload)) else 0
        return self._against >= self._VERDICTS


def _rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(np.square(pcm.astype(np.float64)))))
