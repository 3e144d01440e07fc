"""Twilio's end of a bidirectional Media Stream: messages in and out, and the playback buffer. No I/O.

Messages are written as Twilio writes them (twilio.com/docs/voice/media-streams/websocket-messages): numbers
that count are strings, `sampleRate` and `channels` are numbers, `sequenceNumber` counts every message after
`connected` from 1. What the server sends is held to the letter: exact keys, right `streamSid`, clean base64,
text only. Whatever Twilio would log as warning 31950 or 31951 is kept in `violations`, and is otherwise
ignored, as Twilio ignores it.

Time is an argument: `now_s` is seconds since the call's first stream started. The server's audio is played
from a buffer in media time: what is queued starts when what was queued before it ends, or at once. A mark
comes back when the audio queued before it has been played, at once if nothing is buffered; `clear` empties
the buffer and sends back every pending mark. Playback is exact to the sample; Twilio's own packet grid on the
phone leg (up to 20 ms) is not modelled, because it is documented nowhere.
"""

import base64
import binascii
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.line import LINE_RATE_HZ
from telephony import g711

_KEPT_VIOLATIONS = 50
_KEYS = {"media": {"payload"}, "mark": {"name"}}


@dataclass(slots=True)
class Cleared:
    """One `clear` of the server: when, and what it took back unheard. Samples count on the timeline."""

    sample: int
    unplayed: bytes
    next_sample: int | None = None
    """Where the audio begins that the server sent next; None if it sent none."""


class Playback:
    """Twilio's buffer of the server's audio, and with it everything the caller was ever played.

    `timeline` holds mu-law bytes, one a sample, from the start of the stream: the past is what was played,
    the future is what is buffered. `clears` are those of the server, in order.
    """

    def __init__(self) -> None:
        self.timeline = bytearray()
        self.clears: list[Cleared] = []

    @property
    def end_s(self) -> float:
        return len(self.timeline) / LINE_RATE_HZ

    def queue(self, mulaw: bytes, now_s: float) -> None:
        gap = _sample(now_s) - len(self.timeline)
        if gap > 0:
            self.timeline += _silence(gap)
        if mulaw and self.clears and self.clears[-1].next_sample is None:
            self.clears[-1].next_sample = len(self.timeline)
        self.timeline += mulaw

    def clear(self, now_s: float) -> None:
        """The server wants nothing more of this to be heard."""
        at = _sample(now_s)
        self.clears.append(Cleared(at, bytes(self.timeline[at:])))
        self.drop(now_s)

    def drop(self, now_s: float) -> None:
        """The call is over: what was not played never will be."""
        del self.timeline[_sample(now_s) :]

    def window(self, start: int, stop: int) -> bytes:
        """Samples [start, stop) as (stop - start) mu-law bytes; silence where nothing was played."""
        lead = min(max(-start, 0), stop - start)
        heard = bytes(self.timeline[max(start, 0) : max(stop, 0)])
        return _silence(lead) + heard + _silence(stop - start - lead - len(heard))


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    account_sid: str
    call_sid: str
    stream_sid: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """`<Parameter>`s of the TwiML, returned in `start.customParameters`."""


