"""The server's side of Twilio Media Streams, without I/O.

Messages and the time go in, events come out; outbound messages are formatted here and sent by a shell
(`telephony.twilio.stream`). Wire format: https://www.twilio.com/docs/voice/media-streams/websocket-messages

    protocol = MediaStreamProtocol(now)
    events = protocol.receive_message(text, now)      # raises RemoteProtocolError: close the socket
    await socket.send(protocol.media(pcm))            # raises LocalProtocolError
    ... at protocol.next_deadline(): protocol.handle_timer(now)

A message that breaks a rule by itself (binary, bad JSON, odd base64, wrong streamSid, too long) is
counted and skipped: the call goes on, unless there is a flood of them. A message that is out of order
(two starts, media before start) shows that the peer does not speak this protocol, and ends the stream.
Unknown events are counted and skipped, for Twilio may add some.
"""

import binascii
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import numpy as np

from pipeline.line import AudioReceived, KeyPressed, LineEvent, MarkReached, Pcm
from telephony import g711
from telephony.allowance import Allowance
from telephony.media_clock import MediaClock
from telephony.twilio.errors import LocalProtocolError, RemoteProtocolError, StreamTimeout


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may take. A healthy one sends 50 messages/s of some 300 characters."""

    start_timeout_s: float = 5.0
    media_timeout_s: float = 10.0
    max_message_chars: int = 65_536
    """About 6 s of audio in one message."""
    messages_per_s: float = 200.0
    message_burst: int = 600
    """A network that stalled for almost `media_timeout_s` delivers 500 at once."""
    malformed_per_s: float = 5.0
    malformed_burst: int = 50
    max_gap_s: float = 10.0
    max_lead_s: float = 10.0
    max_pending_marks: int = 1024
    """A client that never returns marks must not fill the memory."""


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """`start`: the stream has a name, and carries mu-law at 8 kHz. Nothing here is authenticated yet."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """`stop`: the call has ended, or the stream was stopped. Nothing follows."""


StreamEvent = StreamStarted | StreamStopped | LineEvent


class State(Enum):
    EXPECT_CONNECTED = "expect connected"
    EXPECT_START = "expect start"
    STREAMING = "streaming"
    STOPPED = "stopped"
    FAILED = "failed"


_KNOWN_EVENTS: Final = frozenset({"connected", "start", "media", "dtmf", "mark", "stop"})

TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.EXPECT_CONNECTED, "connected"): State.EXPECT_START,
    # Some test clients leave out `connected`, which carries nothing.
    (State.EXPECT_CONNECTED, "start"): State.STREAMING,
    (State.EXPECT_START, "start"): State.STREAMING,
    (State.EXPECT_START, "stop"): State.STOPPED,
    (State.STREAMING, "media"): State.STREAMING,
    (State.STREAMING, "dtmf"): State.STREAMING,
    (State.STREAMING, "mark"): State.STREAMING,
    (State.STREAMING, "stop"): State.STOPPED,
}
"""A pair that is absent is a protocol error of the peer."""

_OVER: Final = frozenset({State.STOPPED, State.FAILED})
_CALL_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,15}", re.ASCII)
_LARGEST_NUMBER: Final = 10**15
_TWILIOS_MEDIA: Final = re.compile(
    r'\{"event":"media","sequenceNumber":"[0-9]{1,15}","media":\{"track":"inbound","chunk":"[0-9]{1,15}",'
    r'"timestamp":"([0-9]{1,15})","payload":"',
    re.ASCII,
)
"""How the message begins of which there are fifty a second, as Twilio writes it; the payload follows, and the
stream's name. What is written in any other way, even by a space, is parsed as JSON, to the same effect."""
_DIGITS: Final = frozenset("0123456789*#ABCD")
_MAX_SID_CHARS: Final = 128
_MAX_PARAMETERS: Final = 64
_MAX_PARAMETER_CHARS: Final = 1_000
"""Twilio's own limit is 500 for name and value together."""


class _Malformed(Exception):
    """This one message is wrong. The argument is the counter to add it to."""


