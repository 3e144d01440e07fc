"""Figures over time, counted by both databases, against the same counted one by one here."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from infra.store.figures import figures
from infra.store.rows import Figures
from infra.store.store import CallStore
from infra.store.tables import calls, front_ends, latencies
from tests.infra.postgres_kit import Postgres, running_postgres
from tests.infra.store_kit import began, ended, hold, info, opened, turn

NOW = 1_800_002_000.0
HOUR = 3_600
ALIVE = "alive"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CallStore]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    opening = opened(tmp_path, url)
    with opening._writing.begin() as connection:
        beat = {"front_end": ALIVE, "host": "here", "pid": 1, "beats": 1, "beat_s": NOW}
        connection.execute(insert(front_ends), [beat, beat | {"front_end": "dead", "beat_s": NOW - 60}])
    yield opening
    opening.close()


@dataclass
class Called:
    """`ago_s` before `NOW`; `outcome` "" has not ended."""

    ago_s: float
    length_s: float = 60.0
    outcome: str = "completed"
    faults: int = 0
    front_end: str = ALIVE
    clock_jump_s: float = 0.0
    """By which the time of day jumped during the call."""

    @property
    def start_ms(self) -> int:
        return round(1000 * (NOW - self.ago_s))

    @property
    def end_ms(self) -> int:
        on = not self.outcome and self.front_end == ALIVE
        end_ms = round(1000 * NOW) if on else self.start_ms + round(1000 * self.length_s)
        return max(end_ms, self.start_ms + 1)


def put(store: CallStore, told: list[Called], waits: list[tuple[float, float]] = []) -> None:  # noqa: B006
    """`waits` are (seconds ago, ms)."""
    stages = dict.fromkeys(
        ("endpoint_wait_ms", "transcription_ms", "first_token_ms", "first_clause_ms", "first_audio_ms"), 0.0
    ) | {"playout_ms": 0.0}
    text = dict.fromkeys(("way", "caller", "caller_tag", "called", "called_tag", "persona", "reason"), "")
    rows: list[dict[str, Any]] = [
        text
        | {"call_id": f"CA{number}", "seq": 1, "leg": 0, "turns": 0, "counters": "{}", "faults": one.faults}
        | {"front_end": one.front_end, "outcome": one.outcome, "started_ms": one.start_ms}
        | {"duration_s": one.length_s, "updated_ms": one.start_ms + round(1000 * one.length_s)}
        | {"ended_ms": one.end_ms + round(1000 * one.clock_jump_s) if one.outcome else None}
        for number, one in enumerate([*told, *([Called(9e8)] if waits else [])])
    ]
    answers = [
        {"call_id": rows[-1]["call_id"], "leg": 0, "turn": turn, "seq": turn, "gap_ms": ms}
        | {"at_ms": round(1000 * (NOW - ago_s))}
        | stages
        for turn, (ago_s, ms) in enumerate(waits)
    ]
    with store._writing.begin() as connection:
        connection.execute(insert(calls), rows)
        if answers:
            connection.execute(insert(latencies), answers)


def read(store: CallStore, first: int, wide_s: int, last: int = 100, now: float = NOW) -> Figures:
    with store._reading.connect() as connection:
        return figures(connection, first, wide_s, now, last=last, alive_since=NOW - 10)


def first_of(hours: int) -> int:
    return int(NOW // HOUR) * HOUR - HOUR * hours


def test_calls_faults_and_waits_are_counted_where_they_fell(store: CallStore) -> None:
    told = [Called(10), Called(20, outcome="failed", faults=2), Called(2 * HOUR), Called(200 * HOUR)]
    told += [Called(30, outcome=""), Called(30, outcome="", front_end="dead")]
    told += [Called(-HOUR)]  # a clock that was ahead then
    put(store, told, [(10, 500.0), (20, 700.0), (30, 900.0), (2 * HOUR, 400.0), (-9, 1.0)])
    found = read(store, first_of(24), HOUR)
    last = found.buckets[-1]
    assert (last.calls, last.completed, last.failed, last.faults) == (4, 1, 1, 2)
    assert (last.wait_p50_ms, last.wait_p95_ms, last.answers) == (700.0, pytest.approx(880.0), 3)
    assert sum(bucket.calls for bucket in found.buckets) == 5, "one is older, one is to come"
    empty = found.buckets[-2]
    assert (empty.calls, empty.wait_p50_ms, empty.at_once) == (0, None, 0)
    assert [ms for _, ms in found.last] == [400.0, 900.0, 700.0, 500.0]
    assert [ms for _, ms in read(store, first_of(24), HOUR, last=2).last] == [700.0, 500.0]
    assert found.oldest == NOW - 9e8


def test_nothing_at_all(store: CallStore) -> None:
    found = read(store, first_of(24), HOUR)
    assert len(found.buckets) == 25
    assert {(bucket.calls, bucket.at_once, bucket.wait_p95_ms) for bucket in found.buckets} == {(0, 0, None)}
    assert (found.last, found.oldest) == ((), None)


def at_once(told: list[Called], first: int, wide_s: int, count: int) -> list[int]:
    """Millisecond by millisecond would be as simple; at those at which somebody comes is enough."""
    most = [0] * count
    for index in range(count):
        begin_ms = 1000 * (first + index * wide_s)
        end_ms = min(begin_ms + 1000 * wide_s, round(1000 * NOW) + 1)
        moments = {begin_ms, *(one.start_ms for one in told if begin_ms <= one.start_ms < end_ms)}
        most[index] = max(sum(one.start_ms <= at_ms < one.end_ms for one in told) for at_ms in moments)
    return most


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_as_counted_one_by_one(store: CallStore, seed: int) -> None:
    dice = random.Random(seed)
    told = [
        Called(
            round(dice.uniform(0, 30 * HOUR), dice.choice((0, 3))),
            dice.choice((0.0, 60.0, 600.0, dice.uniform(0, 4 * HOUR))),
            dice.choice(("completed", "completed", "failed", "")),
            dice.randrange(3),
            dice.choice((ALIVE, "dead", "unheard of")),
        )
        for _ in range(120)
    ]
    # The last one is no answer's: none began then.
    waits = [(dice.uniform(0, 26 * HOUR), round(dice.uniform(200, 3000), 1)) for _ in range(200)]
    put(store, told, waits)
    first, wide_s = first_of(24), dice.choice((1, 2, 4)) * HOUR
    found = read(store, first, wide_s).buckets
    assert [bucket.at_once for bucket in found] == at_once(told, first, wide_s, len(found))
    for bucket in found:
        began_then = [one for one in told if bucket.at <= one.start_ms / 1000 < bucket.at + wide_s]
        gaps = [ms for ago_s, ms in waits if bucket.at <= round(NOW - ago_s, 3) < bucket.at + wide_s]
        assert bucket.calls == len(began_then)
        assert bucket.completed == sum(one.outcome == "completed" for one in began_then)
        assert bucket.failed == sum(one.outcome == "failed" for one in began_then)
        assert bucket.faults == sum(one.faults for one in began_then)
        assert bucket.answers == len(gaps)
        if gaps:
            told_ms = (bucket.wait_p50_ms, bucket.wait_p95_ms)
            assert told_ms == pytest.approx(np.percentile(gaps, [50, 95]), abs=0.51)


def test_long_waits_are_told_too(store: CallStore) -> None:
    put(store, [], [(10, 12_340.0), (20, 12_360.0), (30, 61_000.0), (40, 9_999.4)])
    last = read(store, first_of(1), HOUR).buckets[-1]
    assert (last.answers, last.wait_p50_ms) == (4, pytest.approx(12_350.0))
    assert last.wait_p95_ms == pytest.approx(12_400 + 0.85 * (61_000 - 12_400))


def test_who_leaves_as_another_comes_makes_room(store: CallStore) -> None:
    put(store, [Called(1000, 100), Called(900, 100), Called(800, 0)])
    assert max(bucket.at_once for bucket in read(store, first_of(2), HOUR).buckets) == 1


def test_a_clock_that_jumps_during_a_call_makes_it_no_longer(store: CallStore) -> None:
    put(
        store, [Called(3.2 * HOUR, 60, clock_jump_s=2 * HOUR), Called(2.2 * HOUR, 60, clock_jump_s=-2 * HOUR)]
    )
    assert [bucket.at_once for bucket in read(store, first_of(4), HOUR).buckets] == [0, 1, 1, 0, 0]


def test_a_call_is_on_in_every_hour_that_it_touches(store: CallStore) -> None:
    put(store, [Called(5.2 * HOUR, 3 * HOUR), Called(40 * HOUR, outcome="")])
    assert [bucket.at_once for bucket in read(store, first_of(3), HOUR).buckets] == [2, 2, 1, 1], (
        "one began before all of it, the other one is on for more than a day"
    )


def test_a_year_of_calls_is_counted_whole(store: CallStore) -> None:
    week_s, many = 7 * 24 * HOUR, 30_000
    put(store, [Called(number * 1_000.0, outcome="failed") for number in range(many)])
    first = int(NOW - 52 * week_s)
    found = read(store, first, week_s)
    assert sum(bucket.calls for bucket in found.buckets) == many
    assert sum(bucket.failed for bucket in found.buckets) == many
    assert found.buckets[5].calls == pytest.approx(week_s / 1000, abs=1)


def test_calls_as_they_were_held(tmp_path: Path) -> None:
    store = opened(tmp_path)
    hold(store, info(), began(info()), turn(1, "Hello?", "Hello."), ended())
    assert store.flush()
    now = time.time()
    last = store.figures(int(now) - 100, 3600, now + 1).buckets[-1]
    assert (last.calls, last.completed, last.answers, last.wait_p50_ms) == (1, 1, 1, 1200.0)
    assert last.at_once == 1
    store.close()
