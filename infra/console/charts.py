"""Figures of the house over time, for the page's charts. No I/O."""

from dataclasses import asdict
from typing import Any, Final

from infra.store.rows import Figures

Chart = dict[str, Any]
MOST_HOURS: Final = 24 * 366
LAST_ANSWERS: Final = 100
MOST_AHEAD_MIN: Final = 14 * 60
MOST_BEHIND_MIN: Final = 12 * 60
"""Of UTC, of any clock on earth."""
_MOST_BUCKETS: Final = 180
_DAY_S: Final = 86_400


def bucket_s_of(hours: int) -> int:
    """Hours as long as that gives few enough of them, then longer and longer pieces of days."""
    for wide_h in (1, 2, 4, 6, 12, 24, 48):
        if hours / wide_h <= _MOST_BUCKETS:
            return 3600 * wide_h
    return 7 * _DAY_S


def first_of(hours: int, now: float, ahead_min: int = 0) -> int:
    """When the first bucket begins: at a round hour, or midnight, of a clock `ahead_min` ahead of UTC, so
    that the last `hours` are within. Seconds since 1970."""
    wide_s = bucket_s_of(hours)
    ahead_s = 60 * ahead_min
    return int((now - 3600 * hours + ahead_s) // wide_s) * wide_s - ahead_s


def chart_of(told: Figures, hours: int, now: float) -> Chart:
    """`{buckets, bucket_s, answers, covers}`; what is not known of a bucket is None. `covers` says of what
    the charts are drawn: all calls and answers that are stored of the time between."""
    buckets = []
    for row in told.buckets:
        bucket = asdict(row)
        bucket["at_s"] = round(bucket.pop("at"))
        for name in ("wait_p50_ms", "wait_p95_ms"):
            bucket[name] = None if bucket[name] is None else round(bucket[name], 1)
        buckets.append(bucket)
    answers = [{"at_s": round(second, 1), "wait_ms": round(ms, 1)} for second, ms in told.last]
    covers = {
        "from_s": buckets[0]["at_s"],
        "to_s": round(now, 1),
        "calls": sum(row.calls for row in told.buckets),
        "answers": sum(row.answers for row in told.buckets),
        "oldest_s": told.oldest,
    }
    return {"buckets": buckets, "bucket_s": bucket_s_of(hours), "answers": answers, "covers": covers}
