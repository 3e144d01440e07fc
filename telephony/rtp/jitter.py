"""The caller's packets in order, and a caller's timeline without gaps. No clock, no I/O.

Whoever listens here is a machine: it needs every word once and in order, and does not mind when. So packets
that come in order are passed on at once; the buffer waits only for one that is missing, 40 to 60 ms, and then
makes up what stood in it (`telephony.rtp.concealment`). What comes after that is too late. But a whole run of
late packets means that the network has become slower: then they are heard, later than they were spoken.

Three clocks meet: the sender's (timestamps), the network's (when packets come at the earliest) and the wall
clock, which the call's recording goes by. Samples passed on keep to the wall clock within 10 ms: where they
have run ahead or fallen behind, quiet moments are made shorter or longer.

    jitter = JitterBuffer(now)
    jitter.put(sequence, timestamp, marker, pcm, arrived)     # every packet of the caller's
    for pcm in jitter.take(now): ...                          # at every tick of the clock
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from telephony.rtp.concealment import Concealer

MIN_DELAY_S: Final = 0.040
MAX_DELAY_S: Final = 0.060
_RAISE_S: Final = 0.010
_LOWER_S: Final = 0.005
_CALM_PACKETS: Final = 500
"""After so many without a late one the delay shrinks again."""

_LATE_RUN: Final = 3
"""So many late packets on end are a slower network, not stragglers."""
_EARLY_S: Final = 0.2
"""What comes so much before its time, and so far from all else, bears a timestamp that has jumped."""
_REWIND: Final = LINE_RATE_HZ
"""Nor can they be a second late."""
_DRIFT_PER_PACKET_S: Final = 20e-6
"""The network's earliest arrival is forgotten at 1 ms/s: clocks of two machines differ by a tenth of that."""

_STEER_PACKETS: Final = 50
_STEER_SAMPLES: Final = LINE_RATE_HZ * 10 // 1000
"""Distance from the wall clock that is left alone."""
_LOUD_PACKETS: Final = 1_500
"""After so many without a quiet one (music, a noisy street) a loud moment is cut or stretched by 10 ms."""
_FLOOD_SAMPLES: Final = 4 * LINE_RATE_HZ
"""More audio than time, by more than any network holds back: somebody's attempt to drown us."""
_QUIET_PEAK: Final = 512

_MAX_HELD: Final = 250
_SEQUENCE_JUMP: Final = 1_000
_REMEMBERED: Final = 64
"""RFC 3550 appendix A.1 leaves room for misordered packets; duplicates are looked for among so many."""


@dataclass(frozen=True, slots=True)
class _Packet:
    sequence: int
    """Extended beyond 16 bits."""
    timestamp: int
    """Extended beyond 32 bits."""
    pcm: Pcm
    arrived: float


@dataclass(frozen=True, slots=True)
class Reception:
    """RFC 3550 section 6.4.1: the highest sequence number (extended), how many packets were expected and how
    many came, and the interarrival jitter in samples."""

    highest: int
    expected: int
    received: int
    jitter: float


