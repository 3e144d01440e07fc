import pytest

from models.csm.measures import ENOUGH_TICKS, MEMORY_S, Recent, TickTimes


def test_recent_values_forget_the_old():
    recent = Recent(window=4)
    assert recent.percentile(99) == 0.0 and recent.mean() == 0.0 and len(recent) == 0
    for value in (100, 1, 2, 3, 4):
        recent.add(value)
    assert len(recent) == 4 and recent.mean() == 2.5
    assert recent.percentile(0) == 1 and recent.percentile(50) == 3 and recent.percentile(100) == 4


def measured(*ticks: tuple[int, float], at: float = 100.0) -> TickTimes:
    times = TickTimes()
    for n_slots, seconds in ticks:
        for _ in range(ENOUGH_TICKS):
            times.add(at, n_slots, seconds)
    return times


def test_the_p99_of_a_bucket_is_what_one_more_slot_takes():
    times = measured((2, 0.010), (3, 0.012))
    assert times.with_one_more(100.0, 8) == (4, 0.012)
    times.add(100.0, 3, 0.5)
    assert times.with_one_more(100.0, 8) == (4, 0.5)
    assert times.with_one_more(100.0, 3) == (3, 0.5), "there are no more slots"


def test_a_bucket_not_yet_measured_is_reckoned_from_a_smaller_one():
    assert measured((4, 0.012)).with_one_more(100.0, 8) == (5, pytest.approx(0.012 * 1.25))
    times = measured((4, 0.012))
    times.add(100.0, 16, 0.001)
    assert times.with_one_more(100.0, 64) == (17, pytest.approx(0.012 * 1.25**3))


def test_what_is_old_or_rare_keeps_nobody_out():
    assert TickTimes().with_one_more(0.0, 8) == (1, 0.0)
    assert measured((1, 0.5)).with_one_more(100.0 + MEMORY_S + 1, 8) == (1, 0.0)
    times = TickTimes()
    times.add(100.0, 1, 0.5)
    assert times.with_one_more(100.0, 8) == (2, 0.0)
    assert times.all.percentile(99) == 0.5
