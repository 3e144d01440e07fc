"""The agent's side of chan_websocket, without I/O.

Messages, audio and the time go in; events and messages to send come out:

    protocol = MediaWebSocketProtocol(now)
    events = protocol.receive_message(message, now)   # raises RemoteProtocolError: close the socket
    protocol.send_audio(pcm, now)                     # raises LocalProtocolError outside a call
    for message in protocol.to_send(): ...            # after each of these calls, in order
    ... at protocol.next_deadline(): events = protocol.handle_timer(now)

Binary messages are the channel's codec and nothing else; text is control (`telephony.asterisk.control`).
Asterisk plays what it gets out of a queue of its own, one piece of `optimal_frame_size` bytes each 20 ms, and
drops the tail of a message that is no whole number of them (outside START_MEDIA_BUFFERING, after which a
FLUSH_MEDIA has to begin anew). So we cut the pieces ourselves: a tail waits for the audio that continues it,
and is filled up with silence only when the queue is about to run dry.

FLUSH_MEDIA throws marks away together with the audio and tells nobody; the protocol returns them itself.
https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from pipeline.line import LINE_RATE_HZ, AudioReceived, KeyPressed, MarkReached, Pcm
from telephony.allowance import Allowance
from telephony.asterisk.codecs import CODECS, Codec
from telephony.asterisk.control import ARGUMENT, Control, MalformedControl, command, parse
from telephony.asterisk.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    StreamTimeout,
    WrongAudio,
)
from telephony.asterisk.events import CallEvent, MediaStarted
from telephony.asterisk.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take. A healthy one sends 50 messages/s of 160 or 320 bytes."""

    start_timeout_s: float = 5.0
    media_timeout_s: float = 30.0
    max_text_chars: int = 65_536
    """Channel variables can make a start long; nothing else is."""
    max_binary_bytes: int = 65_536
    messages_per_s: float = 200.0
    message_burst: int = 600
    malformed_per_s: float = 5.0
    malformed_burst: int = 50
    max_lead_s: float = 10.0
    max_pending_marks: int = 1024
    max_held_s: float = 60.0
    """Audio kept here until Asterisk has room for it."""


class State(Enum):
    EXPECT_START = "expect start"
    STREAMING = "streaming"
    OVER = "over"
    FAILED = "failed"


DIGITS: Final = frozenset("0123456789*#ABCD")
_TAIL_MARGIN_S: Final = 0.030
"""A tail is filled up so long before Asterisk's queue runs dry: its timer's 20 ms, and some way."""
_OVER: Final = frozenset({State.OVER, State.FAILED})
_MOST_AHEAD_S: Final = 10.0
"""Asterisk queues 20 s, says so at 18 and again at 16, and drops the rest. Nothing needs as much."""
_LARGEST_PIECE_BYTES: Final = 8_000
_LARGEST_SENT_BYTES: Final = 16_000
_MAX_VARIABLES: Final = 64
_MAX_VARIABLE_CHARS: Final = 1_000
_WORKLESS: Final = frozenset({"QUEUE_DRAINED", "MEDIA_BUFFERING_COMPLETED", "STATUS"})
"""Events that we did not ask for and need not."""


class _Malformed(Exception):
    """This one message is wrong. The argument is the counter to add it to."""