class JitterBuffer:
    """One call's. The timeline begins at `now`, with silence until the first packet comes.

    `counters`: `received`, `concealed` (made up), `late`, `duplicate`, `jumped` (timestamps began anew),
    `flooded`, and in samples `filled`, `shed`, `stretched`.
    """

    def __init__(self, now: float) -> None:
        self.counters: Counter[str] = Counter()
        self.delay_s = MIN_DELAY_S
        self._start_s = now
        self._delivered = 0
        self._surplus = 0
        """Samples ahead of the wall clock, as far as known."""
        self._most_ahead: int | None = None
        self._measured = 0
        self._loud = 0
        self._calm = 0
        self._concealer = Concealer()
        self._ready: list[Pcm] = []
        self.restart()

    def restart(self) -> None:
        """The next packet is another source's: its numbers have nothing to do with those before."""
        self._held: dict[int, _Packet] = {}
        self._late: list[_Packet] = []
        self._next: int | None = None
        """Timestamp of the next sample to pass on."""
        self._offset_s = 0.0
        """Arrival, at the earliest, of a packet with timestamp 0."""
        self._highest = -1
        """Of the sequence numbers that came."""
        self._window = 0
        """Bit n: the packet n before the highest came."""
        self._passed = -1
        """Sequence number of the last packet that was passed on, or was no audio."""
        self._first = 0
        self._arrived = 0
        self._transit: float | None = None
        self._jitter = 0.0

    @property
    def reception(self) -> Reception | None:
        """What a receiver report says of this source; None before its first packet."""
        if self._highest < 0:
            return None
        return Reception(self._highest, self._highest - self._first + 1, self._arrived, self._jitter)

    # What comes in

    def put(self, sequence: int, timestamp: int, marker: bool, pcm: Pcm, arrived: float) -> None:
        """One packet of audio: (n,) int16 at 8 kHz, and when it came (monotonic seconds)."""
        number = self._number(sequence)
        if number is None:
            self.counters["duplicate"] += 1
            return
        self.counters["received"] += 1
        self._measure_jitter(timestamp, arrived)
        if not pcm.size:
            return
        if self._next is None:
            self._anchor(_Packet(number, timestamp, pcm, arrived))
            return
        if timestamp == self._next & 0xFFFFFFFF and not self._held and not self._late:
            # What nearly every packet is: the next one. It need not be held.
            self._calm_down()
            self._go_on(number, self._next, pcm, arrived)
            return
        at = self._next + _signed(timestamp - self._next, 32)
        packet = _Packet(number, at, pcm, arrived)
        if at + pcm.size <= self._next:
            self._put_late(packet, marker)
        elif self._late_s(packet) < -_EARLY_S and at - self._tail() > _EARLY_S * LINE_RATE_HZ:
            self._jump(packet)
        elif len(self._held) < _MAX_HELD:
            self._put_in_time(packet)

    def note(self, sequence: int) -> None:
        """A packet of the same stream that is no audio (a key, comfort noise): it is not missing."""
        number = self._number(sequence)
        if number is None:
            return
        if number == self._passed + 1:
            self._passed = number

    def _put_in_time(self, packet: _Packet) -> None:
        self.counters["late"] += len(self._late)
        self._late.clear()
        self._held[packet.timestamp] = packet
        self._calm_down()

    def _calm_down(self) -> None:
        self._calm += 1
        if self._calm >= _CALM_PACKETS:
            self._calm = 0
            self.delay_s = max(MIN_DELAY_S, self.delay_s - _LOWER_S)

    def _put_late(self, packet: _Packet, marker: bool) -> None:
        assert self._next is not None  # noqa: S101  late for something
        if self._next - packet.timestamp > _REWIND or (marker and packet.sequence == self._passed + 1):
            # A sender whose clock stood still while it was silent, or began anew.
            self._jump(packet)
            return
        self._late.append(packet)
        if len(self._late) == 1:
            self._calm = 0
            self.delay_s = min(MAX_DELAY_S, self.delay_s + _RAISE_S)
        if len(self._late) >= _LATE_RUN:
            self._go_back()

    def _go_back(self) -> None:
        """Hear the late packets after all, and what is held behind them: by the slower network's time."""
        run, self._late = sorted(self._late, key=lambda late: late.timestamp), []
        self._held = {packet.timestamp: packet for packet in run} | self._held
        self._begin_at(run[0])

    def _jump(self, packet: _Packet) -> None:
        self.counters["jumped"] += 1
        self._anchor(packet)

    def _anchor(self, packet: _Packet) -> None:
        """The stream goes on with `packet`, whatever stood before. Silence brings the timeline up to it."""
        for held in sorted(self._held.values(), key=lambda held: held.timestamp):
            self._pass_on(held.pcm, held.arrived)
        gap = self._wall(packet.arrived) - packet.pcm.size - self._delivered
        if gap > 0:
            self._fill(gap)
        self._held = {packet.timestamp: packet}
        self._begin_at(packet)

    def _begin_at(self, packet: _Packet) -> None:
        self._next = packet.timestamp
        self._offset_s = packet.arrived - packet.timestamp / LINE_RATE_HZ
        self._passed = packet.sequence - 1

    def _late_s(self, packet: _Packet) -> float:
        """How much later than over the network's fastest way; negative: it was faster still."""
        return packet.arrived - self._offset_s - packet.timestamp / LINE_RATE_HZ

    def _measure_jitter(self, timestamp: int, arrived: float) -> None:
        """RFC 3550 appendix A.8."""
        transit = arrived * LINE_RATE_HZ - timestamp
        if self._transit is not None and abs(transit - self._transit) < LINE_RATE_HZ:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16
        self._transit = transit

    def _tail(self) -> int:
        """Timestamp behind all that is held."""
        assert self._next is not None  # noqa: S101  a stream has begun
        if not self._held:
            return self._next
        last = max(self._held)
        return last + self._held[last].pcm.size

    def _number(self, sequence: int) -> int | None:
        """The extended sequence number; None for a packet that came before."""
        self._arrived += 1
        if self._highest < 0:
            self._first = self._highest = sequence
            self._window, self._passed = 1, sequence - 1
            return sequence
        ahead = _signed(sequence - self._highest, 16)
        if abs(ahead) > _SEQUENCE_JUMP:
            # A sender that began anew: go on counting where we are.
            jump = (sequence - self._highest) & 0xFFFF
            self._first += jump - 1
            self._highest += jump
            self._window = 1
            self._passed = self._highest - 1
            return self._highest
        number = self._highest + ahead
        if ahead > 0:
            self._window = ((self._window << ahead) | 1) & ((1 << _REMEMBERED) - 1)
            self._highest = number
            return number
        if -ahead >= _REMEMBERED:
            return number
        if self._window >> -ahead & 1:
            return None
        self._window |= 1 << -ahead
        return number

    # What goes on

    def take(self, now: float) -> list[Pcm]:
        """The caller's next samples, all that are due at `now`, in pieces of any length."""
        if self._next is None:
            self._wait_for_a_stream(now)
        else:
            self._take_stream(now)
        ready, self._ready = self._ready, []
        return ready

    def _wait_for_a_stream(self, now: float) -> None:
        due = self._wall(now - self.delay_s) - self._delivered
        self._silence(due - due % AUDIO_FRAME_SAMPLES)

    def _take_stream(self, now: float) -> None:
        while True:
            packet = self._next_packet()
            assert self._next is not None  # noqa: S101  `take` asked
            if packet is not None:
                self._go_on(packet.sequence, packet.timestamp, packet.pcm, packet.arrived)
            elif now < self._offset_s + self._next / LINE_RATE_HZ + self.delay_s:
                return
            else:
                gap = min(self._held) - self._next if self._held else AUDIO_FRAME_SAMPLES
                self._lose(min(gap, AUDIO_FRAME_SAMPLES))

    def _go_on(self, sequence: int, timestamp: int, pcm: Pcm, arrived: float) -> None:
        self._next = timestamp + pcm.size
        self._passed = sequence
        # Only now: one that overtook those before it must not make them late.
        late_s = arrived - self._offset_s - timestamp / LINE_RATE_HZ
        self._offset_s += late_s if late_s < _DRIFT_PER_PACKET_S else _DRIFT_PER_PACKET_S
        self._pass_on(pcm, arrived)

    def _next_packet(self) -> _Packet | None:
        """The packet that goes on at once: the next, or the one behind a silence that its sender left out."""
        at = self._next
        assert at is not None  # noqa: S101  `take` asked
        while self._held:
            first = min(self._held)
            packet = self._held[first]
            if first > at and packet.sequence != self._passed + 1:
                return None
            del self._held[first]
            if first >= at:
                self._silence(first - at)
                return packet
            if first + packet.pcm.size > at:
                return replace(packet, timestamp=at, pcm=packet.pcm[at - first :])
        return None

    def _lose(self, n_samples: int) -> None:
        assert self._next is not None  # noqa: S101  a stream has begun
        self._next += n_samples
        self.counters["concealed"] += 1
        self._fill(n_samples)

    def _fill(self, n_samples: int) -> None:
        self.counters["filled"] += n_samples
        self._deliver(self._concealer.lost(n_samples))

    def _silence(self, n_samples: int) -> None:
        if n_samples > 0:
            self.counters["filled"] += n_samples
            self._deliver(np.zeros(n_samples, np.int16))

    def _pass_on(self, pcm: Pcm, arrived: float) -> None:
        wall = self._wall(arrived)
        if self._delivered - wall > _FLOOD_SAMPLES:
            self.counters["flooded"] += 1
            return
        self._deliver(self._steered(self._concealer.heard(pcm)))
        ahead = self._delivered - wall
        if self._most_ahead is None or ahead > self._most_ahead:
            self._most_ahead = ahead
        self._measured += 1
        if self._measured >= _STEER_PACKETS:
            self._surplus = self._most_ahead
            self._most_ahead, self._measured = None, 0

    def _steered(self, pcm: Pcm) -> Pcm:
        """Nearer to the wall clock by some milliseconds, where nobody hears it."""
        surplus = self._surplus
        if -_STEER_SAMPLES < surplus < _STEER_SAMPLES:
            return pcm
        if np.abs(pcm.astype(np.int32)).max(initial=0) >= _QUIET_PEAK:
            self._loud += 1
            if self._loud < _LOUD_PACKETS:
                return pcm
            surplus = max(-_STEER_SAMPLES, min(_STEER_SAMPLES, surplus))
        self._loud = 0
        if surplus > 0:
            cut = min(surplus, pcm.size)
            self.counters["shed"] += cut
            self._surplus -= cut
            self._forget_measure()
            return pcm[cut:]
        added = min(-surplus, AUDIO_FRAME_SAMPLES)
        self.counters["stretched"] += added
        self._surplus += added
        self._forget_measure()
        return np.concatenate([np.zeros(added, np.int16), pcm])

    def _forget_measure(self) -> None:
        """What was measured before a correction knows nothing of it."""
        self._most_ahead, self._measured = None, 0

    def _deliver(self, pcm: Pcm) -> None:
        if pcm.size:
            self._delivered += pcm.size
            self._ready.append(pcm)

    def _wall(self, at_s: float) -> int:
        """Samples between the timeline's beginning and `at_s`."""
        return int((at_s - self._start_s) * LINE_RATE_HZ)


def _signed(difference: int, bits: int) -> int:
    """A difference modulo 2^bits as the number nearest to zero."""
    half = 1 << (bits - 1)
    return ((difference + half) & ((1 << bits) - 1)) - half
