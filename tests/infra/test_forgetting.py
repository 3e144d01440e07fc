"""`maya forget`: whatever is kept of a caller goes, while servers run; the rest stays, and says why."""

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import update
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import CommandError
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.office import LEDGER
from infra.outbound.policy import Dialled
from infra.records.keys import KeyRing
from infra.records.reader import CallFolder
from infra.records.recorder import CallRecords
from infra.store.errors import StoreUnavailable
from infra.store.leftovers import try_again
from infra.store.serving import watch_with
from infra.store.store import CallStore
from infra.store.tables import leftovers
from pipeline.events import CallEvent
from pipeline.line import LineInfo
from tests.infra.store_kit import CALLER, began, ended, hold, info, message, opened, turn

OTHER = "+12025550177"


def held(records: CallRecords, store: CallStore | None, call: LineInfo, *events: list[CallEvent]) -> None:
    observer = watch_with(records, store)(call)
    assert observer is not None
    for some in (began(call), *events):
        for event in some:
            observer.observe(event)


def forget(root: Path, number: str = CALLER, code: int = 0) -> Result:
    settings = root / "maya.toml"
    settings.write_text(f'calls_dir = "calls"\n[outbound]\ndo_not_call = "{root}/dnc.txt"\n')
    arguments = ["forget", number, "--json", "--config", str(settings)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def test_a_caller_is_forgotten_everywhere(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(calls)
    held(records, store, info("CA1"), turn(1, "My name is Ann.", "Hello Ann."), [message(1), ended()])
    held(records, None, info("CA0"), [ended()])  # of a time before there was a store
    held(records, store, info("CA2", OTHER), turn(1, "Hello.", "Hello."), [ended()])
    records.close()
    assert store.flush()
    moment = datetime.now(UTC)
    ledger = CallLedger(calls / LEDGER)
    for number in (CALLER, OTHER, CALLER):
        ledger.add(Dialled(number, moment))
    DoNotCall(tmp_path / "dnc.txt").add(CALLER, "asked for it")

    told = json.loads(forget(tmp_path, "+1 (202) 555-0123").stdout)
    assert told["stored"]["calls"] == ["CA1"]
    assert sorted(Path(folder).name for folder in told["folders"]) == ["CA0", "CA1"]
    assert (told["dialled"], told["on_do_not_call"], told["complete"]) == (2, True, True)
    assert sorted(path.name for path in calls.iterdir() if path.is_dir()) == ["CA2"]
    assert [row.call_id for row in store.calls()] == ["CA2"]
    assert CALLER not in (calls / LEDGER).read_text()
    assert CALLER in (tmp_path / "dnc.txt").read_text(), "so that nobody calls it"
    recent = CallLedger(calls / LEDGER).recent(moment)
    assert len(recent) == 3, "they go on counting towards the limits of all"
    assert [one.number for one in recent if one.number == OTHER] == [OTHER]
    ledger.add(Dialled(OTHER, moment))
    assert len(CallLedger(calls / LEDGER).recent(moment)) == 4

    again = json.loads(forget(tmp_path).stdout)
    assert (again["stored"]["calls"], again["folders"], again["dialled"]) == ([], [], 0)
    store.close()


def test_a_call_that_is_on_stays_recorded_until_it_is_over(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(calls)
    observer = watch_with(records, store)(info("CA1"))
    assert observer is not None
    for event in began(info("CA1")):
        observer.observe(event)
    assert store.flush()
    while not (calls / "CA1" / "transcript.json").exists():
        time.sleep(0.01)
    told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["stored"]["on_now"] == ["CA1"]
    assert (
        list(told["kept"].values()) == ["the call is on"] if isinstance(told["kept"], dict) else told["kept"]
    )
    observer.observe(ended())
    records.close()
    assert store.flush()
    assert store.calls() == []
    done = json.loads(forget(tmp_path).stdout)
    assert done["complete"]
    assert not (calls / "CA1").exists()
    store.close()


def test_who_left_the_number_with_a_message_is_named(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    records = CallRecords(calls)
    held(records, None, info("CA2", OTHER), [message(1), ended()])
    records.close()
    (calls / "CA3").mkdir()
    (calls / "CA3" / "transcript.json").write_text("{")
    told = json.loads(forget(tmp_path, code=1).stdout)
    assert [Path(folder).name for folder in told["named_in"]] == ["CA2"]
    assert [Path(folder).name for folder in told["unreadable"]] == ["CA3"]
    assert told["stored"] is None


def keep_from_deleting(folder: Path) -> Path:
    """Root may delete anything: a file of somebody else's keeps the folder."""
    foreign = folder / "notes of somebody else.txt"
    foreign.touch()
    return foreign


def unreadable_folder(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Root may read anything."""
    scan = os.scandir

    def refused(path: Any) -> Any:
        if Path(path) == root:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)


def test_recordings_that_cannot_be_looked_up_are_named_and_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(calls)
    held(records, store, info("CA1"), [ended()])
    held(records, None, info("CA0"), [ended()])
    records.close()
    assert store.flush()
    CallLedger(calls / LEDGER).add(Dialled(CALLER, datetime.now(UTC)))
    with monkeypatch.context() as patch:
        unreadable_folder(patch, calls)
        told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["failed"] == {str(calls): "Permission denied"}
    assert not told["complete"]
    assert told["stored"]["calls"] == ["CA1"], "the rest is done"
    assert told["dialled"] == 1
    assert not (calls / "CA1").exists()
    assert (calls / "CA0").exists()
    # It is not forgotten that somebody is to be: the server's daily work does it.
    daily(store)
    assert not (calls / "CA0").exists()
    done = json.loads(forget(tmp_path).stdout)
    assert (done["complete"], done["stored"]["left"]) == (True, [])
    store.close()


def daily(store: CallStore) -> tuple[int, dict[str, str]]:
    return try_again(store._writing, store._words, KeyRing(), socket.gethostname())


def test_one_folder_that_cannot_be_entered_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    records = CallRecords(calls)
    for call_id in ("CA1", "CA2"):
        held(records, None, info(call_id), [ended()])
    records.close()
    is_call = CallFolder.is_call.fget  # type: ignore[attr-defined]

    def refused(folder: CallFolder) -> bool:
        if folder.path.name == "CA1":
            raise PermissionError(13, "Permission denied", str(folder.path))
        return bool(is_call(folder))

    monkeypatch.setattr(CallFolder, "is_call", property(refused))
    told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["failed"] == {str(calls / "CA1"): "Permission denied"}
    assert told["folders"] == [str(calls / "CA2")]


def test_a_folder_of_calls_that_is_not_there_was_not_looked_up(tmp_path: Path) -> None:
    """Its name may be wrong, or its disk missing."""
    told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["failed"] == {str(tmp_path / "calls"): "No such file or directory"}


def test_a_disk_that_is_missing_is_told_while_the_store_knows_of_recordings_there(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    disk = tmp_path / "disk"
    store = opened(calls)
    records = CallRecords(disk)
    held(records, store, info("CA1"), [ended()])
    records.close()
    assert store.flush()
    away = disk.rename(tmp_path / "away")
    told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["kept"] == {str(disk / "CA1"): f"there is no {disk}: is its disk missing?"}
    assert store.calls() == []
    assert daily(store) == (0, {str(disk / "CA1"): f"there is no {disk}: is its disk missing?"})
    away.rename(disk)
    assert daily(store) == (1, {})
    assert not (disk / "CA1").exists()
    assert json.loads(forget(tmp_path).stdout)["complete"]
    store.close()


def test_what_could_not_be_deleted_is_deleted_by_the_next_days_work(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(calls)
    held(records, store, info("CA1"), [ended()])
    records.close()
    assert store.flush()
    foreign = keep_from_deleting(calls / "CA1")
    for _ in range(2):
        told = json.loads(forget(tmp_path, code=1).stdout)
        assert list(told["kept"]) == [str(calls / "CA1")], "also once the store knows no such call"
    foreign.unlink()
    store.close()
    serving = opened(calls)  # its work begins at once
    deadline = time.monotonic() + 10
    while (calls / "CA1").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (calls / "CA1").exists()
    serving.close()


def test_recordings_on_other_machines_are_told_until_they_are_gone(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(tmp_path / "theirs")
    store._host = "elsewhere"
    held(records, store, info("CA1"), [ended()])
    records.close()
    assert store.flush()
    place = f"elsewhere:{tmp_path / 'theirs' / 'CA1'}"
    for _ in range(2):
        assert json.loads(forget(tmp_path, code=1).stdout)["elsewhere"] == [place]
    assert daily(store) == (0, {}), "it is none of ours"
    assert try_again(store._writing, store._words, KeyRing(), "elsewhere") == (1, {})
    assert not (tmp_path / "theirs" / "CA1").exists()
    assert json.loads(forget(tmp_path).stdout)["elsewhere"] == []
    store.close()


def test_a_container_of_another_name_finds_its_own_disk(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    store._host = "container-of-last-week"
    records = CallRecords(calls)
    held(records, store, info("CA1"), [ended()])
    records.close()
    assert store.flush()
    told = json.loads(forget(tmp_path).stdout)
    assert (told["elsewhere"], told["complete"]) == ([], True)
    assert not (calls / "CA1").exists()
    store.close()


def test_a_machine_that_is_gone_is_given_up_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path / "calls")
    store._host = "long gone"
    store.leave(CALLER, Path("/data/calls"))
    assert daily(store) == (0, {})
    assert len(store.forget(CALLER).left) == 1
    with store._writing.begin() as connection:
        connection.execute(update(leftovers).values(at_s=0.0))
    daily(store)
    assert store.forget(CALLER).left == ()
    assert "long gone:/data/calls of a forgotten caller was never deleted" in caplog.text
    store.close()


def test_a_database_that_is_away_keeps_recordings_from_no_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    records = CallRecords(calls)
    held(records, store, info("CA1"), [ended()])
    records.close()
    assert store.flush()

    def away(*_: object) -> None:
        raise StoreUnavailable("the caller cannot be forgotten: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(CallStore, "forget", away)
        told = json.loads(forget(tmp_path, code=1).stdout)
    assert told["failed"] == {"the store": "the caller cannot be forgotten: database is locked"}
    assert told["folders"] == [str(calls / "CA1")]
    assert json.loads(forget(tmp_path).stdout)["stored"]["calls"] == ["CA1"]
    store.close()


def test_what_was_deleted_is_in_no_file_of_the_database(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    store = opened(calls)
    secret = "My card is four two four two"
    for number in range(20):
        call = info(f"CA{number}")
        hold(store, call, began(call), turn(1, f"{secret} {number}", "Thank you."), [ended()])
        assert store.flush()
    assert store.forget(CALLER).turns == 40
    assert secret.encode() not in b"".join(path.read_bytes() for path in calls.glob("maya.db*"))
    store.close()


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    for nonsense in ("", "ann", "+"):
        with pytest.raises(CommandError, match="no caller's number"):
            forget(tmp_path, nonsense)
