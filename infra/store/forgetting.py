"""Deletes a caller's data, while servers run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from infra.store.account import Row
from infra.store.database import adopt
from infra.store.engine import database_time_s, wipe
from infra.store.journal import journals, read
from infra.store.leftovers import note, of_caller
from infra.store.reading import recording_of
from infra.store.rows import Forgotten, Leftover
from infra.store.tables import calls, forgotten, messages, recordings, tool_runs, turns
from infra.store.words import Words, same_number

_AT_ONCE: Final = 500


def forget(engine: Engine, words: Words, folder: Path, number: str) -> Forgotten:
    """`folder` holds the journals. Where the recordings lie is remembered until they are said to be gone.
    Raises what SQLAlchemy raises, and `OSError` for journals."""
    adopt(engine, folder)
    tags = words.tags(number)
    if not tags:
        return Forgotten(same_number(number))
    # Of servers that wait for the database right now: what they will write is refused.
    waiting = {
        row["call_id"]
        for path in journals(folder)
        for table, row in _rows_of(path)
        if table == "calls" and (row["caller_tag"] in tags or row["called_tag"] in tags)
    }
    with engine.begin() as connection:
        theirs = calls.c.caller_tag.in_(tags) | calls.c.called_tag.in_(tags)
        found = connection.execute(select(calls.c.call_id, calls.c.ended_ms).where(theirs)).all()
        ids = [call_id for call_id, _ in found]
        told = [0, 0, 0]
        places: list[Any] = []
        _refuse(connection, {*ids, *waiting})
        for begin in range(0, len(ids), _AT_ONCE):
            some = ids[begin : begin + _AT_ONCE]
            for place, table in enumerate((turns, tool_runs, messages)):
                count = select(func.count()).select_from(table).where(table.c.call_id.in_(some))
                told[place] += connection.execute(count).scalar_one()
            asked = select(recordings).where(recordings.c.call_id.in_(some))
            places += [recording_of(row) for row in connection.execute(asked).mappings()]
            connection.execute(delete(calls).where(calls.c.call_id.in_(some)))
        # Left on calls of others, with this number to call back.
        told[2] += connection.execute(delete(messages).where(messages.c.number_tag.in_(tags))).rowcount
        note(connection, (Leftover(place.host, place.folder, words.tag(number)) for place in places))
        left = of_caller(connection, tags)
    wipe(engine)
    return Forgotten(
        same_number(number),
        calls=tuple(ids),
        turns=told[0],
        tool_runs=told[1],
        messages=told[2],
        recordings=tuple(places),
        on_now=tuple(sorted({call_id for call_id, ended_ms in found if ended_ms is None} | waiting)),
        left=left,
    )


def _rows_of(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        for rows in read(path):
            for (table, _), row in rows.items():
                yield table, row
    except FileNotFoundError:
        return  # somebody has committed it meanwhile


def _refuse(connection: Connection, ids: set[str]) -> None:
    """Nothing more is stored of these calls."""
    if ids:
        insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
        now_s = database_time_s(connection)
        rows = [{"call_id": call_id, "at_s": now_s} for call_id in sorted(ids)]
        connection.execute(insert(forgotten).on_conflict_do_nothing(), rows)
