"""The way to a database on another machine: over TLS, unless somebody says otherwise."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.store.errors import StoreUnavailable
from infra.store.settings import StoreSettings
from tests.certificates import certificate
from tests.infra.postgres_kit import Postgres, running_postgres
from tests.infra.store_kit import began, hold, info, opened


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://maya:x@db.example.com/maya", "require"),
        ("postgres://maya:x@10.0.0.5:5433/maya", "require"),
        ("postgresql://maya:x@10.0.0.5,127.0.0.1/maya", "require"),
        ("postgresql:///maya?host=127.0.0.1&host=10.0.0.5", "require"),
        ("postgresql:///maya?host=db", "require"),
        ("postgresql:///maya?host=127.0.0.1:5432&host=10.0.0.5:5432", "require"),
        ("postgresql://db.example.com/maya?hostaddr=10.0.0.5", "require"),
        ("postgresql://127.0.0.1/maya?hostaddr=10.0.0.5", "require"),
        ("postgresql://db.example.com/maya?hostaddr=127.0.0.1", None),
        ("postgresql:///maya?host=127.0.0.1:5432&host=LOCALHOST:5433", None),
        ("postgresql://db.example.com/maya?sslmode=prefer", "prefer"),
        ("postgresql://maya:x@db.example.com/maya?sslmode=disable", "disable"),
        ("postgresql://maya:x@db.example.com/maya?sslmode=verify-full", "verify-full"),
        ("postgresql://maya:x@127.0.0.1/maya", None),
        ("postgresql://maya:x@[::1]/maya", None),
        ("postgresql://maya:x@localhost/maya", None),
        ("postgresql:///maya", None),
        ("postgresql:///maya?host=/var/run/postgresql", None),
        ("postgresql:///maya?service=maya", None),
        ("sqlite:////tmp/maya.db", None),
    ],
)
def test_only_another_machines_database_must_have_tls(
    url: str, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    settings = StoreSettings.model_validate({"url": url})
    assert settings.database(tmp_path).query.get("sslmode") == mode


def test_what_libpq_is_told_by_its_own_variables_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    settings = StoreSettings.model_validate({"url": "postgresql:///maya"})
    assert settings.database(tmp_path).query["sslmode"] == "require"
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    assert "sslmode" not in settings.database(tmp_path).query
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.5")
    assert settings.database(tmp_path).query["sslmode"] == "require"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert "sslmode" not in settings.database(tmp_path).query


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"), "database", "DNS:localhost")


@pytest.fixture(scope="module")
def secured(made: tuple[Path, Path]) -> Iterator[Postgres]:
    with running_postgres(made) as server:
        yield server


def test_a_call_is_stored_over_tls_in_a_database_that_is_known(
    secured: Postgres, made: tuple[Path, Path], tmp_path: Path
) -> None:
    url = secured.new_database().replace("127.0.0.1", "localhost")
    store = opened(tmp_path, f"{url}?sslmode=verify-full&sslrootcert={made[0]}")
    call = info()
    hold(store, call, began(call))
    assert store.flush()
    assert store.call("CA1") is not None
    asked = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = %s"
    with psycopg.connect(secured.url("postgres", driver=False), sslmode="require") as other:
        name = url.rpartition("/")[2]
        assert other.execute(asked, (name,)).fetchone() == (True,)
    store.close()


def test_one_that_has_no_tls_is_not_spoken_to_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    with running_postgres() as plain:
        store = opened(tmp_path, f"{plain.new_database()}?sslmode=require")
        with pytest.raises(StoreUnavailable, match=r"turn ssl on there.*\?sslmode=disable"):
            store.call("CA1")
        store.close()
