"""Figures of the house over time, as the page draws them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.console.charts import MOST_HOURS, bucket_s_of, chart_of, first_of
from infra.store.rows import BucketRow, Figures

NOW = 1_800_002_000.0
HOUR = 3_600


def test_what_the_charts_cover_is_said() -> None:
    first = first_of(1, NOW)
    told = Figures(
        (
            BucketRow(float(first), calls=3, completed=1, failed=1, faults=2, at_once=2),
            BucketRow(float(first + HOUR), answers=2, wait_p50_ms=700.04, wait_p95_ms=880.0),
        ),
        ((NOW - 9.04, 700.04), (NOW - 2, 900.0)),
        NOW - 50 * HOUR,
    )
    chart = chart_of(told, 1, NOW)
    assert chart["covers"] == {
        "from_s": first, "to_s": NOW, "calls": 3, "answers": 2, "oldest_s": NOW - 50 * HOUR,
    }  # fmt: skip
    before, last = chart["buckets"]
    assert (before["at_s"], before["calls"], before["completed"], before["failed"]) == (first, 3, 1, 1)
    assert (before["at_once"], before["faults"], before["wait_p50_ms"]) == (2, 2, None)
    assert (last["answers"], last["wait_p50_ms"], last["wait_p95_ms"]) == (2, 700.0, 880.0)
    assert chart["answers"][0] == {"at_s": NOW - 9.0, "wait_ms": 700.0}


@pytest.mark.parametrize("hours", [1, 24, 168, 720, 8760, MOST_HOURS])
def test_there_are_never_many_buckets_and_the_first_is_whole(hours: int) -> None:
    first, wide_s = first_of(hours, NOW), bucket_s_of(hours)
    assert NOW - 3600 * hours - wide_s < first <= NOW - 3600 * hours
    assert first % HOUR == 0
    assert (NOW - first) // wide_s + 1 <= 182


@pytest.mark.parametrize("ahead_min", [-720, -480, -210, 0, 60, 330, 840])
def test_days_are_the_viewers(ahead_min: int) -> None:
    begin = datetime.fromtimestamp(first_of(720, NOW, ahead_min), UTC)
    there = begin.astimezone(timezone(timedelta(minutes=ahead_min)))
    assert bucket_s_of(720) < 86_400
    assert there.hour % (bucket_s_of(720) // HOUR) == 0
    assert there.minute == 0
    year = datetime.fromtimestamp(first_of(8760, NOW, ahead_min), UTC)
    there = year.astimezone(timezone(timedelta(minutes=ahead_min)))
    assert (there.hour, there.minute) == (0, 0)
