"""`maya forget`: whatever is kept of a caller goes, while servers run; the rest stays, and says why."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import CommandError
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.office import LEDGER
from infra.outbound.policy import Dialled
from infra.records.recorder import CallRecords
from infra.store.serving import watch_with
from infra.store.store import CallStore
from pipeline.events import CallEvent
from pipeline.line import LineInfo
from tests.infra.store_kit import CALLER, began, ended, info, message, opened, turn

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


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    for nonsense in ("", "ann", "+"):
        with pytest.raises(CommandError, match="no caller's number"):
            forget(tmp_path, nonsense)
