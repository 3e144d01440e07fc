import pytest

from models.csm.measures import Recent, TickTimes


def test_recent_values_forget_the_old():
    recent = Recent(window=4)
    assert recent.percentile(99) == 0.0 and recent.mean() == 0.0 and len(recent) == 0
    for value in (100, 1, 2, 3, 4):
        recent.add(value)
    assert len(recent) == 4 and recent.mean() == 2.5
    assert recent.percentile(0) == 1 and recent.percentile(50) == 3 and recent.percentile(100) == 4


def test_a_bucket_not_yet_measured_is_reckoned_from_a_smaller_one():
    times = TickTimes()
    assert times.predicted(1) == 0.0 and times.most_slots() == 0
    times.add(2, 0.010)
    times.add(3, 0.012)
    assert times.most_slots() == 3
    assert times.predicted(2) == 0.010
    assert times.predicted(4) == 0.012
    assert times.predicted(5) == pytest.approx(0.012 * 1.25)
    assert times.predicted(32) == pytest.approx(0.012 * 1.25**3)
    assert times.predicted(1) == 0.012, "the worst that is known"
