"""Recordings of callers who were forgotten, until they are known to be gone.

They are remembered in the transaction that deletes their calls, for afterwards nothing else tells where they
lie. Each machine's servers try again daily; what lies on a machine that is never heard of again is given up,
and said to be.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from infra.daily import DAY_S
from infra.records.keys import KeyRing
from infra.records.retention import delete_call
from infra.store.engine import database_time_s
from infra.store.rows import Leftover
from infra.store.tables import front_ends, leftovers
from infra.store.whose import look_through
from infra.store.words import Words

log = logging.getLogger(__name__)

_GIVEN_UP_S: Final = 30 * DAY_S


def note(connection: Connection, left: Iterable[Leftover]) -> None:
    add: Any = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    now_s = database_time_s(connection)
    for one in left:
        connection.execute(add(leftovers).values(**asdict(one), at_s=now_s).on_conflict_do_nothing())


def of_caller(connection: Connection, tags: Sequence[str]) -> tuple[Leftover, ...]:
    return _read(connection, leftovers.c.tag.in_(tags))


def settle(connection: Connection, gone: Iterable[Leftover]) -> None:
    """These are known to be gone."""
    for one in gone:
        connection.execute(
            delete(leftovers).where(
                leftovers.c.host == one.host, leftovers.c.folder == one.folder, leftovers.c.tag == one.tag
            )
        )


def deleted(folder: Path) -> str:
    """As `delete_call`, but of a folder whose disk is not there it is not said that it is gone."""
    why = delete_call(folder)
    if not why and not folder.parent.is_dir():
        return f"there is no {folder.parent}: is its disk missing?"
    return why


def try_again(engine: Engine, words: Words, keys: KeyRing, host: str) -> tuple[int, dict[str, str]]:
    """Delete what is left on this `host`. How many are settled now, and why others are not, by folder.
    Blocks; raises what SQLAlchemy raises."""
    with engine.begin() as connection:
        left = _read(connection, leftovers.c.host == host)
    problems = {one: why for one in left if (why := _delete(one, words, keys))}
    gone = [one for one in left if one not in problems]
    with engine.begin() as connection:
        settle(connection, gone)
        _give_up(connection, host)
    return len(gone), {one.folder: why for one, why in problems.items()}


def _delete(one: Leftover, words: Words, keys: KeyRing) -> str:
    """ "" when it is gone, else why not."""
    if not one.below:
        return deleted(Path(one.folder))
    found = look_through(Path(one.folder), keys, _whose(words, one.tag))
    problems = [*found.failed.values(), *filter(None, map(delete_call, found.theirs))]
    if found.unreadable:
        problems.append(f"of {len(found.unreadable)} call(s) there it cannot be read whose they are")
    return "; ".join(dict.fromkeys(problems))


def _whose(words: Words, tag: str) -> Callable[[str], bool]:
    return lambda number: tag in words.tags(number)


def _give_up(connection: Connection, host: str) -> None:
    long_ago = database_time_s(connection) - _GIVEN_UP_S
    known = select(front_ends.c.host)
    old = (leftovers.c.at_s < long_ago) & (leftovers.c.host != host) & leftovers.c.host.not_in(known)
    for one in _read(connection, old):
        log.error("%s:%s of a forgotten caller was never deleted: that machine is gone", one.host, one.folder)
    connection.execute(delete(leftovers).where(old))


def _read(connection: Connection, which: Any) -> tuple[Leftover, ...]:
    found = connection.execute(select(leftovers).where(which).order_by(leftovers.c.host, leftovers.c.folder))
    return tuple(
        Leftover(row["host"], row["folder"], row["tag"], bool(row["below"])) for row in found.mappings()
    )
