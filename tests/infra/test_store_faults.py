"""The store while its database is down, locked, full or half migrated: calls go on and no turn is lost."""

import os
import random
import signal
import sqlite3
import string
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from bench.small_disk import NoSmallDisk, fill, small_disk
from infra.records.policy import RecordingPolicy
from infra.store.account import CallAccount
from infra.store.database import Database, size_of
from infra.store.engine import open_engine
from infra.store.errors import StoreError, StoreUnavailable
from infra.store.journal import FOLDER, Journal, journals
from infra.store.migrate import _config, migrate
from infra.store.rows import CallQuery
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from infra.store.tables import metadata
from infra.store.words import Words
from tests.infra.postgres_kit import Postgres, running_postgres
from tests.infra.store_kit import CALLER, began, ended, hold, info, opened, tell, turn

_PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def questions(store: CallStore, call_id: str = "CA1") -> list[str]:
    found = store.call(call_id)
    return [] if found is None else [t.caller for t in found.turns if t.caller and t.state == "done"]


def asked(*numbers: int) -> list[str]:
    return [f"question {number}" for number in numbers]


def ask(observer: object, *numbers: int) -> None:
    for number in numbers:
        tell(observer, turn(number, f"question {number}", f"answer {number}"))


# PostgreSQL


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_postgresql_that_is_restarted_in_mid_call_loses_no_turn(
    how: signal.Signals, postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path, postgres.new_database())
    call = info()
    observer = hold(store, call, began(call))
    ask(observer, 1, 2)
    assert store.flush()
    postgres.stop(how)
    ask(observer, 3, 4)
    assert store.flush(committed=False)
    until(lambda: store.away)
    assert store.waiting_bytes > 0
    with pytest.raises(StoreUnavailable):
        store.call("CA1")
    with pytest.raises(StoreUnavailable):
        store.use_once("token", 2e9)
    other = info("CA2")
    hold(store, other, began(other), ended())
    assert store.flush(committed=False)
    postgres.start()
    ask(observer, 5)
    tell(observer, ended())
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1, 2, 3, 4, 5)
    assert [row.state for row in store.calls()] == ["ended", "ended"]
    assert (store.away, store.waiting_bytes, store.lost) == (False, 0, 0)
    store.close()
    assert journals(tmp_path / FOLDER) == []
    said = [record.message for record in caplog.records if "database is" in record.message]
    assert len([line for line in said if "is away" in line]) == 1, "it is said once"
    assert len([line for line in said if "is back" in line]) == 1
    assert "wrong" not in caplog.text, "the password shows nowhere"


def test_one_callers_endless_name_keeps_nobody_elses_call_from_the_store(
    postgres: Postgres, tmp_path: Path
) -> None:
    store = opened(tmp_path, postgres.new_database())
    noise = "".join(random.Random(7).choices(string.ascii_letters, k=20_000))
    for call in (info("CA1", caller=f"sip:{noise}@example.com"), info("B" + noise), info("CA2")):
        ask(hold(store, call, began(call)), 1)
    assert store.flush(_PATIENCE_S)
    assert not store.away
    assert questions(store, "CA1") == questions(store, "CA2") == asked(1)
    store.close()


def test_what_waited_is_caught_up_with_while_calls_go_on(postgres: Postgres, tmp_path: Path) -> None:
    store = opened(tmp_path, postgres.new_database())
    observers = [hold(store, call, began(call)) for call in map(info, (f"CA{n}" for n in range(40)))]
    assert store.flush()
    postgres.stop(signal.SIGKILL)
    number = 0
    try:
        for number in range(1, 31):
            for observer in observers:
                ask(observer, number)
        until(lambda: store.away)
    finally:
        postgres.start()
    deadline = time.monotonic() + _PATIENCE_S
    while store.away:
        assert time.monotonic() < deadline, "it never catches up"
        number += 1
        for observer in observers:
            ask(observer, number)
            time.sleep(0.002)
    assert store.flush(_PATIENCE_S)
    assert all(questions(store, f"CA{n}") == asked(*range(1, number + 1)) for n in range(40))
    assert (store.waiting_bytes, store.lost) == (0, 0)
    store.close()


def test_postgresql_that_hangs_is_waited_for_on_disk(postgres: Postgres, tmp_path: Path) -> None:
    store = opened(tmp_path, postgres.new_database())
    call = info()
    observer = hold(store, call, began(call))
    assert store.flush()
    backends = postgres.backends()
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        ask(observer, 1)
        assert store.flush(committed=False)
        until(lambda: store.away)
        ask(observer, 2, 3)
        assert store.flush(committed=False)
        assert store.waiting_bytes > 0
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1, 2, 3)
    store.close()


