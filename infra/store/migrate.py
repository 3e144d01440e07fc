"""Brings a database to the tables that this code knows, whole or not at all, one process at a time."""

import logging
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from infra.store.errors import StoreError
from infra.store.tables import metadata

log = logging.getLogger(__name__)

_LOCK: Final = 0x6D617961  # "maya"
_PATIENCE_MS: Final = 60_000


def migrate(engine: Engine) -> None:
    """Everything happens in one transaction, which a killed process takes back; a second server that begins
    at the same time waits, and finds it done. Raises `StoreError` for a database that is newer than this
    code or not Maya's, and what SQLAlchemy raises."""
    with engine.connect() as connection:
        if _up_to_date(connection):
            return
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            _sqlite_patience(connection, _PATIENCE_MS)
        with connection.begin():
            if not sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {_PATIENCE_MS}"))
                connection.execute(text(f"SET LOCAL statement_timeout = {10 * _PATIENCE_MS}"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if not _up_to_date(connection):
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                log.info("the store's tables are now those of version %s", head())
        if sqlite:
            connection.invalidate()  # it is not to be that patient later


def _sqlite_patience(connection: Connection, patience_ms: int) -> None:
    """Past SQLAlchemy, for a transaction would begin, and wait, before it."""
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA busy_timeout = {patience_ms}")


def head() -> str:
    """The version of this code."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def version(connection: Connection) -> str | None:
    """The database's; None where nothing is there yet."""
    return MigrationContext.configure(connection).get_current_revision()


def _up_to_date(connection: Connection) -> bool:
    """Raises `StoreError`."""
    found = version(connection)
    script = ScriptDirectory.from_config(_config())
    if found is None:
        ours = set(metadata.tables) & set(inspect(connection).get_table_names())
        if ours:
            raise StoreError(
                f"the store's database holds the table {min(ours)!r}, but not the version of Maya's tables: "
                "it belongs to something else, or was copied in part. Name another one with [store] url"
            )
        return False
    known = {revision.revision for revision in script.walk_revisions()}
    if found not in known:
        raise StoreError(
            f"the store's database is of version {found}, which this Maya does not know (it knows "
            f"{script.get_current_head()}): a newer Maya has been there. Update this one, or name another "
            "database with [store] url"
        )
    return found == script.get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
