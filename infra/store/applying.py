"""Writes rows, so that doing it twice, or late, changes nothing."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, TextClause, bindparam, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from infra.store.account import Row
from infra.store.engine import is_never_taken
from infra.store.tables import CALL_TABLES, KEYS, calls, forgotten

log = logging.getLogger(__name__)

_ASKED_AT_ONCE: Final = 500


def apply(engine: Engine, rows: Mapping[Any, Row], also: Callable[[Connection], None] | None = None) -> int:
    """Commit `rows` in one transaction, with what `also` does in it. Rows of calls that were deleted are left
    out. What the database never takes is left out too, and logged. Returns how many it was. Raises what
    SQLAlchemy raises when the database is away."""
    for last in (False, True):
        try:
            with engine.begin() as connection:
                _write(connection, rows)
                if also is not None:
                    also(connection)
            return 0
        except IntegrityError:
            # Its call was deleted in this very moment; the second time it is left out.
            if last:
                break
        except DBAPIError as error:
            if not is_never_taken(error):
                raise
            break
    refused = 0
    with engine.begin() as connection:
        for key, row in in_order(rows):
            try:
                with connection.begin_nested():
                    _write(connection, {key: row})
            except DBAPIError as error:
                if not (isinstance(error, IntegrityError) or is_never_taken(error)):
                    raise
                refused += 1
                log.error("a row of %s of call %s cannot be stored: %s", key[0], row["call_id"], error.orig)
        if also is not None:
            also(connection)
    return refused


def in_order(rows: Mapping[Any, Row]) -> list[tuple[Any, Row]]:
    """Calls before what belongs to them."""
    rank = {table.name: place for place, table in enumerate(CALL_TABLES)}
    return sorted(rows.items(), key=lambda item: rank[item[0][0]])


def _write(connection: Connection, rows: Mapping[Any, Row]) -> None:
    by_table: dict[str, list[Row]] = {}
    for (table, _), row in rows.items():
        by_table.setdefault(table, []).append(row)
    told = by_table.pop("calls", [])
    if told:
        gone = _among(connection, forgotten, {row["call_id"] for row in told})
        told = [row for row in told if row["call_id"] not in gone]
    if told:
        connection.execute(_upsert(calls), told)
    if not by_table:
        return
    wanted = {row["call_id"] for table in by_table.values() for row in table}
    known = _among(connection, calls, wanted)
    for table in CALL_TABLES:
        kept = [row for row in by_table.get(table.name, ()) if row["call_id"] in known]
        if kept:
            connection.execute(_upsert(table), kept)


def _among(connection: Connection, table: Table, wanted: Iterable[str]) -> set[str]:
    """Which of the calls `wanted` are in `table`."""
    ids = sorted(wanted)
    found: set[str] = set()
    statement = select(table.c.call_id).where(table.c.call_id.in_(bindparam("ids", expanding=True)))
    for begin in range(0, len(ids), _ASKED_AT_ONCE):
        found.update(connection.execute(statement, {"ids": ids[begin : begin + _ASKED_AT_ONCE]}).scalars())
    return found


@cache
def _upsert(table: Table) -> TextClause:
    keys = KEYS[table.name]
    columns = [column.name for column in table.columns if column.name != "number" or table is not calls]
    statement = insert(table).values({name: bindparam(name) for name in columns})
    if "seq" in keys:
        return written_out(statement.on_conflict_do_nothing(index_elements=keys))
    updated = {name: statement.excluded[name] for name in columns if name not in keys}
    newer = table.c.seq < statement.excluded.seq
    return written_out(statement.on_conflict_do_update(index_elements=keys, set_=updated, where=newer))


def written_out(statement: Any) -> TextClause:
    """An insert with ON CONFLICT as text: SQLAlchemy compiles such a one anew at every commit. All its values
    are parameters, and SQLite and PostgreSQL write it alike. Nothing comes back: Python's sqlite3 takes no
    list of rows for a statement that returns some."""
    return text(str(statement.inline().compile(dialect=postgresql.dialect(paramstyle="named"))))  # type: ignore[no-untyped-call]
