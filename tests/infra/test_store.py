"""The store on SQLite and on a real PostgreSQL: what calls tell is read, claimed, searched, forgotten."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, literal, select, update

from infra.daily import DAY_S
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.store.applying import _upsert
from infra.store.errors import StoreError
from infra.store.journal import FOLDER
from infra.store.reading import _with_beats
from infra.store.retention import prune
from infra.store.rows import CallQuery
from infra.store.store import CallStore
from infra.store.tables import CALL_TABLES, calls, front_ends, turns
from pipeline.events import CallEnded, CallerSpoke, CallerTurn, Fault, RecordingPaused, RecordingResumed
from pipeline.line import LineInfo
from tests.infra.postgres_kit import Postgres, running_postgres
from tests.infra.records_kit import KEY, OLD_KEY
from tests.infra.store_kit import (
    CALLER,
    HOUSE,
    began,
    ended,
    hold,
    info,
    message,
    opened,
    tell,
    tool,
    turn,
    under_way,
)

SATURDAY = "When are you open on Saturday?"
NOON = "We are open from nine to noon."


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[CallStore]:
    opening = opened(tmp_path, url)
    yield opening
    opening.close()


def other(url: str, folder: Path, name: str = "other") -> CallStore:
    """Another front-end's, on the same database."""
    return opened(folder, url, front_end=name)


def test_a_call_is_read_as_it_was_held(store: CallStore) -> None:
    call = info()
    hold(store, call, began(call), turn(1, SATURDAY, NOON), tool(1), message(1), ended())
    assert store.flush()
    found = store.call("CA1")
    assert found is not None
    row = found.call
    assert (row.way, row.caller, row.called, row.persona) == ("twilio", CALLER, HOUSE, "clinic")
    assert (row.state, row.outcome, row.reason) == ("ended", "completed", "caller hung up")
    assert (row.turns, row.duration_s, row.counters) == (1, 60.0, {"turns": 2})
    greeting, answer = found.turns
    assert (greeting.turn, greeting.caller, greeting.state) == (0, "", "done")
    assert (answer.caller, answer.text, answer.heard, answer.clauses) == (SATURDAY, NOON, NOON, (NOON,))
    assert sum(answer.stages.values()) == pytest.approx(1200.0)
    assert answer.times["first_token_s"] == pytest.approx(10.1)
    assert [(t.name, t.arguments, t.result) for t in found.tools] == [
        ("find_slot", {"day": "Monday"}, "10 a.m. is free")
    ]
    assert [(m.name, m.number) for m in found.messages] == [("Ann Patel", CALLER)]


def test_a_turn_is_committed_when_it_ends(store: CallStore) -> None:
    call = info()
    observer = hold(store, call, began(call), turn(1, SATURDAY, NOON))
    assert store.flush()
    assert [t.state for t in store.call("CA1").turns] == ["done", "done"]  # type: ignore[union-attr]
    tell(observer, CallerTurn(20.0, 2, "And on Sunday?"))
    assert store.flush()
    assert store.call("CA1").turns[-1].state == "asked"  # type: ignore[union-attr]


def test_a_turn_that_is_taken_up_again_stands_once_with_all_its_words(store: CallStore) -> None:
    call = info()
    observer = hold(store, call, began(call), under_way(1, "When are you open", ["We are"], 0.0))
    assert store.flush()
    tell(observer, CallerTurn(12.0, 1, SATURDAY))
    assert store.flush()
    *_, last = store.call("CA1").turns  # type: ignore[union-attr]
    assert (last.caller, last.text, last.clauses, last.state) == (SATURDAY, "", (), "asked")
    assert last.caller_at_s == 10.0


