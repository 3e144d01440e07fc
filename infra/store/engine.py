"""Connections to the database: SQLite in WAL mode, or PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import NullPool, QueuePool

from infra.store.errors import StoreError, StoreUnavailable

_BUSY_S: Final = 2.0
"""How long SQLite waits for another process to let go of the file."""
_CONNECT_S: Final = 3
_STATEMENT_MS: Final = 30_000
_PARTED_MS: Final = 5_000
"""A PostgreSQL whose machine answers nothing for so long is gone (TCP_USER_TIMEOUT)."""


def open_engine(url: URL, *, writing: bool) -> Engine:
    """Connects to nothing yet. `writing` engines begin by taking SQLite's one write lock, so that nothing
    read in a transaction is out of date when it is written. Raises `StoreError` where a driver is missing."""
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, writing)
        return create_engine(
            url,
            poolclass=QueuePool,
            pool_size=1 if writing else 4,
            max_overflow=0 if writing else 4,
            pool_timeout=5,
            pool_pre_ping=not writing,  # the writer tries again anyway
            connect_args={
                "connect_timeout": _CONNECT_S,
                "application_name": "maya",
                "options": f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout=5000",
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": _PARTED_MS,
            },
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the store's PostgreSQL needs the package {error.name}: pip install 'maya-voice[postgres]'"
        ) from None


def _sqlite(url: URL, writing: bool) -> Engine:
    engine = create_engine(
        url,
        # A connection is opened in a millisecond, and none is left behind in another thread.
        poolclass=QueuePool if writing else NullPool,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False, "isolation_level": None},
        **({"pool_size": 1, "max_overflow": 0, "pool_timeout": _BUSY_S} if writing else {}),
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        # Not where the file is only read: changing the mode writes.
        if writing:
            connection.execute("PRAGMA journal_mode = WAL")
            # What is deleted is overwritten, and not found in the file by whoever looks for it there.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA journal_size_limit = 0")
        connection.execute("PRAGMA synchronous = FULL")  # a committed turn outlives a power cut

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def wipe(engine: Engine) -> None:
    """Take what was deleted out of SQLite's journal too, unless somebody reads there: then it goes when that
    is over. What PostgreSQL keeps of it is its autovacuum's business."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # Past SQLAlchemy, which would begin a transaction.
            driver: Any = connection.connection.driver_connection
            with suppress(sqlite3.OperationalError):
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turns the database's errors into `StoreUnavailable`; nothing of them shows an address's password."""
    try:
        yield
    except (DBAPIError, NoConnection) as error:
        raise StoreUnavailable(f"{what}: {said(error)}") from error


def is_away(error: Exception) -> bool:
    """Whether another try, later, may go well: the database is down, locked, full, read-only, or not yet
    migrated. Otherwise it is a change that it will never take."""
    if is_never_taken(error):
        return False
    if isinstance(error, OperationalError | InterfaceError | NoConnection):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        # Plain `DatabaseError`: a damaged file. `ProgrammingError`: tables that are not there.
        return type(error).__name__ not in ("DataError", "IntegrityError")
    return isinstance(error, OSError)


def is_never_taken(error: Exception) -> bool:
    """Whether these very values are more than the database can hold, now and later. PostgreSQL's class 54,
    program limit exceeded, such as an index's row that is too long, comes as an `OperationalError`."""
    if isinstance(error, DataError):
        return True
    return isinstance(error, DBAPIError) and str(getattr(error.orig, "sqlstate", "") or "").startswith("54")


def said(error: Exception) -> str:
    """What the database says, on one line, without the statement and its values."""
    cause: Any = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    told = "; ".join(lines[:2]) or type(cause).__name__
    if "SSL was required" in told:
        told += "; turn ssl on there. Where nobody can listen between, end the store's url in"
        told += " ?sslmode=disable"
    return told


def database_time_s(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, which all front-ends share."""
    if connection.dialect.name == "sqlite":
        statement = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    else:
        statement = "SELECT extract(epoch FROM clock_timestamp())"
    return float(connection.exec_driver_sql(statement).scalar_one())


def sqlite_file(url: URL) -> Path | None:
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None
