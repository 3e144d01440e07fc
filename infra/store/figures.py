"""Figures of the house over time, reckoned where the calls lie: a year of calls costs this process no memory,
and none of its interpreter's time.

A call that has ended was on for as long as its own clock says, whatever the time of day did meanwhile; one
that was lost for as long as it is known to have been.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, and_, case, cast, func, literal, select, union_all

from infra.store.rows import BucketRow, Figures
from infra.store.tables import calls, front_ends, latencies

_LONGEST_MS: Final = 86_400_000
"""A call that began earlier than that before the first moment is not on any more: carriers end calls after 24
hours (Twilio's TimeLimit)."""
_PERCENTS: Final = (50, 95)
_FINE_MS: Final = 10_000.0
_COARSE_MS: Final = 100.0
"""Of waits that are longer, for few are, and they may be of any length."""
_AT_ONCE: Final = 1_000


def figures(
    connection: Connection, first: int, wide_s: int, now: float, *, last: int, alive_since: float
) -> Figures:
    """`first` is when the first bucket begins; all last `wide_s` but the one in which `now` is. `last` is how
    many answers are told one by one; front-ends that were heard of after `alive_since` live. Seconds since
    1970. Raises what SQLAlchemy raises."""
    first_ms, wide_ms, now_ms = 1000 * first, 1000 * wide_s, round(1000 * now)
    count = max(0, now_ms - first_ms) // wide_ms + 1
    told: list[dict[str, Any]] = [{"at": float(first + index * wide_s)} for index in range(count)]
    began = (calls.c.started_ms - first_ms) // wide_ms
    begun = (
        select(
            began.label("bucket"),
            func.count().label("calls"),
            func.sum(case((calls.c.outcome == "completed", 1), else_=0)).label("completed"),
            func.sum(case((calls.c.outcome == "failed", 1), else_=0)).label("failed"),
            func.sum(calls.c.faults).label("faults"),
        )
        .where(calls.c.started_ms.between(first_ms, now_ms))
        .group_by(began)
    )
    for row in connection.execute(begun).mappings():
        told[row["bucket"]] |= {name: int(row[name]) for name in ("calls", "completed", "failed", "faults")}
    for bucket, most in connection.execute(_at_once(first_ms, wide_ms, now_ms, alive_since)):
        told[bucket]["at_once"] = int(most)
    for bucket, waits in _waits(connection, first_ms, wide_ms, now_ms):
        told[bucket] |= waits
    newest = (
        select(latencies.c.at_ms, latencies.c.gap_ms)
        .where(latencies.c.at_ms.between(first_ms, now_ms))
        .order_by(latencies.c.at_ms.desc(), latencies.c.call_id, latencies.c.seq.desc())
        .limit(last)
    )
    answers = [(at_ms / 1000, gap_ms) for at_ms, gap_ms in connection.execute(newest)]
    oldest_ms = connection.execute(select(func.min(calls.c.started_ms))).scalar()
    return Figures(
        tuple(BucketRow(**bucket) for bucket in told),
        tuple(answers[::-1]),
        None if oldest_ms is None else oldest_ms / 1000,
    )


def _at_once(first_ms: int, wide_ms: int, now_ms: int, alive_since: float) -> Any:
    """(bucket, most calls): calls that come and go are counted up and down in their order; who leaves as
    another comes makes room. A count of nothing at each bucket's beginning carries over what is on."""
    is_on = and_(calls.c.ended_ms.is_(None), func.coalesce(front_ends.c.beat_s, 0.0) >= alive_since)
    length_ms = cast(1000 * calls.c.duration_s, BigInteger)
    end_ms = case((is_on, literal(now_ms, BigInteger)), else_=calls.c.started_ms + length_ms)
    spans = (
        select(
            calls.c.started_ms.label("start_ms"),
            # Somebody who was not on for a moment was there nonetheless.
            case((end_ms > calls.c.started_ms, end_ms), else_=calls.c.started_ms + 1).label("end_ms"),
        )
        .outerjoin_from(calls, front_ends, calls.c.front_end == front_ends.c.front_end)
        .where(
            calls.c.started_ms.between(first_ms - _LONGEST_MS, now_ms)
            | and_(calls.c.outcome == "", calls.c.started_ms <= now_ms, is_on)
        )
        .cte("spans")
    )
    ticks = select(literal(first_ms, BigInteger).label("at_ms")).cte("ticks", recursive=True)
    ticks = ticks.union_all(select(ticks.c.at_ms + wide_ms).where(ticks.c.at_ms + wide_ms <= now_ms))
    changes = union_all(
        select(spans.c.start_ms.label("at_ms"), literal(1).label("change")),
        select(spans.c.end_ms, literal(-1)),
        select(ticks.c.at_ms, literal(0)),
    ).cte("changes")
    in_order = [changes.c.at_ms, changes.c.change]
    on = func.sum(changes.c.change).over(order_by=in_order, rows=(None, 0))
    levels = select(changes.c.at_ms, on.label("calls_on")).cte("levels")
    bucket = (levels.c.at_ms - first_ms) // wide_ms
    within = levels.c.at_ms.between(first_ms, now_ms)
    return select(bucket, func.max(levels.c.calls_on)).where(within).group_by(bucket)


def _waits(
    connection: Connection, first_ms: int, wide_ms: int, now_ms: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """How many waited how long, to a millisecond: six times as fast as ranking every answer."""
    bucket = (latencies.c.at_ms - first_ms) // wide_ms
    gap_ms = latencies.c.gap_ms
    wait_ms = case(
        (gap_ms < _FINE_MS, func.round(gap_ms)), else_=_COARSE_MS * func.round(gap_ms / _COARSE_MS)
    )
    counted = (
        select(bucket, wait_ms, func.count())
        .where(latencies.c.at_ms.between(first_ms, now_ms))
        .group_by(bucket, wait_ms)
        .order_by(bucket, wait_ms)
        .execution_options(yield_per=_AT_ONCE)
    )
    for index, rows in groupby(connection.execute(counted), key=lambda row: row[0]):
        counts = [(float(ms), int(answers)) for _, ms, answers in rows]
        answers = sum(many for _, many in counts)
        told = {f"wait_p{percent}_ms": _percentile(counts, answers, percent) for percent in _PERCENTS}
        yield index, {"answers": answers, **told}


def _percentile(counts: Sequence[tuple[float, int]], answers: int, percent: int) -> float:
    """Of `answers`; `counts` are (ms, how many), in order."""
    place, rest = divmod((answers - 1) * percent, 100)
    below, above = _at(counts, place), _at(counts, min(place + 1, answers - 1))
    return below + (above - below) * rest / 100


def _at(counts: Sequence[tuple[float, int]], place: int) -> float:
    """The wait at `place`, from 0, of all in order."""
    for ms, many in counts:
        if place < many:
            return ms
        place -= many
    raise IndexError(place)
