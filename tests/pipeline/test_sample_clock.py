"""An hour of packets from a phone whose clock is not ours."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from pipeline.playout import Played
from pipeline.sample_clock import PlacedAudio, SampleClock

HOUR_PACKETS = 3600 * 50
PPM = 1e-6


def arrivals(
    skew: float, *, packets: int = HOUR_PACKETS, jitter_s: float = 0.02
) -> Iterator[tuple[int, float]]:
    """(end sample, arrival): each packet is sent when its last sample was spoken by a clock that runs
    `1 + skew` times as fast as ours, and is `jitter_s` late on average; now and then the network stalls."""
    rng = np.random.default_rng(7)
    delays = rng.exponential(jitter_s, packets)
    before = 0.0
    for number in range(packets):
        if number % 9_000 == 4_500:
            before += 1.5  # what follows waits in a queue, and comes in a burst
        end = (number + 1) * AUDIO_FRAME_SAMPLES
        before = max(before, 100.0 + end / LINE_RATE_HZ / (1 + skew) + delays[number])
        yield end, before


@pytest.mark.parametrize("skew", [-100 * PPM, 0.0, 30 * PPM, 100 * PPM])
def test_over_an_hour_it_follows_the_callers_clock(skew: float) -> None:
    clock = SampleClock()
    worst_ms = 0.0
    for end, now in arrivals(skew):
        clock.arrived(end, now)
        true = (now - 100.0) * (1 + skew) * LINE_RATE_HZ
        if end > 2 * LINE_RATE_HZ:
            worst_ms = max(worst_ms, abs(clock.at(now) - true) / 8)
    assert worst_ms < 2.0


def test_one_moment_for_the_first_sample_would_be_off_by_a_third_of_a_second() -> None:
    """What the clock is for."""
    *_, (end, now) = arrivals(100 * PPM, jitter_s=0.0)
    fixed = (now - 100.0) * LINE_RATE_HZ
    assert abs(fixed - end) / 8 > 350


def test_a_late_first_packet_is_forgotten_within_a_second() -> None:
    clock = SampleClock()
    clock.arrived(160, 100.02 + 0.15)
    assert clock.at(100.17) == pytest.approx(160)
    for number in range(1, 50):
        clock.arrived((number + 1) * 160, max(100.17, 100.02 + number * 0.02))
    assert clock.at(101.0) == pytest.approx(8000)


def test_no_moment_comes_before_an_earlier_one() -> None:
    clock = SampleClock()
    places = []
    for end, now in arrivals(-100 * PPM, packets=20_000, jitter_s=0.05):
        clock.arrived(end, now)
        places.append((now, clock.at(now)))
    assert all(a <= b for (s, a), (t, b) in pairwise(places) if s < t)


def test_audio_that_never_came_sets_it_anew() -> None:
    """A line that lost two seconds and could not tell: the agent stands beside what is heard now."""
    clock = SampleClock()
    for number in range(100):
        clock.arrived((number + 1) * 160, 100.0 + number * 0.02)
    for number in range(100, 400):
        clock.arrived((number + 1) * 160, 102.0 + number * 0.02)
    assert clock.at(102.0 + 399 * 0.02) == pytest.approx(400 * 160)


def test_before_anything_arrived_there_is_no_place() -> None:
    clock = SampleClock()
    assert not clock.running
    with pytest.raises(ValueError, match="nothing arrived"):
        clock.at(1.0)


def pcm(first: int, n: int = 160) -> Pcm:
    return np.arange(first, first + n, dtype=np.int16)


def test_a_passage_stays_in_one_piece_while_the_clock_moves() -> None:
    placed = PlacedAudio()
    starts = [placed.place(Played(5.0 + n * 0.02, pcm(0)), 8000 + n * 161)[0] for n in range(100)]
    assert starts == [8000 + n * 160 for n in range(100)]
    start, _ = placed.place(Played(9.0, pcm(0)), 40_000)
    assert start == 40_000, "behind a pause the clock has the word"


def test_nothing_covers_what_was_placed_before() -> None:
    placed = PlacedAudio()
    placed.place(Played(5.0, pcm(0)), 8000)
    assert placed.place(Played(5.5, pcm(0)), 8100)[0] == 8160


def test_what_left_before_the_first_sample_is_cut_off() -> None:
    placed = PlacedAudio()
    kept = [placed.place(Played(1.0 + n * 0.02, pcm(n * 160)), n * 160 - 400) for n in range(4)]
    assert [start for start, _ in kept] == [0, 0, 0, 80]
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in kept]), pcm(400, 240))