def test_the_reply_under_way_tells_what_of_it_was_heard(store: CallStore) -> None:
    call = info()
    clauses = ["We are open from nine to noon.", "You can park behind the building."]
    hold(store, call, began(call), turn(1, "Hello.", "Hello!"), under_way(2, SATURDAY, clauses, 1.0))
    assert store.flush()
    found = store.unfinished("CA1")
    assert found is not None
    assert [(t.caller, t.heard) for t in found.turns[1:]] == [("Hello.", "Hello!")]
    assert found.under_way is not None
    assert found.under_way.clauses == tuple(clauses)
    heard = found.under_way.heard
    assert heard
    assert clauses[0].startswith(heard)
    assert heard != clauses[0]
    assert (found.persona, found.way, found.caller, found.called) == ("clinic", "twilio", CALLER, HOUSE)
    assert found.front_end == store.front_end
    assert found.beat_age_s is not None
    assert found.beat_age_s < 60.0


def test_a_call_that_somebody_ended_is_not_unfinished_but_one_that_was_lost_is(store: CallStore) -> None:
    for call_id, reason in (("CA1", "caller hung up"), ("CA2", "connection lost"), ("CA3", "goodbye")):
        call = info(call_id)
        hold(store, call, began(call), ended(reason=reason))
    assert store.flush()
    assert store.unfinished("CA1") is None
    assert store.unfinished("CA3") is None
    assert store.unfinished("unheard of") is None
    lost = store.unfinished("CA2")
    assert lost is not None
    assert lost.reason == "connection lost"


def test_only_one_front_end_claims_a_call(store: CallStore, url: str, tmp_path: Path) -> None:
    call = info()
    observer = hold(store, call, began(call), turn(1, SATURDAY, NOON))
    assert store.flush()
    second, third = other(url, tmp_path, "second"), other(url, tmp_path, "third")
    try:
        assert second.unfinished("CA1") is not None
        assert third.unfinished("CA1") is not None
        assert second.claim("CA1")
        assert not third.claim("CA1")
        assert not second.claim("CA1"), "it is its own already"
        # The one that was thought dead was not: what it says of the call's end does not count any more.
        tell(observer, turn(2, "Still there?", "Yes."), ended(reason="connection lost"))
        assert store.flush()
        assert third.unfinished("CA1").front_end == "second"  # type: ignore[union-attr]
        hold(second, call, began(call), turn(1, "And on Sunday?", "We are closed."), ended())
        assert second.flush()
    finally:
        second.close()
        third.close()
    found = store.call("CA1")
    assert found is not None
    assert (found.call.leg, found.call.front_end, found.call.state) == (1, "second", "ended")
    assert found.call.turns == 2
    assert [(t.leg, t.turn) for t in found.turns] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert found.call.duration_s == pytest.approx(14.0 + 60.0)


def test_a_call_that_has_ended_cannot_be_claimed(store: CallStore) -> None:
    call = info()
    observer = hold(store, call, began(call))
    assert store.flush()
    assert store.unfinished("CA1") is not None
    tell(observer, ended())
    assert store.flush()
    assert not store.claim("CA1")
    assert not store.claim("unheard of")


def test_a_token_is_good_once_on_all_front_ends(store: CallStore, url: str, tmp_path: Path) -> None:
    second = other(url, tmp_path)
    try:
        assert store.use_once("token", until=2e9)
        assert not second.use_once("token", until=2e9)
        assert second.use_once("another", until=0.0)
        assert not store.use_once("another", until=0.0), "clocks jump: it is remembered longer"
    finally:
        second.close()


def test_calls_are_listed_newest_first_in_pages_and_by_what_is_asked(store: CallStore) -> None:
    for number in range(7):
        call = info(f"CA{number}", caller=f"+1202555010{number}")
        persona = "night" if number == 3 else "clinic"
        hold(store, call, began(call, persona), *([ended()] if number != 5 else []))
    assert store.flush()
    first = store.calls(CallQuery(limit=4))
    rest = store.calls(CallQuery(limit=4, before=first[-1].number))
    assert [row.call_id for row in (*first, *rest)] == ["CA6", "CA5", "CA4", "CA3", "CA2", "CA1", "CA0"]
    assert [row.call_id for row in store.calls(CallQuery(persona="night"))] == ["CA3"]
    assert [row.call_id for row in store.calls(CallQuery(caller="+1 (202) 555-0102"))] == ["CA2"]
    assert [row.call_id for row in store.calls(CallQuery(state="live"))] == ["CA5"]
    assert len(store.calls(CallQuery(state="ended", called="+1 202 555 0100"))) == 6
    assert store.calls(CallQuery(state="lost")) == []
    assert len(store.calls(CallQuery(since=0.0, until=5e9))) == 7
    assert store.calls(CallQuery(since=5e9)) == []
    assert [found.call.call_id for found in store.every_call()] == [row.call_id for row in (*first, *rest)]


