"""Keys as RTP events (RFC 4733, events 0 to 15), both ways. No clock, no I/O."""

import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ
from telephony.rtp.errors import MalformedPacket

DIGITS: Final = "0123456789*#ABCD"
"""By event code."""

_EVENT: Final = struct.Struct("!BBH")
_END: Final = 0x80
_VOLUME: Final = 10
"""-10 dBm0, what a telephone's keys have."""
_PRESS_PACKETS: Final = 5
"""100 ms: twice what a receiver must recognise (RFC 4733 section 2.5.1.1 suggests 40 ms and more)."""
_END_PACKETS: Final = 3
"""RFC 4733 section 2.5.1.4: the final packet is sent three times."""
PAUSE_PACKETS: Final = 4
"""Between two keys, 80 ms."""

_SEGMENT_SAMPLES: Final = 0xFFFF
"""An event that lasts longer goes on in another one, later by this much (RFC 4733 section 2.5.1.3)."""
_REMEMBERED: Final = 16
_HALF_CIRCLE: Final = 1 << 31
_SHORTEST_PERIOD_SAMPLES: Final = LINE_RATE_HZ * 50 // 1000
"""Two presses of the same key are never closer: a tone of 40 ms and a pause."""


@dataclass(slots=True)
class _Pressed:
    code: int
    timestamp: int
    ended: bool = False


class KeyReceiver:
    """`receive` every packet of the negotiated payload type; a key is told once, at the first packet of its
    event that arrives: when the first or the last ones are lost, the others say as much."""

    def __init__(self) -> None:
        self._last: _Pressed | None = None
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)

    def receive(self, timestamp: int, marker: bool, payload: bytes) -> str | None:
        """The digit, when the event is new; None for its further packets, for an event that is older than
        the last, and for events that are no keys (a hook flash, modem tones). Raises `MalformedPacket`."""
        if len(payload) < _EVENT.size:
            raise MalformedPacket("a telephone event of less than four bytes")
        code, flags, _duration = _EVENT.unpack_from(payload)
        if code >= len(DIGITS):
            return None
        ended = bool(flags & _END)
        last = self._last
        if timestamp in self._seen:
            if last is not None and last.timestamp == timestamp:
                last.ended = last.ended or ended
            return None
        if last is not None:
            ahead = (timestamp - last.timestamp) & 0xFFFFFFFF
            if ahead >= _HALF_CIRCLE:
                return None
            if code == last.code and _goes_on(ahead, marker, last.ended):
                self._remember(code, timestamp, ended)
                return None
        self._remember(code, timestamp, ended)
        return DIGITS[code]

    def restart(self) -> None:
        """Another source: its timestamps have nothing to do with those before."""
        self._last = None
        self._seen.clear()

    def _remember(self, code: int, timestamp: int, ended: bool) -> None:
        self._last = _Pressed(code, timestamp, ended)
        self._seen.append(timestamp)


def _goes_on(ahead: int, marker: bool, ended: bool) -> bool:
    """The same key, `ahead` samples later, is the same press: a further segment of a long one, or a peer
    that moves the timestamp with every packet."""
    if marker or ended:
        return False
    return ahead == _SEGMENT_SAMPLES or ahead < _SHORTEST_PERIOD_SAMPLES


@dataclass(frozen=True, slots=True)
class EventPacket:
    """One packet of a key press: `payload`, whether it is the first, and how far the event's beginning (whose
    timestamp all its packets bear) lies back, in samples."""

    payload: bytes
    first: bool
    back_samples: int


class KeySender:
    """One key after the other: `press`, then `next_packet` every 20 ms while `busy`."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._step = 0
        self._pause = 0

    @property
    def busy(self) -> bool:
        """Packets, or the pause behind the last one, are still to come."""
        return bool(self._waiting) or self._pause > 0

    @property
    def pressing(self) -> bool:
        """Packets are still to come."""
        return bool(self._waiting)

    def press(self, digit: str) -> None:
        """Raises `ValueError` unless it is one of `DIGITS`."""
        self._waiting.append(_code(digit))

    def next_packet(self) -> EventPacket | None:
        """None during the pause between two keys, in which silence may be sent."""
        if self._pause:
            self._pause -= 1
            return None
        if not self._waiting:
            return None
        self._step += 1
        step, last_step = self._step, _PRESS_PACKETS + _END_PACKETS
        ending = step > _PRESS_PACKETS
        # The duration counts up to the end, and the repeated end says the same as the first.
        duration = AUDIO_FRAME_SAMPLES * min(step, _PRESS_PACKETS + 1)
        flags = _VOLUME | (_END if ending else 0)
        packet = EventPacket(
            _EVENT.pack(self._waiting[0], flags, duration), step == 1, AUDIO_FRAME_SAMPLES * (step - 1)
        )
        if step == last_step:
            self._waiting.popleft()
            self._step = 0
            self._pause = PAUSE_PACKETS
        return packet


def _code(digit: str) -> int:
    code = DIGITS.find(digit.upper()) if len(digit) == 1 else -1
    if code < 0:
        raise ValueError(f"{digit!r} is no key: {DIGITS}")
    return code
