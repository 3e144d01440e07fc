"""Packets over scripted networks, ticks every 20 ms; what comes out is compared with what was said."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.line import Pcm
from telephony.rtp.jitter import MAX_DELAY_S, MIN_DELAY_S, JitterBuffer

TICK_S = 0.020
LATENCY_S = 0.030


def speech(seconds: float, seed: int = 1) -> Pcm:
    """Loud everywhere and nowhere the same: each AudioFrame is recognised wherever it turns up."""
    noise = np.random.default_rng(seed).normal(0, 4000, int(seconds * 8000))
    return np.clip(noise, -32_000, 32_000).astype(np.int16)


@dataclass
class Said:
    sequence: int
    timestamp: int
    pcm: Pcm
    arrives_s: float
    marker: bool = False


@dataclass
class Heard:
    pieces: list[tuple[float, Pcm]] = field(default_factory=list)

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([pcm for _, pcm in self.pieces] or [np.zeros(0, np.int16)])


def packets(
    pcm: Pcm,
    *,
    arrives: Callable[[int], float | None] = lambda n: 0.0,
    sequence: int = 100,
    timestamp: int = 5_000,
    ptime: int = 160,
    begins_s: float = 0.1,
) -> list[Said]:
    """`arrives(n)` is how much later than `LATENCY_S` packet n comes; None: never."""
    said = []
    for n in range(pcm.size // ptime):
        late_s = arrives(n)
        if late_s is not None:
            at_s = round(begins_s + (n + 1) * ptime / 8000 + LATENCY_S + late_s, 9)
            piece = pcm[n * ptime : (n + 1) * ptime]
            said.append(
                Said((sequence + n) % 65_536, (timestamp + n * ptime) % 2**32, piece, at_s, marker=n == 0)
            )
    return said


def listen(
    said: Iterable[Said],
    until_s: float | None = None,
    jitter: JitterBuffer | None = None,
    ticks: Sequence[float] = (),
) -> Heard:
    """Every tick reads what has arrived, as the clock does. It ends with the last packet unless told."""
    jitter = jitter or JitterBuffer(0.0)
    coming = sorted(said, key=lambda packet: packet.arrives_s)
    until_s = coming[-1].arrives_s + 2 * TICK_S if until_s is None else until_s
    heard = Heard()
    for now in ticks or [0.007 + TICK_S * n for n in range(int(until_s / TICK_S))]:
        while coming and coming[0].arrives_s <= now:
            packet = coming.pop(0)
            jitter.put(packet.sequence, packet.timestamp, packet.marker, packet.pcm, packet.arrives_s)
        heard.pieces += [(now, pcm) for pcm in jitter.take(now)]
    return heard


def place_of(pcm: Pcm, within: Pcm) -> int:
    """Where `pcm` (or its first sample that is not zero) begins; -1 where it does not occur whole."""
    haystack, needle = within.tobytes(), pcm.tobytes()
    at = haystack.find(needle)
    while at > 0 and at % 2:
        at = haystack.find(needle, at + 1)
    return at // 2 if at >= 0 else -1


def test_packets_in_order_are_passed_on_at_the_tick_after_they_come() -> None:
    pcm = speech(2.0)
    heard = listen(packets(pcm), 3.0)
    start = place_of(pcm, heard.pcm)
    assert start > 0
    assert not heard.pcm[:start].any()
    at = 0
    for now, piece in heard.pieces:
        at += piece.size
        if start < at <= start + pcm.size:
            said_s = 0.1 + (at - start) / 8000
            assert 0 <= now - said_s - LATENCY_S < TICK_S + 1e-9


def test_the_timeline_begins_with_the_call_and_goes_on_after_the_caller() -> None:
    heard = listen(packets(speech(1.0)), 4.0)
    assert 4.0 * 8000 - heard.pcm.size <= (MIN_DELAY_S + 2 * TICK_S) * 8000
    assert heard.pcm.size <= 4.0 * 8000
    # What is said lies where it came in: 0.13 s after the beginning.
    assert np.flatnonzero(heard.pcm)[0] == pytest.approx(0.13 * 8000, abs=2)


def test_no_packet_at_all_is_silence_in_real_time() -> None:
    heard = listen([], 2.0)
    assert not heard.pcm.any()
    assert 2.0 * 8000 - heard.pcm.size <= 0.08 * 8000


def test_reordered_packets_come_out_in_order() -> None:
    pcm = speech(2.0)
    swapped = packets(pcm, arrives=lambda n: 0.035 if n % 7 == 3 else 0.0)
    jitter = JitterBuffer(0.0)
    heard = listen(swapped, None, jitter)
    assert place_of(pcm, heard.pcm) > 0
    assert not jitter.counters["concealed"] and not jitter.counters["late"]


def test_duplicates_are_heard_once() -> None:
    pcm = speech(1.0)
    said = packets(pcm)
    again = [Said(p.sequence, p.timestamp, p.pcm, p.arrives_s + 0.001 * (n % 90)) for n, p in enumerate(said)]
    jitter = JitterBuffer(0.0)
    heard = listen(said + again, 1.17, jitter)
    assert place_of(pcm, heard.pcm) > 0
    assert np.count_nonzero(heard.pcm) == np.count_nonzero(pcm)
    assert jitter.counters["duplicate"] > 45


def test_a_lost_packet_is_made_up_and_moves_nothing() -> None:
    pcm = speech(2.0)
    jitter = JitterBuffer(0.0)
    heard = listen(packets(pcm, arrives=lambda n: None if n in (20, 50, 51) else 0.0), None, jitter)
    start = place_of(pcm[: 20 * 160], heard.pcm)
    assert place_of(pcm[21 * 160 + 32 : 50 * 160], heard.pcm) == start + 21 * 160 + 32
    assert place_of(pcm[52 * 160 + 32 :], heard.pcm) == start + 52 * 160 + 32
    made_up = heard.pcm[start + 20 * 160 : start + 21 * 160]
    assert made_up.any()
    assert jitter.counters["concealed"] == 3
    reception = jitter.reception
    assert reception is not None and reception.expected - reception.received == 3


def test_a_straggler_is_too_late_and_buys_the_next_one_time() -> None:
    jitter = JitterBuffer(0.0)
    pcm = speech(4.0)
    heard = listen(packets(pcm, arrives=lambda n: {30: 0.09, 90: 0.055}.get(n, 0.0)), None, jitter)
    assert jitter.counters["late"] == 1
    assert jitter.counters["concealed"] == 1 or jitter.delay_s > MIN_DELAY_S
    start = place_of(pcm[: 30 * 160], heard.pcm)
    assert place_of(pcm[31 * 160 + 32 : 80 * 160], heard.pcm) == start + 31 * 160 + 32


def test_the_delay_adapts_between_its_bounds() -> None:
    jitter = JitterBuffer(0.0)
    listen(packets(speech(10.0), arrives=lambda n: 0.1 if n % 20 == 3 else 0.0), 11.0, jitter)
    assert jitter.delay_s == pytest.approx(MAX_DELAY_S)
    later = packets(speech(60.0), sequence=600, timestamp=5_000 + 500 * 160, begins_s=10.1)
    coming = [p for p in later if p.arrives_s > 11.0]
    ticks = [11.007 + TICK_S * n for n in range(3_000)]
    listen(coming, 0, jitter, ticks)
    assert jitter.delay_s == pytest.approx(MIN_DELAY_S)


@pytest.mark.parametrize("stall_s", [0.1, 0.3, 0.9, 2.5])
def test_words_that_a_stalled_network_held_back_are_heard_whole(stall_s: float) -> None:
    pcm = speech(6.0)
    stall_ends = 100 * 0.02 + stall_s
    jitter = JitterBuffer(0.0)
    arrives = lambda n: max(0.0, stall_ends - n * 0.02) if n >= 100 else 0.0  # noqa: E731
    heard = listen(packets(pcm, arrives=arrives), None, jitter)
    start = place_of(pcm[: 100 * 160], heard.pcm)
    rest = place_of(pcm[101 * 160 : 290 * 160], heard.pcm)
    assert start > 0 and rest > start
    assert not jitter.counters["flooded"]


def test_a_network_that_becomes_slower_costs_nothing_but_time() -> None:
    pcm = speech(6.0)
    jitter = JitterBuffer(0.0)
    heard = listen(packets(pcm, arrives=lambda n: 0.0 if n < 100 else 0.15), None, jitter)
    assert place_of(pcm[101 * 160 :], heard.pcm) > 0
    assert jitter.counters["late"] == 0
    # The margin is as it was: a little jitter on top of the slower way is no loss.
    assert jitter.counters["concealed"] <= 10


def test_a_network_that_becomes_faster_gives_the_time_back_in_a_quiet_moment() -> None:
    loud, quiet = speech(2.0), np.zeros(16_000, np.int16)
    pcm = np.concatenate([loud, quiet, speech(2.0, seed=2)])
    jitter = JitterBuffer(0.0)
    heard = listen(packets(pcm, arrives=lambda n: 0.12 if 40 <= n < 90 else 0.0), None, jitter)
    assert place_of(pcm[41 * 160 : 16_000], heard.pcm) > 0
    second = place_of(pcm[-16_000:], heard.pcm)
    assert second > 0
    assert jitter.counters["shed"] > 0
    # Where it came in, on the wall clock: 4.13 s after the beginning.
    assert second == pytest.approx(4.13 * 8000, abs=0.02 * 8000)


@pytest.mark.parametrize("ppm", [-300, 300])
def test_clocks_that_differ_do_not_drift_apart(ppm: int) -> None:
    pause = np.zeros(5 * 8000, np.int16)
    minute = np.concatenate([piece for n in range(15) for piece in (speech(3.0, n), pause)])
    jitter = JitterBuffer(0.0)
    rate = 1 - ppm * 1e-6
    said = packets(minute)
    for packet in said:
        packet.arrives_s *= rate
    heard = listen(said, None, jitter)
    last = minute[-8 * 8000 : -5 * 8000]
    at = place_of(last, heard.pcm)
    came_in_s = (0.1 + 112.0 + LATENCY_S) * rate
    assert at / 8000 == pytest.approx(came_in_s, abs=0.021)
    assert jitter.counters["late"] == 0
    assert jitter.counters["shed" if ppm > 0 else "stretched"] > 0


def test_music_without_a_quiet_moment_is_held_to_the_clock_too() -> None:
    jitter = JitterBuffer(0.0)
    said = packets(speech(150.0))
    for packet in said:
        packet.arrives_s *= 0.9995
    heard = listen(said, 149.0, jitter)
    assert abs(heard.pcm.size - 149.0 * 8000) < 0.08 * 8000
    assert 0 < jitter.counters["shed"] <= 5 * 80


def test_a_silence_that_the_peer_leaves_out_takes_its_time() -> None:
    first, second = speech(1.0), speech(1.0, seed=2)
    said = packets(first)
    # RFC 3551: the timestamp goes on during silence, the sequence does not.
    said += packets(second, sequence=150, timestamp=5_000 + 8_000 + 24_000, begins_s=0.1 + 1.0 + 3.0)
    jitter = JitterBuffer(0.0)
    heard = listen(said, 6.0, jitter)
    one, two = place_of(first, heard.pcm), place_of(second[32:], heard.pcm) - 32
    assert two - one == 8_000 + 24_000
    reception = jitter.reception
    assert reception is not None and reception.expected == reception.received


def test_a_clock_that_stands_still_in_silence_goes_on_where_it_is() -> None:
    first, second = speech(1.0), speech(1.0, seed=2)
    said = packets(first) + packets(second, sequence=150, timestamp=13_000, begins_s=4.1)
    heard = listen(said, 6.0)
    assert place_of(first, heard.pcm) > 0
    assert place_of(second[32:], heard.pcm) == pytest.approx(4.13 * 8000 + 32, abs=2)


@pytest.mark.parametrize("timestamp", [0, 3_000_000_000, 13_000 + 80_000, 2**32 - 500])
def test_timestamps_that_jump_lose_nothing(timestamp: int) -> None:
    first, second = speech(1.0), speech(1.0, seed=2)
    said = packets(first) + packets(second, sequence=150, timestamp=timestamp, begins_s=1.1)
    jitter = JitterBuffer(0.0)
    heard = listen(said, 3.0, jitter)
    one, two = place_of(first, heard.pcm), place_of(second, heard.pcm)
    assert two - one == pytest.approx(8000, abs=2)
    assert jitter.counters["jumped"] == 1


@pytest.mark.parametrize("sequence", [0, 30_000, 65_535])
def test_sequence_numbers_that_jump_lose_nothing(sequence: int) -> None:
    first, second = speech(1.0), speech(1.0, seed=2)
    said = packets(first) + packets(second, sequence=sequence, timestamp=13_000, begins_s=1.1)
    jitter = JitterBuffer(0.0)
    pcm = np.concatenate([first, second])
    assert place_of(pcm, listen(said, 3.0, jitter).pcm) > 0


def test_both_numbers_wrap() -> None:
    pcm = speech(2.0)
    said = packets(pcm, sequence=65_500, timestamp=2**32 - 8_000, arrives=lambda n: 0.03 if n % 5 == 3 else 0)
    jitter = JitterBuffer(0.0)
    assert place_of(pcm, listen(said, None, jitter).pcm) > 0
    reception = jitter.reception
    assert reception is not None and (reception.expected, reception.received) == (100, 100)
    assert reception.highest == 65_599


@pytest.mark.parametrize("ptime", [80, 240, 480, 800])
def test_packets_of_any_length(ptime: int) -> None:
    pcm = speech(2.4)
    jitter = JitterBuffer(0.0)
    said = packets(pcm, ptime=ptime, arrives=lambda n: 0.02 if n % 3 == 1 else 0.0)
    heard = listen(said, None, jitter)
    assert place_of(pcm, heard.pcm) > 0
    assert jitter.counters["late"] == 0


def test_a_packet_that_overlaps_is_cut_to_what_is_new() -> None:
    pcm = speech(1.0)
    said = packets(pcm)
    long = said[20]
    long.timestamp -= 80
    long.pcm = pcm[20 * 160 - 80 : 21 * 160]
    assert place_of(pcm, listen(said, 2.0).pcm) > 0


def test_keys_between_packets_are_not_missing() -> None:
    pcm = speech(2.0)
    said = packets(pcm)
    jitter = JitterBuffer(0.0)
    heard = Heard()
    for n in range(100):
        now = 0.137 + TICK_S * n
        packet = said[n]
        extra = 3 if n >= 50 else 0
        if n == 50:
            for key in range(3):
                jitter.note(150 + key)
        jitter.put(packet.sequence + extra, packet.timestamp, False, packet.pcm, now - 0.005)
        heard.pieces += [(now, piece) for piece in jitter.take(now)]
    assert place_of(pcm, heard.pcm) >= 0
    assert not jitter.counters["concealed"]


def test_a_process_that_stood_still_reads_what_came_meanwhile_without_filling_anything_in() -> None:
    pcm = speech(4.0)
    ticks = [0.007 + TICK_S * n for n in range(200) if not 50 <= n < 125]
    jitter = JitterBuffer(0.0)
    heard = listen(packets(pcm), 0, jitter, ticks)
    assert place_of(pcm[: 180 * 160], heard.pcm) > 0
    assert not jitter.counters["concealed"]


def test_a_flood_is_bounded() -> None:
    jitter = JitterBuffer(0.0)
    pcm = speech(60.0)
    said = packets(pcm)
    for n, packet in enumerate(said):
        packet.arrives_s = 0.1 + n * 0.0005
    heard = listen(said, 2.0, jitter)
    assert heard.pcm.size <= (2.0 + 4.1) * 8000
    assert jitter.counters["flooded"] > 2_000


def test_another_source_begins_anew() -> None:
    first, second = speech(1.0), speech(1.0, seed=2)
    jitter = JitterBuffer(0.0)
    heard = listen(packets(first), 1.2, jitter)
    jitter.restart()
    ticks = [1.207 + TICK_S * n for n in range(60)]
    said = packets(second, sequence=7, timestamp=77, begins_s=1.2)
    heard.pieces += listen(said, 0, jitter, ticks).pieces
    one, two = place_of(first, heard.pcm), place_of(second[32:], heard.pcm) - 32
    assert one > 0 and two - one == pytest.approx(1.1 * 8000, abs=2)


def test_interarrival_jitter_is_that_of_the_rfc() -> None:
    """Appendix A.8 on packets that come alternately 4 ms late: transit differs by 32 samples each time."""
    jitter = JitterBuffer(0.0)
    listen(packets(speech(4.0), arrives=lambda n: 0.004 * (n % 2)), 5.0, jitter)
    reception = jitter.reception
    assert reception is not None and reception.jitter == pytest.approx(32, abs=0.5)


def test_noise_of_packets_never_fails_and_keeps_real_time() -> None:
    random = np.random.default_rng(3)
    jitter = JitterBuffer(0.0)
    total = 0
    for n in range(2_000):
        now = 0.02 * n
        for _ in range(random.integers(0, 4)):
            size = int(random.choice([0, 1, 80, 160, 333, 1500]))
            jitter.put(
                int(random.integers(0, 65_536)) if n % 3 else n % 65_536,
                int(random.integers(0, 2**32)) if n % 2 else (n * 160) % 2**32,
                bool(random.integers(0, 2)),
                speech(size / 8000),
                now,
            )
        total += sum(pcm.size for pcm in jitter.take(now))
    assert 39.0 * 8000 < total < 45.0 * 8000
