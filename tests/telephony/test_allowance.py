import pytest

from telephony.allowance import Allowance


def test_a_burst_and_then_a_steady_rate() -> None:
    allowance = Allowance(2.0, 3, now=100.0)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.wait_s(100.0) == pytest.approx(0.5)
    assert not allowance.take(100.4)
    assert allowance.take(100.5)
    assert not allowance.take(100.6)


def test_no_more_than_the_burst_is_saved_up() -> None:
    allowance = Allowance(10.0, 2, now=0.0)
    assert [allowance.take(1_000.0) for _ in range(3)] == [True, True, False]


def test_a_clock_that_runs_backwards_gives_nothing_away() -> None:
    allowance = Allowance(1.0, 1, now=50.0)
    assert allowance.take(50.0)
    assert not allowance.take(10.0)
    assert not allowance.take(50.9)
    assert allowance.take(51.0)


def test_there_is_no_wait_while_one_is_left() -> None:
    assert Allowance(0.1, 1, now=0.0).wait_s(0.0) == 0.0
