"""Deletes calls that were stored long enough."""

import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from infra.daily import DAY_S, Daily
from infra.store.engine import database_time_s
from infra.store.tables import calls, forgotten, front_ends

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
"""Calls in one transaction, so that live calls are not kept waiting."""
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
    return deleted


def prune_daily(engine: Engine, retention_days: float, clock: Callable[[], float]) -> Daily:
    """From now on. `clock` gives seconds since 1970."""

    def work() -> None:
        try:
            deleted = prune(engine, retention_days, clock())
        except SQLAlchemyError as error:
            log.error("old calls cannot be deleted from the store: %s", type(error).__name__)
        else:
            if deleted:
                log.info("deleted %d call(s) older than %g days from the store", deleted, retention_days)

    return Daily("store-retention", work)
