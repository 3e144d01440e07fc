"""The server's side of a call from the page, without I/O.

Binary messages carry audio. From the page: four bytes, big-endian, the number of the first sample on the
page's own timeline at 8 kHz, then mu-law, 160 samples as a rule; the number jumps where the page's audio was
interrupted (a phone that locked its screen). To the page: mu-law only, to be played after what was sent
before. Text messages are JSON objects with an `event`:

    page to server   start {version}, mark {id, heard}, key {digit}, stop
    server to page   mark {id}, clear, and what `telephony.browser.screen` tells

    protocol = PageProtocol(now)
    events = protocol.receive_message(message, now)   # raises RemoteProtocolError: close the socket
    await socket.send(protocol.media(pcm))            # raises LocalProtocolError
    ... at protocol.next_deadline(): protocol.handle_timer(now)

The page returns each mark when everything before it was played, or dropped by a `clear`, and says which: it
alone knows what a mark on its way met. A message that is wrong by itself is counted and skipped, unless there
is a flood of them; one that is out of order ends the call. Unknown events are counted and skipped.
"""

import json
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

from pipeline.line import LINE_RATE_HZ, AudioReceived, KeyPressed, LineEvent, MarkReached, Pcm
from telephony import g711
from telephony.allowance import Allowance
from telephony.browser.errors import LocalProtocolError, PageSilent, RemoteProtocolError
from telephony.media_clock import MediaClock

