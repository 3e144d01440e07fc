"""Figures of the house over time."""

import pytest

from infra.console.charts import MOST_HOURS, Called, bucket_s_of, chart_of

NOW = 1_800_002_000.0
HOUR = 3_600.0


def called(ago_s: float, length_s: float = 60.0, *, failed: bool = False, faults: int = 0) -> Called:
    return Called(NOW - ago_s, NOW - ago_s + length_s, failed, faults)


def test_calls_faults_and_waits_are_counted_where_they_fell() -> None:
    calls = [called(10), called(20, failed=True, faults=2), called(2 * HOUR), called(200 * HOUR)]
    waits = [(NOW - 10, 500.0), (NOW - 20, 700.0), (NOW - 30, 900.0), (NOW - 2 * HOUR, 400.0)]
    told = chart_of(calls, waits, 24, NOW)
    last = told["buckets"][-1]
    assert told["bucket_s"] == 3600
    assert (last["calls"], last["failed"], last["faults"]) == (2, 1, 2)
    assert (last["wait_p50_ms"], last["wait_p95_ms"], last["answers"]) == (700.0, 880.0, 3)
    assert sum(bucket["calls"] for bucket in told["buckets"]) == 3, "one is older"
    empty = told["buckets"][-2]
    assert (empty["calls"], empty["wait_p50_ms"]) == (0, None)
    assert [one["wait_ms"] for one in told["answers"]] == [400.0, 900.0, 700.0, 500.0]


def test_the_most_calls_at_once() -> None:
    at = 30 * 60
    calls = [called(at + 100, 200), called(at + 50, 60), called(at - 10, 20), called(3 * HOUR + at, 2 * HOUR)]
    told = [bucket["at_once"] for bucket in chart_of(calls, [], 6, NOW)["buckets"]]
    assert max(told) == 2
    assert told[-1] == 2 or told[-2] == 2
    assert sum(1 for most in told if most) >= 3, "a long call is on in every hour that it touches"


def test_one_call_leaves_as_another_comes() -> None:
    told = chart_of([called(1000, 100), called(900, 100)], [], 1, NOW)
    assert max(bucket["at_once"] for bucket in told["buckets"]) == 1


def test_a_call_of_no_length_and_a_clock_that_was_set_back() -> None:
    told = chart_of([called(1000, 0), called(900, -5000), called(-5000, 60)], [], 1, NOW)
    assert max(bucket["at_once"] for bucket in told["buckets"]) == 1


@pytest.mark.parametrize("hours", [1, 24, 168, 720, MOST_HOURS])
def test_there_are_never_many_buckets(hours: int) -> None:
    told = chart_of([called(1)], [], hours, NOW)
    assert hours * 3600 / bucket_s_of(hours) <= len(told["buckets"]) <= 182
    assert sum(bucket["calls"] for bucket in told["buckets"]) == 1