def test_a_server_starts_while_postgresql_is_down(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        store = opened(tmp_path, url)
        call = info()
        hold(store, call, began(call), turn(1, "question 1", "answer"), ended())
        assert store.flush(committed=False)
        with pytest.raises(StoreUnavailable):
            opened(tmp_path, url, writing=False)
    finally:
        postgres.start()
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1)
    store.close()


# SQLite


def test_sqlite_that_another_process_locks_loses_no_turn(tmp_path: Path) -> None:
    store = opened(tmp_path)
    call = info()
    observer = hold(store, call, began(call))
    ask(observer, 1)
    assert store.flush()
    locker = subprocess.Popen(
        [sys.executable, "-c", _LOCKER, str(tmp_path / "maya.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"locked\n"
    try:
        ask(observer, 2, 3)
        assert store.flush(_PATIENCE_S, committed=False)
        until(lambda: store.away)
        assert questions(store) == asked(1), "it can be read meanwhile"
    finally:
        locker.communicate(b"\n")
    ask(observer, 4)
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1, 2, 3, 4)
    store.close()


_LOCKER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
held.execute("ROLLBACK")
"""


@pytest.fixture(name="disk")
def soon_full(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        with small_disk(folder):
            yield folder
    except NoSmallDisk as none:
        pytest.skip(str(none))


def test_a_disk_that_becomes_full_loses_no_turn(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(disk)
    call = info()
    observer = hold(store, call, began(call))
    ask(observer, 1)
    assert store.flush()
    filler = disk / "filler"
    fill(filler)
    numbers = range(2, 60)
    for number in numbers:
        tell(observer, turn(number, f"question {number}", "word " * 500))
        if number % 20 == 0:
            store.flush(0.2, committed=False)
    until(lambda: store.away)
    filler.unlink()
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1, *numbers)
    assert store.lost == 0
    store.close()
    assert len([r for r in caplog.records if "journal cannot be written" in r.message]) == 1
    assert journals(disk / FOLDER) == []


def test_a_journal_without_room_keeps_what_it_can_and_counts_the_rest(
    disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The database is away, the disk is full, and memory has its limit too."""
    fill(disk / "filler")
    (disk / "filler").chmod(0o400)
    store = opened(disk, "postgresql://maya:x@127.0.0.1:9/none", journal_mib=1)
    call = info()
    observer = hold(store, call, began(call))
    for number in range(1, 150):
        tell(observer, turn(number, f"question {number}", "word " * 4_000))
        if number % 5 == 0:
            store.flush(0.05, committed=False)
    until(lambda: store.lost > 0)
    assert store._writer is not None
    assert size_of(store._writer._held) < 2 * 2**20
    assert len([r for r in caplog.records if "no room left" in r.message]) == 1
    store.close()


def test_a_calls_folder_that_is_read_only_is_said_and_calls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Root may write anywhere: a file where the folder should be stands for one that may not be written."""
    folder = tmp_path / "calls"
    folder.touch()
    store = opened(folder)
    call = info()
    hold(store, call, began(call), turn(1, "question 1", "answer"), ended())
    until(lambda: store.away)
    assert "cannot be written" in caplog.text
    folder.unlink()
    folder.mkdir()
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1)
    store.close()


def test_a_database_that_is_damaged_is_said_and_calls_go_on(tmp_path: Path) -> None:
    (tmp_path / "maya.db").write_bytes(b"no database at all" * 500)
    store = opened(tmp_path)
    call = info()
    hold(store, call, began(call), turn(1, "question 1", "answer"), ended())
    until(lambda: store.away)
    assert store.flush(committed=False)
    (tmp_path / "maya.db").unlink()
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1)
    store.close()


# Killed processes


_WRITER = """
import sys, time
from pathlib import Path
from tests.infra.store_kit import began, hold, info, opened, turn, under_way
folder, url, waits = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "journal"
store = opened(folder, url)
call = info()
observer = hold(store, call, began(call), *(turn(n, f"question {n}", f"answer {n}") for n in (1, 2)))
assert store.flush(committed=not waits)
from tests.infra.store_kit import tell
tell(observer, under_way(3, "question 3", ["We are open from nine to noon on Saturday."], 1.0))
assert store.flush(committed=not waits)
print("written", flush=True)
time.sleep(60)
"""


def killed_writer(folder: Path, url: str, waits: str = "") -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), url, waits], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"written\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_killed_process_had_told_is_there(url: str, tmp_path: Path) -> None:
    killed_writer(tmp_path, url)
    store = opened(tmp_path, url)
    found = store.unfinished("CA1")
    assert found is not None
    assert [t.caller for t in found.turns] == ["", *asked(1, 2)]
    assert found.under_way is not None
    assert found.under_way.heard.startswith("We are open")
    assert store.claim("CA1")
    store.close()


def test_the_journal_of_a_killed_process_is_taken_over(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        killed_writer(tmp_path, url, "journal")
    finally:
        postgres.start()
    (left,) = journals(tmp_path / FOLDER)
    with left.open("ab") as file:
        file.write(b"0badc0de [[cut off")
    store = opened(tmp_path, url)
    until(lambda: not journals(tmp_path / FOLDER))
    assert questions(store) == asked(1, 2)
    found = store.unfinished("CA1")
    assert found is not None
    assert found.under_way is not None
    store.close()


def test_who_is_forgotten_does_not_come_back_out_of_a_journal(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        killed_writer(tmp_path, url, "journal")
    finally:
        postgres.start()
    commands = opened(tmp_path, url, writing=False)
    assert commands.forget(CALLER).calls == ("CA1",)
    commands.close()
    store = opened(tmp_path, url)
    assert store.flush()
    assert store.calls() == []
    assert journals(tmp_path / FOLDER) == []
    store.close()


def test_a_live_journal_is_nobody_elses(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        store = opened(tmp_path, url)
        call = info()
        hold(store, call, began(call), turn(1, "question 1", "answer"))
        assert store.flush(committed=False)
        idle: list[object] = []
        engine = open_engine(StoreSettings(url=url).database(tmp_path), writing=True)  # type: ignore[arg-type]
        database = Database(engine, tmp_path / FOLDER, lambda _: None, idle.append)
        assert database.adopt() == (0, 0)
        assert len(journals(tmp_path / FOLDER)) == 1
        engine.dispose()
    finally:
        postgres.start()
    assert store.flush(_PATIENCE_S)
    assert questions(store) == asked(1)
    store.close()


# Migrations


def engine_of(url: str, folder: Path) -> object:
    return open_engine(StoreSettings(url=url).database(folder), writing=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "tables"), [("", 4), ("", 11), ("0001", 11)])
def test_a_migration_that_was_killed_halfway_is_taken_back(
    version: str, tables: int, url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HALF, str(tmp_path), url, version, str(tables)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 9, done.stderr
    store = opened(tmp_path, url)
    call = info()
    hold(store, call, began(call), turn(1, "question 1", "answer"))
    assert store.flush()
    assert questions(store) == asked(1)
    store.close()


_HALF = """
import os, sys
from pathlib import Path
from alembic import command, op
from infra.store.engine import open_engine
from infra.store.migrate import _config, migrate
from infra.store.settings import StoreSettings
folder, url, version, tables = sys.argv[1:]
create, made = op.create_table, []
def dying(name, *columns, **options):
    create(name, *columns, **options)
    made.append(name)
    if len(made) == int(tables):
        os._exit(9)
op.create_table = dying
engine = open_engine(StoreSettings(url=url).database(Path(folder)), writing=True)
if version:
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)
migrate(engine)
"""


def test_a_database_of_an_older_maya_is_brought_up_to_date_with_all_that_is_in_it(
    url: str, tmp_path: Path
) -> None:
    """What the first version's tables hold is put there by what writes them still: no column has changed."""
    engine = open_engine(StoreSettings(url=url).database(tmp_path), writing=True)
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    database = Database(engine, tmp_path / FOLDER, lambda _: None, lambda _: None)
    waiting = Journal(tmp_path / FOLDER, "before", 2**20)
    account = CallAccount(
        info(), Words(), RecordingPolicy(), front_end="before", host="here", started_ms=1_800_000_000_000
    )
    for event in [*began(info()), *turn(1, "question 1", "answer"), ended()]:
        account.take(event, 1_800_000_000_000)
    waiting.append(account.rows())
    waiting._file.close()  # type: ignore[union-attr]  # a process that was killed leaves it
    assert database.adopt() == (0, 1)
    engine.dispose()
    store = opened(tmp_path, url)
    assert questions(store) == asked(1)
    assert [row.call_id for row in store.calls(CallQuery(outcome="completed"))] == ["CA1"]
    with store._writing.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == [], "the tables are those that the code knows"
    store.close()


def test_many_servers_may_migrate_at_once(url: str, tmp_path: Path) -> None:
    engines = [engine_of(url, tmp_path) for _ in range(4)]
    failed: list[BaseException] = []

    def run(engine: object) -> None:
        try:
            migrate(engine)  # type: ignore[arg-type]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    opened(tmp_path, url).close()


def test_a_database_of_a_newer_maya_is_refused(url: str, tmp_path: Path) -> None:
    opened(tmp_path, url).close()
    engine = open_engine(StoreSettings(url=url).database(tmp_path), writing=True)  # type: ignore[arg-type]
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for writing in (True, False):
        with pytest.raises(StoreError, match=r"9999.*a newer Maya has been there"):
            opened(tmp_path, url, writing=writing)
    engine.dispose()


def test_tables_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "maya.db") as connection:
        connection.execute("CREATE TABLE calls (id)")
    with pytest.raises(StoreError, match="not the version of Maya's tables"):
        opened(tmp_path)