VERSION: Final = 1
HEADER_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may take. A healthy page sends 50 messages/s of 164 bytes."""

    start_timeout_s: float = 10.0
    media_timeout_s: float = 10.0
    max_text_chars: int = 1_024
    max_samples: int = LINE_RATE_HZ
    """In one message: 1 s."""
    messages_per_s: float = 120.0
    message_burst: int = 600
    """A network that stalled for almost `media_timeout_s` delivers 500 at once."""
    malformed_per_s: float = 5.0
    malformed_burst: int = 50
    max_gap_s: float = 10.0
    max_lead_s: float = 10.0
    max_pending_marks: int = 1024
    """A page that never returns marks must not fill the memory."""


@dataclass(frozen=True, slots=True)
class CallPlaced:
    """`start`: the page has its microphone and wants to talk."""


@dataclass(frozen=True, slots=True)
class CallLeft:
    """`stop`: the caller hung up. Nothing follows."""


PageEvent = CallPlaced | CallLeft | LineEvent


class State(Enum):
    EXPECT_START = "expect start"
    TALKING = "talking"
    STOPPED = "stopped"
    FAILED = "failed"


TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.EXPECT_START, "start"): State.TALKING,
    (State.EXPECT_START, "stop"): State.STOPPED,
    (State.TALKING, "media"): State.TALKING,
    (State.TALKING, "mark"): State.TALKING,
    (State.TALKING, "key"): State.TALKING,
    (State.TALKING, "stop"): State.STOPPED,
}
"""A pair that is absent is a protocol error of the page. `media` stands for every binary message."""

_KNOWN_EVENTS: Final = frozenset(event for _, event in TRANSITIONS) - {"media"}
_OVER: Final = frozenset({State.STOPPED, State.FAILED})
_DIGITS: Final = frozenset("0123456789*#ABCD")
_CLEAR: Final = '{"event":"clear"}'


class _Malformed(Exception):
    """This one message is wrong. The argument is the counter to add it to."""


class PageProtocol:
    """One call, from the opened WebSocket to its end. `now` is monotonic seconds, on any origin.

    `state` tells where it stands; `counters` what was odd about it, by name.
    """

    def __init__(self, now: float, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.state = State.EXPECT_START
        self.counters: Counter[str] = Counter()
        self._start_deadline = now + limits.start_timeout_s
        self._last_media_at = now
        self._messages = Allowance(limits.messages_per_s, limits.message_burst, now)
        self._malformed = Allowance(limits.malformed_per_s, limits.malformed_burst, now)
        self._clock = MediaClock(max_gap_s=limits.max_gap_s, max_lead_s=limits.max_lead_s)
        self._marks: dict[int, str] = {}
        self._mark_serial = 0

    # What arrives

    def receive_message(self, message: str | bytes, now: float) -> list[PageEvent]:
        """Events of one whole WebSocket message, in order; none where it was skipped or where the call is
        over. Raises `RemoteProtocolError` when the call must end; the state is then FAILED."""
        if self.state in _OVER:
            return []
        if not self._messages.take(now):
            raise self._fail(f"more than {self.limits.messages_per_s:.0f} messages per second", 1008)
        try:
            return self._on_text(message, now) if isinstance(message, str) else self._on_media(message, now)
        except _Malformed as fault:
            self.counters[str(fault)] += 1
            if not self._malformed.take(now):
                raise self._fail(f"too many malformed messages, the last one: {fault}", 1008) from None
            return []

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`, unless a message comes before; None when the call is over."""
        if self.state is State.TALKING:
            return self._last_media_at + self.limits.media_timeout_s
        return None if self.state in _OVER else self._start_deadline

    def handle_timer(self, now: float) -> None:
        """Raises `PageSilent` when the deadline has passed; else does nothing."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is State.TALKING:
            reason = f"no media for {self.limits.media_timeout_s:g} s"
        else:
            reason = f"no start within {self.limits.start_timeout_s:g} s"
        self.state = State.FAILED
        raise PageSilent(reason, 1008)

    def _fail(self, reason: str, close_code: int = 1002) -> RemoteProtocolError:
        self.state = State.FAILED
        return RemoteProtocolError(reason, close_code)

    def _move(self, event: str) -> None:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise self._fail(f"{event} in state {self.state.value!r}")
        self.state = state

    def _on_media(self, message: bytes, now: float) -> list[PageEvent]:
        self._move("media")
        mulaw = message[HEADER_BYTES:]
        if not mulaw:
            raise _Malformed("media without samples")
        if len(mulaw) > self.limits.max_samples:
            raise _Malformed("message too long")
        sample = int.from_bytes(message[:HEADER_BYTES], "big")
        jumps = self._clock.jumps
        gap = self._clock.place(len(mulaw), 1000 * sample // LINE_RATE_HZ, now)
        if gap is None:
            raise _Malformed("more audio than time")
        if self._clock.jumps != jumps:
            self.counters["sample number jump"] += 1
        self._last_media_at = now
        events: list[PageEvent] = []
        if gap:
            self.counters["samples filled with silence"] += gap
            events.append(AudioReceived(np.zeros(gap, dtype=np.int16)))
        events.append(AudioReceived(g711.decode(mulaw)))
        return events

    def _on_text(self, message: str, now: float) -> list[PageEvent]:
        if len(message) > self.limits.max_text_chars:
            raise _Malformed("message too long")
        try:
            fields = json.loads(message)
        except (ValueError, RecursionError):
            raise _Malformed("bad JSON") from None
        if not isinstance(fields, dict):
            raise _Malformed("not a JSON object")
        event = fields.get("event")
        if not isinstance(event, str):
            raise _Malformed("no event name")
        if event not in _KNOWN_EVENTS:
            self.counters["unknown event"] += 1
            return []
        self._move(event)
        if event == "start":
            if fields.get("version") != VERSION:
                raise self._fail("an old copy of the page: load it again", 1003)
            self._last_media_at = now
            return [CallPlaced()]
        if event == "stop":
            return [CallLeft()]
        return self._on_key(fields) if event == "key" else self._on_mark(fields)

    def _on_key(self, fields: dict[str, Any]) -> list[PageEvent]:
        digit = fields.get("digit")
        if not isinstance(digit, str) or digit.upper() not in _DIGITS:
            raise _Malformed("bad digit")
        return [KeyPressed(digit.upper())]

    def _on_mark(self, fields: dict[str, Any]) -> list[PageEvent]:
        number, heard = fields.get("id"), fields.get("heard")
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(heard, bool):
            raise _Malformed("mark without id and heard")
        name = self._marks.pop(number, None)
        if name is None:
            self.counters["unknown mark"] += 1
            return []
        return [MarkReached(name, heard=heard)]

    # What we send

    def media(self, pcm: Pcm) -> bytes:
        """The message that plays (n,) int16 at 8 kHz after what was sent before. Raises
        `LocalProtocolError` outside a call."""
        self._must_talk("media")
        return g711.encode(pcm)

    def mark(self, name: str) -> str:
        """The message whose return becomes `MarkReached(name)`. On the wire it has a serial number instead,
        so that names may be used again."""
        self._must_talk("mark")
        self._mark_serial += 1
        if len(self._marks) >= self.limits.max_pending_marks:
            del self._marks[next(iter(self._marks))]
            self.counters["mark never returned"] += 1
        self._marks[self._mark_serial] = name
        return f'{{"event":"mark","id":{self._mark_serial}}}'

    def clear(self) -> str:
        """The message that discards what was not played yet."""
        self._must_talk("clear")
        return _CLEAR

    def _must_talk(self, what: str) -> None:
        if self.state is not State.TALKING:
            raise LocalProtocolError(f"cannot send {what} in state {self.state.value!r}")
