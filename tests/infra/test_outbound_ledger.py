"""The two files of outbound calls: who wants none, and what was dialled."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.policy import Dialled

NUMBER, OTHER = "+12025550123", "+12025550124"
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_a_list_that_is_not_there_yet_is_empty_and_grows(path: Path) -> None:
    unwanted = DoNotCall(path)
    assert unwanted.numbers() == frozenset()
    unwanted.add(NUMBER, "said:\nno")
    unwanted.add(NUMBER, "said it twice")
    assert DoNotCall(path).numbers() == {NUMBER}
    assert path.read_text().count("\n") == 1


def test_a_last_line_without_its_end_stays_a_number(path: Path) -> None:
    unwanted = DoNotCall(written(path, NUMBER.encode()))
    unwanted.add(OTHER, "said: no more calls")
    assert DoNotCall(path).numbers() == {NUMBER, OTHER}


def test_numbers_are_read_in_any_spelling_and_behind_a_byte_order_mark(path: Path) -> None:
    text = "\ufeff+1 (202) 555-0123\r\n\r\n# a remark\r\n+12025550124 # by letter\r\n"
    assert DoNotCall(written(path, text.encode())).numbers() == {NUMBER, OTHER}


def test_a_changed_list_is_read_again(path: Path) -> None:
    unwanted = DoNotCall(written(path, f"{NUMBER}\n".encode()))
    assert unwanted.numbers() == {NUMBER}
    path.write_text(f"{NUMBER}\n{OTHER}\n")
    assert unwanted.numbers() == {NUMBER, OTHER}


def test_a_list_that_has_gone_is_not_an_empty_one(path: Path) -> None:
    unwanted = DoNotCall(written(path, f"{NUMBER}\n".encode()))
    assert unwanted.numbers() == {NUMBER}
    path.unlink()
    with pytest.raises(OSError):
        unwanted.numbers()


def test_who_wants_no_calls_gets_none_even_where_it_cannot_be_written(tmp_path: Path) -> None:
    unwanted = DoNotCall(tmp_path / "folder" / "list")
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(OSError):
        unwanted.add(NUMBER, "said: no more calls")
    (tmp_path / "folder").unlink()
    assert unwanted.numbers() == {NUMBER}


def test_the_ledger_outlives_the_process(path: Path) -> None:
    ledger = CallLedger(path)
    calls = [Dialled(NUMBER, NOON - timedelta(hours=hours)) for hours in (100, 3, 0)]
    for call in calls:
        ledger.add(call)
    assert ledger.recent(NOON) == CallLedger(path).recent(NOON) == calls[1:]


def test_a_torn_line_costs_only_itself(path: Path) -> None:
    first, second = Dialled(NUMBER, NOON), Dialled(OTHER, NOON)
    CallLedger(path).add(first)
    with path.open("ab") as file:
        file.write(b'{"number": "+1202')
    CallLedger(path).add(second)
    assert CallLedger(path).recent(NOON) == [first, second]


@pytest.mark.parametrize(
    "line", ["", "[]", "3", '{"number": 1}', json.dumps({"number": NUMBER, "at": "2026-11-27"})]
)
def test_lines_of_another_kind_are_left_out(path: Path, line: str) -> None:
    assert CallLedger(written(path, f"{line}\n".encode())).recent(NOON) == []


def test_no_call_is_lost_when_several_threads_ask(path: Path) -> None:
    ledger = CallLedger(path)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            pool.submit(ledger.add, Dialled(NUMBER, NOON))
            pool.submit(ledger.recent, NOON)
    assert len(ledger.recent(NOON)) == 200