class TwilioSide:
    """One call's stream, or one after the other. Every method that builds a message returns it ready to send,
    in order."""

    def __init__(self, identity: StreamIdentity) -> None:
        self.playback = Playback()
        self.violations: list[str] = []
        self._media_head = '{"event":"media","sequenceNumber":"'
        self.begin(identity)
        self._began_ms: int | None = 0

    def begin(self, identity: StreamIdentity) -> None:
        """A stream of its own, with its own numbers, of the same call: what was played stays played."""
        self.identity = identity
        self.stopped = False
        self._sequence = 0
        self._chunk = 0
        self._began_ms = None
        self._marks: deque[tuple[float, str]] = deque()
        self._media_tail = '"},"streamSid":"' + identity.stream_sid + '"}'

    def open(self) -> list[str]:
        """`connected`, then `start`."""
        who = self.identity
        start = {
            "accountSid": who.account_sid,
            "streamSid": who.stream_sid,
            "callSid": who.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": LINE_RATE_HZ, "channels": 1},
            "customParameters": dict(who.parameters),
        }
        return [
            _json({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            _json(
                {
                    "event": "start",
                    "sequenceNumber": self._next(),
                    "start": start,
                    "streamSid": who.stream_sid,
                }
            ),
        ]

    def media(self, mulaw: bytes, timestamp_ms: int) -> str:
        """The caller's next mu-law bytes; `timestamp_ms` is when they were spoken, in the call."""
        self._chunk += 1
        if self._began_ms is None:
            # Times count from the stream's start.
            self._began_ms = timestamp_ms
        timestamp_ms -= self._began_ms
        return (
            f'{self._media_head}{self._next()}","media":{{"track":"inbound","chunk":"{self._chunk}",'
            f'"timestamp":"{timestamp_ms}","payload":"{base64.b64encode(mulaw).decode()}{self._media_tail}'
        )

    def dtmf(self, digit: str) -> str:
        return _json(
            {
                "event": "dtmf",
                "streamSid": self.identity.stream_sid,
                "sequenceNumber": self._next(),
                "dtmf": {"track": "inbound_track", "digit": digit},
            }
        )

    def stop(self) -> str:
        self.stopped = True
        who = self.identity
        return _json(
            {
                "event": "stop",
                "sequenceNumber": self._next(),
                "stop": {"accountSid": who.account_sid, "callSid": who.call_sid},
                "streamSid": who.stream_sid,
            }
        )

    def receive(self, message: str | bytes, now_s: float) -> list[str]:
        """Take one message of the server; returns the marks that it sends back at once."""
        if self.stopped:
            return []
        event, body = self._parse(message, now_s)
        if event == "media":
            self.playback.queue(body, now_s)
        elif event == "mark":
            name = body.decode()
            if self.playback.end_s <= now_s and not self._marks:
                return [self._mark(name)]
            self._marks.append((self.playback.end_s, name))
        elif event == "clear":
            self.playback.clear(now_s)
            pending, self._marks = self._marks, deque()
            return [self._mark(name) for _, name in pending]
        return []

    def advance(self, now_s: float) -> list[str]:
        """The marks whose audio has been played by `now_s`."""
        reached = []
        while self._marks and self._marks[0][0] <= now_s:
            reached.append(self._mark(self._marks.popleft()[1]))
        return reached

    def next_deadline(self) -> float | None:
        """When the next mark is due, in seconds since the stream started."""
        return self._marks[0][0] if self._marks and not self.stopped else None

    def _parse(self, message: str | bytes, now_s: float) -> tuple[str, bytes]:
        """(event, its audio or mark name as bytes); ("", b"") for what Twilio would refuse."""
        try:
            return self._checked(message)
        except _Refused as refused:
            if len(self.violations) < _KEPT_VIOLATIONS:
                self.violations.append(f"at {now_s:.3f} s: {refused}")
            return "", b""

    def _checked(self, message: str | bytes) -> tuple[str, bytes]:
        if not isinstance(message, str):
            raise _Refused("binary message (Twilio warning 31950)")
        try:
            fields = json.loads(message)
        except ValueError:
            raise _Refused(f"not JSON: {message[:60]!r}") from None
        if not isinstance(fields, dict):
            raise _Refused(f"not a JSON object: {message[:60]!r}")
        event = fields.get("event")
        if event not in ("media", "mark", "clear"):
            raise _Refused(f"unknown event {event!r}")
        _exactly(fields, {"event", "streamSid"} | ({event} if event in _KEYS else set()), f"{event} message")
        if fields["streamSid"] != self.identity.stream_sid:
            raise _Refused(f"{event} for another streamSid {fields['streamSid']!r}")
        if event == "clear":
            return event, b""
        body = fields[event]
        if not isinstance(body, dict):
            raise _Refused(f"{event}.{event} is not an object")
        _exactly(body, _KEYS[event], f"{event}.{event}")
        if event == "mark":
            if not isinstance(body["name"], str) or not body["name"]:
                raise _Refused("mark.name is not a non-empty string")
            return event, body["name"].encode()
        return event, _audio(body["payload"])

    def _mark(self, name: str) -> str:
        return _json(
            {
                "event": "mark",
                "sequenceNumber": self._next(),
                "streamSid": self.identity.stream_sid,
                "mark": {"name": name},
            }
        )

    def _next(self) -> str:
        self._sequence += 1
        return str(self._sequence)


class _Refused(Exception):
    """A message that Twilio would not take; the text says why."""


def _exactly(fields: Mapping[str, object], keys: set[str], where: str) -> None:
    if extra := sorted(fields.keys() - keys):
        raise _Refused(f"{where} with unexpected key {', '.join(map(repr, extra))} (Twilio warning 31951)")
    if missing := sorted(keys - fields.keys()):
        raise _Refused(f"{where} without {', '.join(map(repr, missing))} (Twilio warning 31951)")


def _audio(payload: object) -> bytes:
    if not isinstance(payload, str):
        raise _Refused("media.payload is not a string")
    try:
        mulaw = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise _Refused("media.payload is not base64") from None
    if mulaw[:4] == b"RIFF":
        raise _Refused("media.payload starts with a WAV header; Twilio wants raw mu-law")
    return mulaw


def _sample(seconds: float) -> int:
    return round(seconds * LINE_RATE_HZ)


def _silence(samples: int) -> bytes:
    return bytes((g711.SILENCE,)) * samples


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"))
