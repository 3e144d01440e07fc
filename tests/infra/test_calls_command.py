"""`maya calls`: list, show, search and export, as text and for programs."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import CommandError
from infra.store.errors import StoreError
from tests.infra.store_kit import CALLER, began, ended, hold, info, message, opened, tool, turn

SATURDAY = "When are you open on Saturday?"
NOON = "We are open from nine to noon."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = opened(tmp_path)
    call = info()
    hold(store, call, began(call), turn(1, SATURDAY, NOON, heard="We are open"), tool(1), message(1), ended())
    second = info("CA2", "+12025550177")
    hold(store, second, began(second, "night"), turn(1, '=HYPERLINK("x"), "quoted"', NOON))
    assert store.flush()
    store.close()
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["calls", *arguments, "--calls-dir", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_calls_are_listed(folder: Path) -> None:
    told = json.loads(run(folder, "list", "--json"))
    assert [row["call_id"] for row in told] == ["CA2", "CA1"]
    assert told[1]["started_at"].endswith("+00:00")
    assert [row["call_id"] for row in json.loads(run(folder, "list", "--json", "--from", CALLER))] == ["CA1"]
    assert json.loads(run(folder, "list", "--json", "--since", "2999-01-01")) == []
    assert "CA1" in run(folder, "list")


def test_one_call_is_shown(folder: Path) -> None:
    shown = run(folder, "show", "CA1")
    for part in (
        CALLER,
        SATURDAY,
        f"{NOON}  [heard: We are open]  (1200 ms)",
        "find_slot: done",
        "Ann Patel",
    ):
        assert part in shown
    told = json.loads(run(folder, "show", "CA1", "--json"))
    assert told["turns"][1]["heard"] == "We are open"


def test_words_are_searched(folder: Path) -> None:
    assert "CA1" in run(folder, "search", "SATURDAY", "open")
    hits = json.loads(run(folder, "search", "noon", "--json"))
    assert [hit["call"]["call_id"] for hit in hits] == ["CA2", "CA1"]


def test_every_turn_is_a_line_of_csv(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(folder, "export", "--csv"))))
    assert [(row["call_id"], row["turn"]) for row in rows] == [
        ("CA2", "0"), ("CA2", "1"), ("CA1", "0"), ("CA1", "1"),
    ]  # fmt: skip
    assert rows[1]["caller_said"] == '\'=HYPERLINK("x"), "quoted"', "no formula for a spreadsheet"
    assert (rows[3]["caller"], rows[3]["agent_heard"], rows[3]["gap_ms"]) == (CALLER, "We are open", "1200.0")


def test_every_call_is_a_line_of_json(folder: Path) -> None:
    lines = [
        json.loads(line) for line in run(folder, "export", "--jsonl", "--persona", "clinic").splitlines()
    ]
    assert [line["call"]["call_id"] for line in lines] == ["CA1"]
    assert lines[0]["messages"][0]["number"] == CALLER


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["show", "CA404"], CommandError, "no call 'CA404' is stored"),
        (["list", "--state", "sleeping"], CommandError, "live, ended, lost"),
        (["list", "--since", "yesterday"], CommandError, "--since: 'yesterday' is no "),
        (["export"], CommandError, "--csv"),
        (["export", "--csv", "--jsonl"], CommandError, "--csv"),
    ],
)
def test_mistakes_are_told(folder: Path, arguments: list[str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        run(folder, *arguments)


def test_where_nothing_is_stored_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no calls are stored yet"):
        run(tmp_path, "list")
