"""Events to rows, without a database."""

import json

from infra.records.policy import RecordingPolicy
from infra.store.account import CallAccount, Leg
from infra.store.tables import CALL_TABLES, KEYS, LEG_BITS
from infra.store.words import Words
from pipeline.events import AgentClause, CallerTurn, CallEvent
from tests.infra.store_kit import began, ended, info, message, tool, turn


def account(leg: Leg | None = None) -> CallAccount:
    return CallAccount(
        info(), Words(), RecordingPolicy(), front_end="one", host="here", started_ms=1_000, leg=leg
    )


def tell(told: CallAccount, *events: CallEvent) -> list[bool]:
    return [told.take(event, 2_000) for event in events]


def test_every_row_has_every_column_of_its_table() -> None:
    told = account()
    tell(told, *began(info()), *turn(1, "a", "b"), tool(1), message(1), ended())
    told.placed(None)
    columns = {table.name: {c.name for c in table.columns} for table in CALL_TABLES}
    rows = told.rows()
    assert {table for table, _ in rows} == {"calls", "turns", "tool_runs", "messages", "latencies"}
    for (table, key), row in rows.items():
        assert set(row) == columns[table] - ({"number"} if table == "calls" else set())
        assert key == tuple(row[name] for name in KEYS[table])


def test_what_was_told_is_not_told_again_until_it_changes() -> None:
    told = account()
    tell(told, *began(info()))
    assert told.dirty
    first = told.rows()
    assert not told.dirty
    assert told.rows() == {}
    assert [table for table, _ in told.rows(with_call=True)] == ["calls"]
    tell(told, CallerTurn(9.0, 1, "Hello"))
    again = told.rows()
    assert [key for _, key in again] == [("CA1",), ("CA1", 0, 1)]
    call = ("calls", ("CA1",))
    assert again[call]["seq"] > first[call]["seq"]


def test_only_what_is_over_is_urgent() -> None:
    told = account()
    assert tell(told, *began(info()), *turn(1, "a", "b")) == [True, False, True, True, False, True]


def test_a_later_leg_counts_on_and_outdoes_the_one_before() -> None:
    told = account(Leg(1, started_ms=5, before_s=100.0, turns=7, faults=2))
    tell(told, *began(info()), *turn(1, "a", "b"))
    rows = told.rows()
    call = rows["calls", ("CA1",)]
    assert (call["leg"], call["started_ms"], call["duration_s"], call["turns"]) == (1, 5, 114.0, 8)
    assert call["seq"] > 1 << LEG_BITS
    assert ("turns", ("CA1", 1, 1)) in rows


def test_of_a_reply_under_way_the_estimate_grows_with_what_was_played() -> None:
    told = account()
    tell(told, CallerTurn(9.0, 1, "Hello"), AgentClause(10.0, 1, "One two three four five six seven eight."))
    heard = []
    for seconds in (0.0, 0.5, 1.0, 1.5):
        told.played(1, round(8_000 * seconds))
        heard.append(told.rows(with_call=True).get(("turns", ("CA1", 0, 1)), {}).get("heard", heard[-1:]))
    lengths = [len(str(words).split()) for words in heard[1:]]
    assert lengths == sorted(lengths)
    assert 0 < lengths[-1] < 9
    told.played(2, 8_000)
    assert not told.dirty, "of another reply"


def test_rows_are_json() -> None:
    told = account()
    tell(told, *began(info()), *turn(1, "a", "b"), tool(1), message(1), ended())
    assert json.loads(json.dumps(list(told.rows().values())))


def test_turns_that_are_over_are_let_go() -> None:
    told = account()
    for number in range(1, 500):
        tell(told, *turn(number, "a", "b"))
        told.rows()
    assert len(told._turns) <= 4
