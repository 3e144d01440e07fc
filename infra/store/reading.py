"""The read side: blocking questions, for threads."""

import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, and_, func, or_, select

from infra.store.account import place_of
from infra.store.engine import asking, database_time_s
from infra.store.figures import figures
from infra.store.rows import (
    CallQuery,
    CallRow,
    CallState,
    Figures,
    FoundCall,
    LatencyRow,
    MessageRow,
    NoteRow,
    RecordingRow,
    SearchHit,
    StoredCall,
    ToolRow,
    TurnRow,
    Unfinished,
)
from infra.store.tables import calls, front_ends, latencies, messages, notes, recordings, tool_runs, turns
from infra.store.words import SEALED, Words, fold, plain
from pipeline.events import TurnTimes
from pipeline.resuming import line_was_lost

ALIVE_S: Final = 10.0
"""A front-end whose last beat is older is taken for dead."""
STAGES: Final = ("endpoint_wait", "transcription", "first_token", "first_clause", "first_audio", "playout")
_AT_ONCE: Final = 500
_HITS_OF_A_CALL: Final = 3
_TIMES: Final = frozenset(field.name for field in fields(TurnTimes)) - {"turn"}


class Reader:
    """Every method may raise `StoreUnavailable`."""

    def __init__(self, engine: Engine, words: Words) -> None:
        self._engine = engine
        self._words = words

    def calls(self, query: CallQuery) -> list[CallRow]:
        with asking("the calls cannot be listed"), self._engine.connect() as connection:
            now_s = database_time_s(connection)
            statement = self._matching(_with_beats(select(calls, front_ends.c.beat_s)), query, now_s)
            return [self._call(row, now_s) for row in connection.execute(statement).mappings()]

    def call(self, call_id: str) -> StoredCall | None:
        with asking("the call cannot be read"), self._engine.connect() as connection:
            return self._whole(connection, call_id)

    def every_call(self, query: CallQuery) -> Iterator[StoredCall]:
        """All that match, newest first, read in portions: `limit` counts them all, 0 is no limit."""
        left = query.limit or None
        before = query.before
        while left is None or left > 0:
            portion = min(_AT_ONCE, left) if left is not None else _AT_ONCE
            found = self.calls(replace(query, before=before, limit=portion))
            for row in found:
                whole = self.call(row.call_id)
                if whole is not None:
                    yield whole
            if len(found) < portion:
                return
            before = found[-1].number
            left = None if left is None else left - len(found)

    def search(self, text: str, *, limit: int = 50) -> list[SearchHit]:
        """Turns and messages that hold all words of `text`, newest calls first. Case does not matter."""
        found: list[SearchHit] = []
        with asking("the calls cannot be searched"), self._engine.connect() as connection:
            for hit in self._hits(connection, text, CallQuery(limit=0)):
                if len(found) == limit:
                    break
                found.append(hit)
        return found

    def find(self, text: str, query: CallQuery) -> list[FoundCall]:
        """Calls that match `query` and in which a turn or a message holds all words of `text`."""
        found: list[tuple[CallRow, list[SearchHit]]] = []
        with asking("the calls cannot be searched"), self._engine.connect() as connection:
            for hit in self._hits(connection, text, query):
                if not found or found[-1][0].number != hit.call.number:
                    if len(found) == query.limit:
                        break
                    found.append((hit.call, []))
                if len(found[-1][1]) < _HITS_OF_A_CALL:
                    found[-1][1].append(hit)
        return [FoundCall(call, tuple(hits)) for call, hits in found]

    def figures(self, first: int, wide_s: int, now: float, *, last: int = 100) -> Figures:
        """What happened from `first` until `now`, in pieces of `wide_s` each; the `last` answers also one by
        one. Seconds since 1970, by the clock of the front-ends."""
        with asking("the calls cannot be counted"), self._engine.connect() as connection:
            alive_since = database_time_s(connection) - ALIVE_S
            return figures(connection, first, wide_s, now, last=last, alive_since=alive_since)

    def latencies(self, since: float, *, limit: int = 100_000) -> list[LatencyRow]:
        """Answers since then (seconds since 1970), in order; the newest where there are more than `limit`."""
        statement = (
            select(latencies)
            .where(latencies.c.at_ms >= round(1000 * since))
            .order_by(latencies.c.at_ms.desc(), latencies.c.call_id, latencies.c.seq.desc())
            .limit(limit)
        )
        with asking("the latencies cannot be read"), self._engine.connect() as connection:
            found = [
                LatencyRow(
                    row["call_id"],
                    row["leg"],
                    row["turn"],
                    row["at_ms"] / 1000,
                    row["gap_ms"],
                    {f"{name}_ms": row[f"{name}_ms"] for name in STAGES},
                )
                for row in connection.execute(statement).mappings()
            ]
        return found[::-1]

    def unfinished(self, call_id: str) -> Unfinished | None:
        """None for a call that is not known, or whose caller or agent ended it."""
        with asking("the call cannot be read"), self._engine.connect() as connection:
            whole = self._whole(connection, call_id)
            if whole is None:
                return None
            row = whole.call
            if row.ended_at is not None and not line_was_lost(row.reason):
                return None
            beat_s = connection.execute(
                select(front_ends.c.beat_s).where(front_ends.c.front_end == row.front_end)
            ).scalar()
            now_s = database_time_s(connection)
        *before, last = whole.turns or (None,)
        under_way = last if last is not None and last.state == "replying" else None
        committed = tuple(turn for turn in (*before, last) if turn is not None and turn is not under_way)
        return Unfinished(
            call_id=call_id,
            leg=row.leg,
            persona=row.persona,
            way=row.way,
            caller=row.caller,
            called=row.called,
            front_end=row.front_end,
            beat_age_s=None if beat_s is None else max(0.0, now_s - beat_s),
            started_at=row.started_at,
            turns=committed,
            under_way=under_way,
            tools=whole.tools,
            reason=row.reason,
        )

    # Statements

    def _matching(self, statement: Select[Any], query: CallQuery, now_s: float) -> Select[Any]:
        """`statement` is about `calls` and `front_ends`."""
        statement = statement.order_by(calls.c.number.desc())
        if query.limit:
            statement = statement.limit(query.limit)
        ends = (
            (query.caller, (calls.c.caller_tag,)),
            (query.called, (calls.c.called_tag,)),
            (query.party, (calls.c.caller_tag, calls.c.called_tag)),
        )
        for number, columns in ends:
            if number:
                tags = self._words.tags(number)
                statement = statement.where(or_(*(column.in_(tags) for column in columns)))
        for column, value in ((calls.c.persona, query.persona), (calls.c.way, query.way)):
            if value:
                statement = statement.where(column == plain(value))
        if query.since is not None:
            statement = statement.where(calls.c.started_ms >= round(1000 * query.since))
        if query.until is not None:
            statement = statement.where(calls.c.started_ms < round(1000 * query.until))
        if query.before is not None:
            statement = statement.where(calls.c.number < query.before)
        if query.outcome:
            statement = statement.where(
                calls.c.outcome == plain(query.outcome), calls.c.ended_ms.is_not(None)
            )
        if query.state == "ended":
            statement = statement.where(calls.c.ended_ms.is_not(None))
        elif query.state is not None:
            alive = func.coalesce(front_ends.c.beat_s, 0.0).between(now_s - ALIVE_S, now_s + ALIVE_S)
            # An outcome comes with the end: by it those that have none are found quickly.
            statement = statement.where(
                calls.c.outcome == "",
                calls.c.ended_ms.is_(None),
                alive if query.state == "live" else ~alive,
            )
        return statement

    def _hits(self, connection: Connection, text: str, query: CallQuery) -> Iterator[SearchHit]:
        """Newest calls first, and the latest of each; as they are asked for. `query.limit` counts nothing."""
        wanted = fold(plain(text)).split()
        if not wanted:
            return
        now_s = database_time_s(connection)
        query = replace(query, limit=0)
        said = self._hits_in(connection, turns, self._turn_hit, wanted, query, now_s)
        left = self._hits_in(connection, messages, self._message_hit, wanted, query, now_s)
        yield from heapq.merge(said, left, key=lambda hit: -hit.call.number)

    def _hits_in(
        self,
        connection: Connection,
        table: Any,
        hit: Callable[[Mapping[Any, Any], Sequence[str], float], SearchHit | None],
        wanted: Sequence[str],
        query: CallQuery,
        now_s: float,
    ) -> Iterator[SearchHit]:
        """In one table. Words that are sealed cannot be compared in the database: they are unlocked here."""
        holds = and_(*(table.c.folded.contains(word, autoescape=True) for word in wanted))
        said = ("caller", "text") if table is turns else ("name", "text")
        sealed = and_(table.c.folded == "", or_(*(table.c[name].startswith(SEALED) for name in said)))
        asked = select(*_named(table), *_named(calls), front_ends.c.beat_s).join_from(
            table, calls, table.c.call_id == calls.c.call_id
        )
        statement = (
            self._matching(
                asked.outerjoin(front_ends, calls.c.front_end == front_ends.c.front_end), query, now_s
            )
            .where(or_(holds, sealed))
            .order_by(table.c.leg.desc(), table.c.seq.desc())
            .execution_options(yield_per=_AT_ONCE)
        )
        for row in connection.execute(statement).mappings():
            found = hit(row, wanted, now_s)
            if found is not None:
                yield found

    def _turn_hit(self, row: Mapping[Any, Any], wanted: Sequence[str], now_s: float) -> SearchHit | None:
        turn = self._turn(_of(turns, row))
        sides = (("caller", turn.caller), ("agent", turn.text))
        if not _holds(f"{turn.caller}\n{turn.text}", wanted):
            return None
        who, text = next((side for side in sides if _holds(side[1], wanted)), sides[0])
        call = self._call({**_of(calls, row), "beat_s": row["beat_s"]}, now_s)
        return SearchHit(call, turn.leg, turn.turn, "caller" if who == "caller" else "agent", text)

    def _message_hit(self, row: Mapping[Any, Any], wanted: Sequence[str], now_s: float) -> SearchHit | None:
        message = self._message(_of(messages, row))
        if not _holds(f"{message.name}\n{message.text}", wanted):
            return None
        call = self._call({**_of(calls, row), "beat_s": row["beat_s"]}, now_s)
        return SearchHit(call, message.leg, message.turn, "message", f"{message.name}: {message.text}")

    # Rows

    def _whole(self, connection: Connection, call_id: str) -> StoredCall | None:
        statement = _with_beats(select(calls, front_ends.c.beat_s)).where(calls.c.call_id == call_id)
        found = connection.execute(statement).mappings().first()
        if found is None:
            return None

        def rows(table: Any, make: Callable[[Mapping[Any, Any]], Any], order: str = "seq") -> tuple[Any, ...]:
            ask = select(table).where(table.c.call_id == call_id).order_by(table.c.leg, table.c[order])
            return tuple(make(row) for row in connection.execute(ask).mappings())

        return StoredCall(
            self._call(found, database_time_s(connection)),
            turns=rows(turns, self._turn, "turn"),
            tools=rows(tool_runs, self._tool),
            messages=rows(messages, self._message),
            notes=rows(notes, self._note),
            recordings=rows(recordings, recording_of),
        )

    def _call(self, row: Mapping[Any, Any], now_s: float) -> CallRow:
        ended_ms, beat_s = row["ended_ms"], row["beat_s"]
        state: CallState = "ended"
        if ended_ms is None:
            # A beat of a time to come: the clock was set back. Who lives soon beats by the new one.
            state = "live" if beat_s is not None and abs(now_s - beat_s) <= ALIVE_S else "lost"
        return CallRow(
            number=row["number"],
            call_id=row["call_id"],
            way=row["way"],
            caller=self._read("calls", row, "caller"),
            called=self._read("calls", row, "called"),
            persona=row["persona"],
            front_end=row["front_end"],
            leg=row["leg"],
            started_at=row["started_ms"] / 1000,
            updated_at=row["updated_ms"] / 1000,
            ended_at=None if ended_ms is None else ended_ms / 1000,
            duration_s=row["duration_s"],
            state=state,
            outcome=row["outcome"],
            reason=row["reason"],
            turns=row["turns"],
            faults=row["faults"],
            counters=json.loads(row["counters"]),
        )

    def _turn(self, row: Mapping[Any, Any]) -> TurnRow:
        clauses = self._read("turns", row, "clauses")
        # A newer front-end on the same database may know more of them.
        times = {name: at_s for name, at_s in json.loads(row["times"]).items() if name in _TIMES}
        return TurnRow(
            leg=row["leg"],
            turn=row["turn"],
            state=row["state"],
            caller=self._read("turns", row, "caller"),
            text=self._read("turns", row, "text"),
            heard=self._read("turns", row, "heard"),
            interrupted=bool(row["interrupted"]),
            clauses=tuple(json.loads(clauses)) if clauses.startswith('["') else (),
            caller_at_s=row["caller_at_s"],
            began_at_s=row["began_at_s"],
            done_at_s=row["done_at_s"],
            times=times,
            stages=TurnTimes(row["turn"], **times).stages_ms(),
        )

    def _tool(self, row: Mapping[Any, Any]) -> ToolRow:
        arguments = self._read("tool_runs", row, "arguments")
        return ToolRow(
            leg=row["leg"],
            turn=row["turn"],
            at_s=row["at_s"],
            name=row["name"],
            arguments=json.loads(arguments) if arguments.startswith("{") else {},
            outcome=row["outcome"],
            seconds=row["seconds"],
            result=self._read("tool_runs", row, "result"),
            detail=self._read("tool_runs", row, "detail"),
        )

    def _message(self, row: Mapping[Any, Any]) -> MessageRow:
        name, number, text = (self._read("messages", row, column) for column in ("name", "number", "text"))
        return MessageRow(row["call_id"], row["leg"], row["turn"], row["at_s"], name, number, text)

    def _note(self, row: Mapping[Any, Any]) -> NoteRow:
        return NoteRow(row["leg"], row["at_s"], row["kind"], self._read("notes", row, "text"))

    def _read(self, table: str, row: Mapping[Any, Any], column: str) -> str:
        stored: str = row[column]
        if not self._words.is_sealed(stored):
            return stored
        return self._words.read(stored, f"{place_of(table, row)}/{column}", row["call_id"])


def recording_of(row: Mapping[Any, Any]) -> RecordingRow:
    return RecordingRow(row["leg"], row["host"], row["folder"], bool(row["encrypted"]))


def _with_beats(statement: Select[Any]) -> Select[Any]:
    return statement.outerjoin_from(calls, front_ends, calls.c.front_end == front_ends.c.front_end)


def _named(table: Any) -> list[Any]:
    return [column.label(f"{table.name}_{column.name}") for column in table.columns]


def _of(table: Any, row: Mapping[Any, Any]) -> dict[str, Any]:
    return {column.name: row[f"{table.name}_{column.name}"] for column in table.columns}


def _holds(text: str, wanted: Sequence[str]) -> bool:
    folded = fold(text)
    return all(word in folded for word in wanted)
