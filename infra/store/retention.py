"""Deletes calls that were stored long enough."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from infra.daily import DAY_S, Daily
from infra.store.engine import database_time_s, wipe
from infra.store.tables import calls, forgotten, front_ends

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
"""Calls in one transaction, so that live calls are not kept waiting."""
_RETRY_S: Final = 3_600.0
_REMEMBERED_S: Final = 30 * DAY_S


def prune(engine: Engine, retention_days: float, now: float) -> int:
    """Delete calls of which nothing was written since; `now` is seconds since 1970. Returns how many. Their
    recordings have a retention of their own. Blocks; raises what SQLAlchemy raises."""
    before_ms = round(1000 * (now - retention_days * DAY_S))
    deleted = 0
    while True:
        old = select(calls.c.call_id).where(calls.c.updated_ms < before_ms).limit(_AT_ONCE)
        with engine.begin() as connection:
            ids = connection.execute(old).scalars().all()
            if ids:
                connection.execute(delete(calls).where(calls.c.call_id.in_(ids)))
        deleted += len(ids)
        if len(ids) < _AT_ONCE:
            break
    with engine.begin() as connection:
        long_ago = database_time_s(connection) - _REMEMBERED_S
        connection.execute(delete(forgotten).where(forgotten.c.at_s < long_ago))
        connection.execute(delete(front_ends).where(front_ends.c.beat_s < long_ago))
    if deleted:
        wipe(engine)
    return deleted


def tidy_daily(
    engine: Engine,
    retention_days: float | None,
    clock: Callable[[], float],
    again: Callable[[], tuple[int, dict[str, str]]],
    stopped: threading.Event | None = None,
) -> Daily:
    """From now on: delete calls that are older (None: none are), and, by `again`, what is left of callers who
    were forgotten. Where the database is away it is tried again within the hour. `clock` gives seconds since
    1970; the thread waits on `stopped`."""
    stopping = stopped or threading.Event()

    def pruned() -> bool:
        if retention_days is None:
            return True
        try:
            deleted = prune(engine, retention_days, clock())
        except SQLAlchemyError as error:
            log.error("old calls cannot be deleted from the store: %s", type(error).__name__)
            return False
        if deleted:
            log.info("deleted %d call(s) older than %g days from the store", deleted, retention_days)
        return True

    def settled() -> bool:
        try:
            gone, problems = again()
        except (SQLAlchemyError, OSError) as error:
            log.error("what is left of forgotten callers cannot be deleted: %s", type(error).__name__)
            return False
        if gone:
            log.info("deleted what was left in %d place(s) of callers who were forgotten", gone)
        for folder, why in problems.items():
            log.error("%s still holds recordings of a caller who was forgotten: %s", folder, why)
        return True

    def work() -> None:
        while not all([pruned(), settled()]):
            if stopping.wait(_RETRY_S):
                return

    return Daily("store-retention", work, stopping)
