"""Figures of the house over time, for the page's charts. No I/O."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

Chart = dict[str, Any]
MOST_HOURS: Final = 24 * 366
_LAST_ANSWERS: Final = 100
_MOST_BUCKETS: Final = 180


class Called(NamedTuple):
    """One call. Seconds since the epoch; one that is on ends now."""

    began: float
    ended: float
    failed: bool
    faults: int


def bucket_s_of(hours: int) -> int:
    """Hours as long as that gives few enough of them, then longer and longer pieces of days."""
    for wide_h in (1, 2, 4, 6, 12, 24, 48):
        if hours / wide_h <= _MOST_BUCKETS:
            return 3600 * wide_h
    return 7 * 24 * 3600


def chart_of(calls: Sequence[Called], waits: Sequence[tuple[float, float]], hours: int, now: float) -> Chart:
    """`{buckets, bucket_s, answers}` of the last `hours`. `waits` are (second, ms) of answers; what is not
    known of a bucket is None."""
    wide = bucket_s_of(hours)
    # Buckets begin at round times of UTC.
    first = int((now - 3600 * hours) // wide) * wide
    count = int((now - first) // wide) + 1
    began: list[list[Called]] = [[] for _ in range(count)]
    for call in calls:
        if first <= call.began <= now:
            began[int((call.began - first) // wide)].append(call)
    waited: list[list[float]] = [[] for _ in range(count)]
    for second, ms in waits:
        if first <= second <= now:
            waited[int((second - first) // wide)].append(ms)
    at_once = _at_once(calls, first, wide, count)
    buckets = [
        {
            "at_s": first + index * wide,
            "calls": len(begun),
            "failed": sum(call.failed for call in begun),
            "faults": sum(call.faults for call in begun),
            "at_once": at_once[index],
            "answers": len(waited[index]),
            "wait_p50_ms": _percentile(waited[index], 50),
            "wait_p95_ms": _percentile(waited[index], 95),
        }
        for index, begun in enumerate(began)
    ]
    last = sorted(waits)[-_LAST_ANSWERS:]
    answers = [{"at_s": round(second, 1), "wait_ms": round(ms, 1)} for second, ms in last]
    return {"buckets": buckets, "bucket_s": wide, "answers": answers}


def _at_once(calls: Sequence[Called], first: int, wide: int, count: int) -> list[int]:
    """The most calls that were on at the same moment of each bucket."""
    changes = sorted(
        # Who leaves as another comes makes room for them.
        [(call.began, 1) for call in calls] + [(max(call.ended, call.began + 1e-3), -1) for call in calls]
    )
    most, on, index = [0] * count, 0, 0
    for second, change in changes:
        while index < count and second >= first + (index + 1) * wide:
            most[index] = max(most[index], on)
            index += 1
        if index == count:
            break
        on += change
        if second >= first:
            most[index] = max(most[index], on)
    for rest in range(index, count):
        most[rest] = max(most[rest], on if rest == index else 0)
    return most


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None
