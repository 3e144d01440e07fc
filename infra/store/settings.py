"""Where calls are stored, and for how long."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from infra.loopback import is_loopback

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATABASE = "maya.db"
"""The file in the calls' folder, unless `url` says otherwise."""
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class StoreSettings(BaseModel):
    """`[store]` of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    url: SecretStr = SecretStr("")
    """`postgresql://user:password@host/name` or `sqlite:////path/maya.db`; "" is `maya.db` in the calls'
    folder. Its password never shows: better set MAYA_STORE_URL, or MAYA_STORE_URL_FILE. A database on another
    machine is spoken to over TLS only, unless the URL ends in `?sslmode=disable`; `?sslmode=verify-full` asks
    for a certificate of its name, too."""
    retention_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """Calls of which nothing was written for longer are deleted; None: as `[recording]` has it."""
    journal_mib: Annotated[int, Field(ge=1, le=65_536)] = 256
    """What may wait on disk while the database is away, and as much again in memory while the disk is full;
    beyond it the newest is lost, and said to be."""
    front_end: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """This process's name among the front-ends; "" makes one that is new at each start."""

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value():
            _parsed(url.get_secret_value())
        return url

    @property
    def is_shared(self) -> bool:
        """The database is on another machine, for front-ends of several."""
        text = self.url.get_secret_value()
        return bool(text) and any(_other_machines(_parsed(text)))

    def database(self, calls_dir: Path) -> "URL":
        """With the driver that is used."""
        text = self.url.get_secret_value()
        if text:
            return _parsed(text)
        from sqlalchemy.engine import URL

        return URL.create(_DRIVERS["sqlite"], database=str(calls_dir / DATABASE))


def _parsed(text: str) -> "URL":
    """Raises `ValueError`, which shows nothing of `text` but its beginning."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("no database's URL: write postgresql://user:password@host/name") from None
    kind = url.drivername.partition("+")[0]
    if kind not in _DRIVERS:
        raise ValueError(f"{kind}:// is no database that Maya knows: postgresql:// or sqlite:///")
    if kind == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("sqlite:/// needs a file: sqlite:////var/lib/maya/maya.db")
    url = url.set(drivername=_DRIVERS[kind])
    # libpq by itself speaks without TLS to a server that offers none.
    return url.update_query_dict({"sslmode": "require"}) if _needs_tls(url) else url


def _needs_tls(url: "URL") -> bool:
    told = {"sslmode", "service"} & url.query.keys() or {"PGSSLMODE", "PGSERVICE"} & os.environ.keys()
    return not told and any(_other_machines(url))


def _other_machines(url: "URL") -> list[str]:
    """Those of libpq's hosts that are not this machine."""
    if url.get_backend_name() == "sqlite":
        return []
    query, environ = url.query, os.environ
    asked = query.get("hostaddr") or environ.get("PGHOSTADDR") or query.get("host") or url.host
    asked = asked or environ.get("PGHOST", "")
    hosts = asked if isinstance(asked, tuple) else asked.split(",")
    names = (host.rpartition(":")[0] if host.count(":") == 1 else host for host in hosts)
    # A path is a folder with a socket of this machine.
    return [
        name for name in names if name and name[0] not in "/@" and not is_loopback(name.lower().strip("[]"))
    ]