class MediaStreamProtocol:
    """One stream, from the opened WebSocket to its end. `now` is monotonic seconds, on any origin.

    `state` tells where it stands; `counters` what was odd about it, by name.
    """

    def __init__(self, now: float, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.state = State.EXPECT_CONNECTED
        self.counters: Counter[str] = Counter()
        self._start_deadline = now + limits.start_timeout_s
        self._last_media_at = now
        self._messages = Allowance(limits.messages_per_s, limits.message_burst, now)
        self._malformed = Allowance(limits.malformed_per_s, limits.malformed_burst, now)
        self._clock = MediaClock(max_gap_s=limits.max_gap_s, max_lead_s=limits.max_lead_s)
        self._stream_sid = ""
        self._media_head = self._media_tail = self._mark_head = self._clear = ""
        # Wire name -> the caller's name for it, and whether a clear overtook it.
        self._marks: dict[str, tuple[str, bool]] = {}
        self._mark_serial = 0
        self._handlers = {"media": self._on_media, "dtmf": self._on_dtmf, "mark": self._on_mark}

    # What arrives

    def receive_message(self, message: str | bytes, now: float) -> list[StreamEvent]:
        """Events of one whole WebSocket message, in order; none where it was skipped or where the
        stream is over. Raises `RemoteProtocolError` when the stream must end; the state is then FAILED."""
        if self.state in _OVER:
            return []
        if not self._messages.take(now):
            raise self._fail(f"more than {self.limits.messages_per_s:.0f} messages per second", 1008)
        try:
            return self._receive(message, now)
        except _Malformed as fault:
            self.counters[str(fault)] += 1
            if not self._malformed.take(now):
                raise self._fail(f"too many malformed messages, the last one: {fault}", 1008) from None
            return []

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`, unless a message comes before; None when the stream is over."""
        if self.state is State.STREAMING:
            return self._last_media_at + self.limits.media_timeout_s
        return None if self.state in _OVER else self._start_deadline

    def handle_timer(self, now: float) -> None:
        """Raises `StreamTimeout` when the deadline has passed; else does nothing."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is State.STREAMING:
            reason = f"no media for {self.limits.media_timeout_s:g} s"
        else:
            reason = f"no start within {self.limits.start_timeout_s:g} s"
        self.state = State.FAILED
        raise StreamTimeout(reason, 1008)

    def _fail(self, reason: str, close_code: int = 1002) -> RemoteProtocolError:
        self.state = State.FAILED
        return RemoteProtocolError(reason, close_code)

    def _receive(self, message: str | bytes, now: float) -> list[StreamEvent]:
        if not isinstance(message, str):
            raise _Malformed("binary message")  # 31950 at Twilio's end
        if len(message) > self.limits.max_message_chars:
            raise _Malformed("message too long")
        usual = _TWILIOS_MEDIA.match(message)
        if usual is not None and self._media_tail and message.endswith(self._media_tail, usual.end()):
            payload = message[usual.end() : -len(self._media_tail)]
            try:
                mulaw = binascii.a2b_base64(payload, strict_mode=True)
            except ValueError:
                pass  # with escapes it may still be one
            else:
                return self._on_mulaw(mulaw, int(usual[1]), now)
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
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise self._fail(f"{event} in state {self.state.value!r}")
        if event == "connected":
            self.state = state
            return []
        if event == "start":
            return [self._on_start(fields, now)]
        # Before start there is no name to compare with; a stop is a stop.
        if self.state is State.STREAMING and fields.get("streamSid", self._stream_sid) != self._stream_sid:
            raise _Malformed("wrong streamSid")
        if event == "stop":
            self.state = state
            return [StreamStopped()]
        body = fields.get(event)
        if not isinstance(body, dict):
            raise _Malformed(f"{event} without its fields")
        return self._handlers[event](body, now)

    def _on_start(self, fields: dict[str, Any], now: float) -> StreamStarted:
        """Every fault is final here: without a valid start there is no stream."""
        body = fields.get("start")
        if not isinstance(body, dict):
            raise self._fail("start without its fields")
        sid = fields.get("streamSid", body.get("streamSid"))
        if not isinstance(sid, str) or not 1 <= len(sid) <= _MAX_SID_CHARS:
            raise self._fail("start without a streamSid")
        if body.get("streamSid", sid) != sid:
            raise self._fail("start names two streamSids")
        call_sid = body.get("callSid")
        if not isinstance(call_sid, str) or not _CALL_SID.fullmatch(call_sid):
            raise self._fail("start.callSid must be 1 to 64 letters, digits, - or _")
        self._check_format(body.get("mediaFormat"))
        account_sid = body.get("accountSid")
        # Written once, for the templates: a name with a quote in it must not break the JSON.
        quoted = json.dumps(sid)
        self._stream_sid = sid
        self._media_head = f'{{"event":"media","streamSid":{quoted},"media":{{"payload":"'
        # A name that JSON writes otherwise than it is comes back in a way of its own.
        self._media_tail = f'"}},"streamSid":{quoted}}}'
        self._mark_head = f'{{"event":"mark","streamSid":{quoted},"mark":{{"name":'
        self._clear = f'{{"event":"clear","streamSid":{quoted}}}'
        self._last_media_at = now
        self.state = State.STREAMING
        return StreamStarted(
            stream_sid=sid,
            call_sid=call_sid,
            account_sid=account_sid if isinstance(account_sid, str) else "",
            parameters=_parameters(body.get("customParameters")),
        )

    def _check_format(self, media_format: Any) -> None:
        """Refuse what we would play as noise. Absent keys mean what Twilio documents as always so."""
        if media_format is None:
            return
        if not isinstance(media_format, dict):
            raise self._fail("start.mediaFormat is not an object")
        encoding = media_format.get("encoding", "audio/x-mulaw")
        rate = media_format.get("sampleRate", 8000)
        channels = media_format.get("channels", 1)
        if encoding != "audio/x-mulaw" or _number(rate) != 8000 or _number(channels) != 1:
            shown = " ".join(_shown(part) for part in (encoding, rate, channels))
            raise self._fail(f"mediaFormat must be audio/x-mulaw 8000 1, not {shown}", 1003)

    def _on_media(self, media: dict[str, Any], now: float) -> list[StreamEvent]:
        if media.get("track", "inbound") != "inbound":
            self.counters["media of another track"] += 1
            return []
        payload = media.get("payload")
        if not isinstance(payload, str):
            raise _Malformed("media without payload")
        mulaw = _mulaw(payload)
        timestamp = _number(media.get("timestamp"))
        if timestamp is None or timestamp < 0:
            self.counters["bad timestamp"] += 1
            timestamp = None
        return self._on_mulaw(mulaw, timestamp, now)

    def _on_mulaw(self, mulaw: bytes, timestamp: int | None, now: float) -> list[StreamEvent]:
        jumps = self._clock.jumps
        gap = self._clock.place(len(mulaw), timestamp, now)
        if gap is None:
            raise _Malformed("more audio than time")
        if self._clock.jumps != jumps:
            self.counters["timestamp jump"] += 1
        self._last_media_at = now
        events: list[StreamEvent] = []
        if gap:
            self.counters["samples filled with silence"] += gap
            events.append(AudioReceived(np.zeros(gap, dtype=np.int16)))
        if mulaw:
            events.append(AudioReceived(g711.decode(mulaw)))
        return events

    def _on_dtmf(self, dtmf: dict[str, Any], now: float) -> list[StreamEvent]:
        digit = dtmf.get("digit")
        if isinstance(digit, int) and not isinstance(digit, bool):
            digit = str(digit)
        if not isinstance(digit, str) or digit.upper() not in _DIGITS:
            raise _Malformed("bad digit")
        return [KeyPressed(digit.upper())]

    def _on_mark(self, mark: dict[str, Any], now: float) -> list[StreamEvent]:
        name = mark.get("name")
        if not isinstance(name, str):
            raise _Malformed("mark without name")
        known = self._marks.pop(name, None)
        if known is None:
            self.counters["unknown mark"] += 1
            return []
        local_name, cleared = known
        return [MarkReached(local_name, heard=not cleared)]

    # What we send

    def media(self, pcm: Pcm) -> str:
        """The message that plays (n,) int16 at 8 kHz after what was sent before. Raises
        `LocalProtocolError` outside a stream."""
        self._must_stream("media")
        # 0.6 microseconds where json.dumps takes 7. Exactly these keys: 31951 warns of others.
        payload = binascii.b2a_base64(g711.encode(pcm), newline=False).decode("ascii")
        return f'{self._media_head}{payload}"}}}}'

    def mark(self, name: str) -> str:
        """The message whose echo becomes `MarkReached(name)`. On the wire the name gets a serial number,
        so that no echo is ever taken for another's, whatever names are used again."""
        self._must_stream("mark")
        self._mark_serial += 1
        wire_name = f"{self._mark_serial}:{name}"
        if len(self._marks) >= self.limits.max_pending_marks:
            del self._marks[next(iter(self._marks))]
            self.counters["mark never returned"] += 1
        self._marks[wire_name] = (name, False)
        return f"{self._mark_head}{json.dumps(wire_name)}}}}}"

    def clear(self) -> str:
        """The message that discards what was not played yet. Twilio then returns every pending mark,
        and an echo on its way cannot be told from those: none of them counts as heard."""
        self._must_stream("clear")
        self._marks = {wire: (name, True) for wire, (name, _) in self._marks.items()}
        return self._clear

    def take_marks(self) -> list[str]:
        """The names of the marks that have not come back, oldest first; they are expected no more. For a
        stream that ends before its call does."""
        names = [name for name, _ in self._marks.values()]
        self._marks.clear()
        return names

    def _must_stream(self, what: str) -> None:
        if self.state is not State.STREAMING:
            raise LocalProtocolError(f"cannot send {what} in state {self.state.value!r}")


def _mulaw(payload: str) -> bytes:
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is text that is not ASCII
        raise _Malformed("bad base64") from None


def _number(value: Any) -> int | None:
    """A decimal integer, written as Twilio does ("20") or as others do (20, 20.0); else None."""
    if isinstance(value, str):
        return int(value) if _DECIMAL.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The comparison also refuses infinity and not-a-number, which Python's JSON reads.
    return int(value) if -_LARGEST_NUMBER < value < _LARGEST_NUMBER and value == int(value) else None


def _shown(value: Any) -> str:
    """The peer's value, short enough for a close frame."""
    return ascii(value)[:24] if isinstance(value, str | int | float) else type(value).__name__


def _parameters(custom: Any) -> dict[str, str]:
    if not isinstance(custom, dict):
        return {}
    parameters = {}
    for name, value in list(custom.items())[:_MAX_PARAMETERS]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and len(name) + len(value) <= _MAX_PARAMETER_CHARS:
            parameters[name] = value
    return parameters