class MediaWebSocketProtocol:
    """One channel, from the opened WebSocket to its end. `now` is monotonic seconds, on any origin.

    `state` tells where it stands; `counters` what was odd about it, by name.
    """

    def __init__(self, now: float, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.state = State.EXPECT_START
        self.counters: Counter[str] = Counter()
        self.incomplete = False
        """WebSocket messages come whole."""
        self.last_error = ""
        """What Asterisk complained about last."""
        self._start_deadline = now + limits.start_timeout_s
        self._last_media_at = now
        self._messages = Allowance(limits.messages_per_s, limits.message_burst, now)
        self._malformed = Allowance(limits.malformed_per_s, limits.malformed_burst, now)
        self._timeline = Timeline(max_lead_s=limits.max_lead_s)
        self._codec: Codec = CODECS["ulaw"]
        self._piece_bytes = 0
        self._json = False
        # What we send: ready; held until Asterisk has room; a part of a piece, and its marks.
        self._outbox: deque[str | bytes] = deque()
        self._held: deque[str | bytes] = deque()
        self._held_bytes = 0
        self._full = False
        self._tail = bytearray()
        self._tail_marks: list[str] = []
        self._queue_end_s = now
        self._marks: dict[str, str] = {}
        self._mark_serial = 0
        self._handlers: dict[str, Callable[[Control, float], list[CallEvent]]] = {
            "DTMF_END": self._on_dtmf,
            "MEDIA_MARK_PROCESSED": self._on_mark,
            "MEDIA_XOFF": self._on_xoff,
            "MEDIA_XON": self._on_xon,
            "ERROR": self._on_error,
        }

    # What arrives

    def receive_message(self, message: str | bytes, now: float) -> list[CallEvent]:
        """Events of one whole WebSocket message, in order; none where it was skipped or where the call is
        over. Raises `RemoteProtocolError` when the call must end; the state is then FAILED."""
        if self.state in _OVER:
            return []
        if not self._messages.take(now):
            raise self._fail(f"more than {self.limits.messages_per_s:.0f} messages per second", 1008)
        try:
            if isinstance(message, str):
                return self._receive_text(message, now)
            return self._receive_audio(message, now)
        except (_Malformed, MalformedControl) as fault:
            self.counters[str(fault)] += 1
            if not self._malformed.take(now):
                raise self._fail(f"too many malformed messages, the last one: {fault}", 1008) from None
            return []

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`, unless a message comes before; None when the call is over."""
        if self.state in _OVER:
            return None
        if self.state is State.EXPECT_START:
            return self._start_deadline
        deadlines = [self._last_media_at + self.limits.media_timeout_s]
        if (fill_at := self._timeline.next_deadline()) is not None:
            deadlines.append(fill_at)
        if self._tail:
            deadlines.append(self._tail_deadline())
        if self._held and not self._full:
            deadlines.append(self._queue_end_s - _MOST_AHEAD_S)
        return min(deadlines)

    def handle_timer(self, now: float) -> list[CallEvent]:
        """What is due at `now`: silence for audio that stays away. Raises `StreamTimeout`."""
        if self.state in _OVER:
            return []
        if self.state is State.EXPECT_START:
            if now >= self._start_deadline:
                self.state = State.FAILED
                raise StreamTimeout(f"no start within {self.limits.start_timeout_s:g} s")
            return []
        if now >= self._last_media_at + self.limits.media_timeout_s:
            self.state = State.FAILED
            raise StreamTimeout(f"no media for {self.limits.media_timeout_s:g} s")
        if self._tail and now >= self._tail_deadline():
            self._fill_up_tail(now)
        self._release(now)
        return self._silence(now)

    def _silence(self, now: float) -> list[CallEvent]:
        missing = self._timeline.fill(now)
        if not missing:
            return []
        self.counters["samples filled with silence"] += missing
        return [AudioReceived(np.zeros(missing, np.int16))]

    def _fail(self, reason: str, close_code: int = 1002) -> RemoteProtocolError:
        self.state = State.FAILED
        return RemoteProtocolError(reason, close_code)

    def _receive_audio(self, data: bytes, now: float) -> list[CallEvent]:
        if self.state is State.EXPECT_START:
            raise self._fail("audio before MEDIA_START")
        if len(data) > self.limits.max_binary_bytes:
            raise _Malformed("audio message too long")
        if not data:
            raise _Malformed("empty audio message")
        if len(data) % self._codec.bytes_per_sample:
            raise _Malformed("half a sample")
        silence = self._silence(now)
        if not self._timeline.take(len(data) // self._codec.bytes_per_sample, now):
            raise _Malformed("more audio than time")
        self._last_media_at = now
        return [*silence, AudioReceived(self._codec.decode(data))]

    def _receive_text(self, text: str, now: float) -> list[CallEvent]:
        if len(text) > self.limits.max_text_chars:
            raise _Malformed("text too long")
        control = parse(text)
        if control.event == "MEDIA_START":
            if self.state is not State.EXPECT_START:
                raise self._fail("a second MEDIA_START")
            return [self._on_start(control, now)]
        if self.state is State.EXPECT_START:
            raise self._fail(f"{control.event[:32]} before MEDIA_START")
        handler = self._handlers.get(control.event)
        if handler is not None:
            return handler(control, now)
        if control.event not in _WORKLESS:
            self.counters["unknown event"] += 1
        return []

    def _on_start(self, control: Control, now: float) -> MediaStarted:
        """Every fault is final here: without a valid start there is no call."""
        form = control.text("format")
        if not control.text("channel_id") or not form:
            raise self._fail("MEDIA_START without channel_id or format")
        codec = CODECS.get(form)
        if codec is None:
            self.state = State.FAILED
            supported = ", ".join(f"c({name})" for name in CODECS)
            raise WrongAudio(
                f"format {ascii(form)[:24]} is not supported",
                f"write one of {supported} into the dial string: WebSocket/.../c(ulaw)",
            )
        size = control.number("optimal_frame_size")
        if size == 0:
            self.state = State.FAILED
            raise WrongAudio(
                "the channel is in passthrough mode, in which Asterisk keeps no time",
                "leave the option p out of the dial string",
            )
        if size is None or size > _LARGEST_PIECE_BYTES or size % codec.bytes_per_sample:
            raise self._fail("MEDIA_START without a usable optimal_frame_size")
        self._codec, self._piece_bytes, self._json = codec, size, control.is_json
        self._last_media_at = self._queue_end_s = now
        self.state = State.STREAMING
        return MediaStarted(
            connection_id=control.text("connection_id"),
            channel=control.text("channel"),
            channel_id=control.text("channel_id"),
            format=form,
            variables=_variables(control.fields.get("channel_variables")),
        )

    def _on_dtmf(self, control: Control, now: float) -> list[CallEvent]:
        digit = control.text("digit").upper()
        if digit not in DIGITS:
            raise _Malformed("bad digit")
        return [KeyPressed(digit)]

    def _on_mark(self, control: Control, now: float) -> list[CallEvent]:
        name = self._marks.pop(control.text(ARGUMENT), None)
        if name is None:
            # Played just as we flushed, so that it was returned already; or nobody's.
            self.counters["unknown mark"] += 1
            return []
        return [MarkReached(name, heard=True)]

    def _on_xoff(self, control: Control, now: float) -> list[CallEvent]:
        self._full = True
        self.counters["queue full"] += 1
        return []

    def _on_xon(self, control: Control, now: float) -> list[CallEvent]:
        self._full = False
        self._release(now)
        return []

    def _on_error(self, control: Control, now: float) -> list[CallEvent]:
        self.counters["error reported by Asterisk"] += 1
        self.last_error = control.text("error_text")[:200]
        return []

    # What we send

    def to_send(self) -> deque[str | bytes]:
        """What to send, oldest first; the caller takes it out (`popleft`) as it sends."""
        return self._outbox

    def send_audio(self, pcm: Pcm, now: float) -> None:
        """Play (n,) int16 at 8 kHz after what was sent before. Raises `LocalProtocolError`."""
        self._must_stream("audio")
        self._tail += self._codec.encode(pcm)
        whole = len(self._tail) // self._piece_bytes * self._piece_bytes
        if not whole:
            # Not later than the audio before it ends, and at once where there is none.
            self._queue_end_s = max(self._queue_end_s, now)
            return
        data = bytes(self._tail[:whole])
        del self._tail[:whole]
        self._emit_audio(data, now)
        self._emit_tail_marks()

    def send_mark(self, name: str) -> None:
        """`MarkReached(name)` follows once everything before it was played. On the wire it is a number, which
        fits into Asterisk's 128 bytes whatever the name, and is never another's."""
        self._must_stream("mark")
        self._mark_serial += 1
        wire_name = str(self._mark_serial)
        if len(self._marks) >= self.limits.max_pending_marks:
            del self._marks[next(iter(self._marks))]
            self.counters["mark never returned"] += 1
        self._marks[wire_name] = name
        if self._tail:
            self._tail_marks.append(wire_name)
        else:
            self._emit_mark(wire_name)

    def clear(self, now: float) -> list[CallEvent]:
        """Discard what was not played yet. Every pending mark comes back at once, and none of them counts as
        heard: which of them Asterisk has just played cannot be told."""
        self._must_stream("clear")
        self._outbox.append(command("FLUSH_MEDIA", as_json=self._json))
        self._held.clear()
        self._held_bytes = 0
        self._tail.clear()
        self._tail_marks.clear()
        self._queue_end_s = now
        marks, self._marks = self._marks, {}
        return [MarkReached(name, heard=False) for name in marks.values()]

    def hang_up(self) -> None:
        """Hang the channel up; the rest of the dialplan goes on where it says so. Nothing may follow."""
        if self.state is State.STREAMING:
            self._outbox.append(command("HANGUP", as_json=self._json))
        self.state = State.OVER

    def _must_stream(self, what: str) -> None:
        if self.state is not State.STREAMING:
            raise LocalProtocolError(f"cannot send {what} in state {self.state.value!r}")

    def _seconds(self, n_bytes: int) -> float:
        return n_bytes / self._codec.bytes_per_sample / LINE_RATE_HZ

    def _tail_deadline(self) -> float:
        return self._queue_end_s + self._seconds(self._held_bytes) - _TAIL_MARGIN_S

    def _fill_up_tail(self, now: float) -> None:
        missing = (self._piece_bytes - len(self._tail)) // self._codec.bytes_per_sample
        piece = bytes(self._tail) + self._codec.encode(np.zeros(missing, np.int16))
        self._tail.clear()
        self._emit_audio(piece, now)
        self._emit_tail_marks()

    def _emit_tail_marks(self) -> None:
        marks, self._tail_marks = self._tail_marks, []
        for wire_name in marks:
            self._emit_mark(wire_name)

    def _emit_mark(self, wire_name: str) -> None:
        text = command("MARK_MEDIA", wire_name, as_json=self._json)
        (self._held if self._held else self._outbox).append(text)

    def _emit_audio(self, data: bytes, now: float) -> None:
        if self._seconds(self._held_bytes + len(data)) > self.limits.max_held_s:
            self.counters["audio dropped: Asterisk's queue stayed full"] += 1
            return
        self._held_bytes += len(data)
        # Asterisk reads no WebSocket message above some 64 kB.
        step = max(1, _LARGEST_SENT_BYTES // self._piece_bytes) * self._piece_bytes
        self._held.extend(data[start : start + step] for start in range(0, len(data), step))
        self._release(now)

    def _release(self, now: float) -> None:
        """Hand over what Asterisk has room for."""
        while self._held and not self._full:
            head = self._held[0]
            if isinstance(head, bytes):
                if self._queue_end_s - now > _MOST_AHEAD_S:
                    return
                self._queue_end_s = max(self._queue_end_s, now) + self._seconds(len(head))
                self._held_bytes -= len(head)
            self._outbox.append(self._held.popleft())


def _variables(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    variables = {}
    for name, value in list(given.items())[:_MAX_VARIABLES]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and len(name) + len(value) <= _MAX_VARIABLE_CHARS:
            variables[name] = value
    return variables