def test_calls_are_listed_by_outcome_and_by_either_end_in_exact_pages(store: CallStore) -> None:
    for number in range(40):
        call = info(f"CA{number}", *((CALLER, HOUSE) if number % 2 else (HOUSE, CALLER)))
        done = [[ended()], [CallEnded(60.0, "busy", "failed")], []][number % 3]
        hold(store, call, began(call), done)
        assert store.flush()
    failed = [f"CA{number}" for number in range(39, -1, -1) if number % 3 == 1]
    shown: list[str] = []
    before = None
    while page := store.calls(CallQuery(outcome="failed", party="+1 202-555-0123", before=before, limit=5)):
        shown += [row.call_id for row in page]
        before = page[-1].number
    assert shown == failed
    assert len(store.calls(CallQuery(outcome="completed"))) == 14
    assert {row.state for row in store.calls(CallQuery(state="live"))} == {"live"}
    assert len(store.calls(CallQuery(state="live", party=HOUSE))) == 13
    assert store.calls(CallQuery(outcome="failed", party="+12025550177")) == []
    assert store.calls(CallQuery(outcome="' OR 1=1 --\0", persona="%")) == []


def test_an_outcome_is_found_by_its_index(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for query in (CallQuery(outcome="failed"), CallQuery(state="live"), CallQuery(state="lost")):
        with store._reading.connect() as connection:
            asked = store._reader._matching(_with_beats(select(calls, front_ends.c.beat_s)), query, 0.0)
            asked = asked.limit(literal(50))
            text = str(asked.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        assert "calls_by_outcome" in plan[0], plan
        assert not any("TEMP B-TREE" in step for step in plan), (
            "rows come in their order, as many as asked for"
        )
    store.close()


def test_words_are_found_in_calls_that_match(store: CallStore) -> None:
    for number in range(6):
        call = info(f"CA{number}", caller=CALLER if number % 2 else "+12025550177")
        said = [turn(one, f"{SATURDAY} {one}", NOON) for one in range(1, 6)]
        hold(store, call, began(call, "night" if number == 0 else "clinic"), *said, ended())
        assert store.flush()
    first = store.find("saturday OPEN", CallQuery(limit=4))
    assert [found.call.call_id for found in first] == ["CA5", "CA4", "CA3", "CA2"]
    assert [hit.turn for hit in first[0].hits] == [5, 4, 3], "the latest of each"
    rest = store.find("saturday open", CallQuery(limit=4, before=first[-1].call.number))
    assert [found.call.call_id for found in rest] == ["CA1", "CA0"]
    assert [found.call.call_id for found in store.find("open", CallQuery(persona="night"))] == ["CA0"]
    assert [found.call.call_id for found in store.find("open", CallQuery(party=CALLER, limit=1))] == ["CA5"]
    assert store.find("open", CallQuery(outcome="failed")) == []
    assert (
        store.find("  ", CallQuery()) == store.find("%", CallQuery()) == store.find("o_en", CallQuery()) == []
    )


def test_words_of_a_newer_front_end_can_be_read(store: CallStore) -> None:
    hold(store, info(), began(info()), turn(1, SATURDAY, NOON))
    assert store.flush()
    with store._writing.begin() as connection:
        connection.execute(update(turns).values(times='{"first_token_s": 1.0, "not_known_yet_s": 2.0}'))
    found = store.unfinished("CA1")
    assert found is not None
    assert found.turns[1].times == {"first_token_s": 1.0}


def test_words_are_found_whatever_their_case_and_signs(store: CallStore) -> None:
    call = info()
    hold(store, call, began(call), turn(1, "Grüße an FRAU Müller, 100%_sicher", NOON), message(1), ended())
    hold(store, info("CA2"), began(info("CA2")), turn(1, SATURDAY, NOON), ended())
    assert store.flush()
    assert [(hit.call.call_id, hit.who, hit.turn) for hit in store.search("frau MÜLLER")] == [
        ("CA1", "caller", 1)
    ]
    assert [hit.call.call_id for hit in store.search("NOON nine")] == ["CA2", "CA1"]
    assert [hit.who for hit in store.search("call me patel")] == ["message"]
    assert [hit.call.call_id for hit in store.search("100%_s")] == ["CA1"]
    assert store.search("1000_s") == []
    assert store.search("%") != []
    assert store.search("  ") == []
    assert len(store.search("noon", limit=1)) == 1


def test_latencies_come_in_order(store: CallStore) -> None:
    call = info()
    hold(store, call, began(call), turn(1, SATURDAY, NOON), turn(2, "Thanks.", "Bye."))
    assert store.flush()
    found = store.latencies(since=0.0)
    assert [(one.turn, one.gap_ms) for one in found] == [(1, 1200.0), (2, 1200.0)]
    assert found[0].stages["first_token_ms"] == pytest.approx(200.0)
    assert [one.turn for one in store.latencies(since=0.0, limit=1)] == [2]
    assert store.latencies(since=9e9) == []


def test_what_databases_refuse_is_stored_without_it(store: CallStore) -> None:
    call = info()
    hold(store, call, began(call), turn(1, "a\0b \ud800 \U0001f600 'quoted'; DROP TABLE calls", NOON))
    assert store.flush()
    assert store.call("CA1").turns[1].caller == "ab ? \U0001f600 'quoted'; DROP TABLE calls"  # type: ignore[union-attr]


def test_a_caller_is_forgotten_while_servers_run(store: CallStore, url: str, tmp_path: Path) -> None:
    ours, theirs = info(), info("CA2", "+12025550177")
    hold(store, ours, began(ours), turn(1, SATURDAY, NOON), tool(1), message(1), ended())
    hold(store, theirs, began(theirs), turn(1, SATURDAY, NOON), message(1), ended())
    on = hold(store, info("CA3"), began(info("CA3")))
    dialled = info("CA4", caller=HOUSE, called=CALLER)
    hold(store, dialled, began(dialled), ended())
    assert store.flush()
    second = other(url, tmp_path)
    try:
        done = second.forget("+1 (202) 555-0123")
    finally:
        second.close()
    assert sorted(done.calls) == ["CA1", "CA3", "CA4"]
    assert (done.turns, done.tool_runs, done.messages) == (4, 1, 2)
    assert done.on_now == ("CA3",)
    tell(on, turn(1, "My number is five five five", NOON), ended())
    assert store.flush()
    assert [row.call_id for row in store.calls()] == ["CA2"], "a call that was on leaves nothing either"
    assert store.call("CA2").messages == ()  # type: ignore[union-attr]
    assert store.search("five") == []
    again = store.forget(CALLER)
    assert (again.calls, again.turns, again.messages, again.on_now) == ((), 0, 0, ())
    assert store.lost == 0


def test_old_calls_are_pruned(store: CallStore) -> None:
    for call_id in ("CA1", "CA2"):
        hold(store, info(call_id), began(info(call_id)), turn(1, SATURDAY, NOON), ended())
    assert store.flush()
    now = store.calls()[0].updated_at
    assert prune(store._writing, 30.0, now + 29 * DAY_S) == 0
    assert prune(store._writing, 30.0, now + 31 * DAY_S) == 2
    assert store.calls() == []
    assert store.search("noon") == []


def test_a_clock_that_jumps_changes_no_order(url: str, tmp_path: Path) -> None:
    wall = [1_800_000_000.0]
    store = opened(tmp_path, url, wall=lambda: wall[0])
    try:
        call = info()
        observer = hold(store, call, began(call))
        assert store.flush()
        for number, jump_s in ((1, -3600.0), (2, 7200.0), (3, -3600.0)):
            wall[0] += jump_s
            tell(observer, turn(number, f"question {number}", f"answer {number}"))
            assert store.flush()
        tell(observer, ended())
        later = info("CA2")
        wall[0] -= 3600.0
        hold(store, later, began(later), ended())
        assert store.flush()
        found = store.call("CA1")
        assert found is not None
        assert [t.caller for t in found.turns] == ["", "question 1", "question 2", "question 3"]
        assert found.call.duration_s == 60.0
        assert found.call.state == "ended"
        assert [row.call_id for row in store.calls()] == ["CA2", "CA1"]
    finally:
        store.close()


def test_a_clock_that_was_set_back_brings_no_dead_front_end_to_life(store: CallStore) -> None:
    hold(store, info(), began(info()))
    assert store.flush()
    with store._writing.begin() as connection:
        connection.execute(update(calls).values(front_end="dead"))
        beat_s = select(front_ends.c.beat_s + 3600.0).scalar_subquery()
        dead = {"front_end": "dead", "host": "there", "pid": 1, "beats": 1, "beat_s": beat_s}
        connection.execute(insert(front_ends).values(dead))
    assert [row.state for row in store.calls(CallQuery(state="lost"))] == ["lost"]
    assert store.calls(CallQuery(state="live")) == []


def test_what_pauses_hide_is_nowhere_in_the_database(url: str, tmp_path: Path) -> None:
    store = opened(tmp_path, url)
    call = info()
    pause = [
        RecordingPaused(15.0, "a card"),
        *turn(2, "4111 1111", "Thank you, 4111."),
        message(2, "4111"),
        tool(2),
    ]
    hold(
        store,
        call,
        began(call),
        turn(1, SATURDAY, NOON),
        pause,
        RecordingResumed(30.0),
        CallerSpoke(38.0, 39.5),
        turn(4, "Bye.", "Bye."),
    )
    assert store.flush()
    found = store.call("CA1")
    store.close()
    assert found is not None
    assert [t.caller for t in found.turns] == ["", SATURDAY, "[not recorded]", "Bye."]
    assert found.turns[2].clauses == ("[not recorded]",)
    assert [note.kind for note in found.notes] == ["paused", "resumed"]
    assert "4111" not in repr(found)
    if not url:
        assert b"4111" not in b"".join(path.read_bytes() for path in tmp_path.glob("maya.db*"))


@pytest.mark.parametrize(
    ("policy", "keep_words"),
    [
        (RecordingPolicy(keep="audio"), True),
        (RecordingPolicy(enabled=False), True),
        (RecordingPolicy(), False),
    ],
)
def test_where_no_words_are_kept_the_store_keeps_none(
    policy: RecordingPolicy, keep_words: bool, url: str, tmp_path: Path
) -> None:
    store = opened(tmp_path, url, policy, keep_words=keep_words)
    call = info()
    fault = Fault(5.0, "transcriber", "could not hear Saturday")
    hold(store, call, began(call), turn(1, SATURDAY, NOON), fault, tool(1), message(1), ended())
    assert store.flush()
    found = store.call("CA1")
    store.close()
    assert found is not None
    assert "Saturday" not in repr(found)
    assert "Monday" not in repr(found)
    assert "Patel" not in repr(found)
    assert found.turns[1].stages, "times are kept"


def test_sealed_words_are_read_and_searched_with_the_key_alone(url: str, tmp_path: Path) -> None:
    policy = RecordingPolicy(encrypt=True)
    store = opened(tmp_path, url, policy, KeyRing([KEY]))
    call = info()
    hold(store, call, began(call), turn(1, SATURDAY, NOON), tool(1), message(1), ended())
    assert store.flush()
    assert store.call("CA1").turns[1].caller == SATURDAY  # type: ignore[union-attr]
    assert store.calls(CallQuery(caller=CALLER))[0].caller == CALLER
    store.close()
    if not url:
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("maya.db*"))
        assert b"Saturday" not in stored
        assert b"2025550123" not in stored
        assert b"Patel" not in stored
    newer = opened(tmp_path, url, policy, KeyRing([OLD_KEY, KEY]))
    assert [hit.call.call_id for hit in newer.search("SATURDAY")] == ["CA1"]
    assert newer.calls(CallQuery(caller=CALLER)) != [], "found by the tag of the key before"
    newer.close()
    unsealing = opened(tmp_path, url, None, KeyRing([OLD_KEY, KEY]))
    assert [hit.call.call_id for hit in unsealing.search("SATURDAY")] == ["CA1"], "sealed before"
    assert [found.call.call_id for found in unsealing.find("patel", CallQuery())] == ["CA1"]
    unsealing.close()
    keyless = opened(tmp_path, url, policy, KeyRing([OLD_KEY]))
    found = keyless.call("CA1")
    assert found is not None
    assert (found.call.caller, found.turns[1].text) == ("[sealed]", "[sealed]")
    assert keyless.search("saturday") == []
    keyless.close()
    forgetting = opened(tmp_path, url, policy, KeyRing([OLD_KEY, KEY]))
    assert forgetting.forget(CALLER).calls == ("CA1",)
    forgetting.close()


def test_where_the_recording_lies_is_stored(store: CallStore, tmp_path: Path) -> None:
    folder = tmp_path / "CA1"
    folder.mkdir()
    (folder / "recording.sealed").touch()
    observer = store.observer(info(), lambda: folder)
    tell(observer, began(info()), ended())
    assert store.flush()
    (place,) = store.call("CA1").recordings  # type: ignore[union-attr]
    assert (place.folder, place.encrypted) == (str(folder), True)


def test_where_a_short_call_was_recorded_is_stored_though_the_disk_is_slow(
    store: CallStore, tmp_path: Path
) -> None:
    places: list[Path] = []
    observer = store.observer(info(), lambda: places[0] if places else None)
    tell(observer, began(info()), ended())
    assert store.flush()
    assert store.call("CA1").recordings == ()  # type: ignore[union-attr]
    places.append(tmp_path / "CA1")
    assert store.flush()
    (place,) = store.call("CA1").recordings  # type: ignore[union-attr]
    assert place.folder == str(tmp_path / "CA1")


def test_two_servers_write_to_one_database_at_once(store: CallStore, url: str, tmp_path: Path) -> None:
    second = other(url, tmp_path)
    try:
        for number in range(30):
            for one, name in ((store, "A"), (second, "B")):
                call = LineInfo(f"{name}{number}", "sip", CALLER, HOUSE)
                hold(one, call, began(call), turn(1, SATURDAY, NOON), ended())
        assert store.flush()
        assert second.flush()
    finally:
        second.close()
    rows = store.calls(CallQuery(limit=100))
    assert len(rows) == 60
    assert all(row.state == "ended" and row.turns == 1 for row in rows)
    assert not (tmp_path / FOLDER).exists()


def test_a_store_without_calls_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no calls are stored yet"):
        opened(tmp_path, writing=False)
    assert not (tmp_path / "maya.db").exists()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = opened(tmp_path)
    hold(store, info(), began(info()))
    assert store.flush()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("maya.db*")} == {0o600}
    store.close()


def test_an_end_without_a_beginning_harms_nothing(store: CallStore) -> None:
    hold(store, replace(info(), call_id="CA9"), CallEnded(0.0, "busy", "failed"))
    assert store.flush()
    assert [(row.call_id, row.reason) for row in store.calls()] == [("CA9", "busy")]


def test_many_rows_are_written_by_a_statement_that_returns_none() -> None:
    for table in CALL_TABLES:
        assert "RETURNING" not in str(_upsert(table)), table.name
