"""The journal: what was appended is read, whatever happens to its end."""

import os
from pathlib import Path

import pytest

from infra.store.account import Rows
from infra.store.journal import Journal, JournalFull, journals, left_behind, read


def rows(*numbers: int) -> Rows:
    return {("turns", ("CA1", 0, number)): {"turn": number, "text": "é" * 10} for number in numbers}


def journal(folder: Path, limit: int = 2**20) -> Journal:
    return Journal(folder / "journal", "one", limit)


def numbers_in(path: Path, end: int | None = None) -> list[int]:
    return [row["turn"] for found in read(path, end=end) for row in found.values()]


def test_rows_come_back_in_order_and_up_to_where_one_asks(tmp_path: Path) -> None:
    one = journal(tmp_path)
    one.append(rows(1, 2))
    assert one.path is not None
    size = one.size
    one.append(rows(3, *range(4, 504)))
    assert numbers_in(one.path) == list(range(1, 504))
    assert numbers_in(one.path, size) == [1, 2]
    assert [row["turn"] for found in read(one.path, size) for row in found.values()] == list(range(3, 504))
    assert one.path.stat().st_mode & 0o777 == 0o600
    one.clear()
    assert numbers_in(one.path) == []
    one.append(rows(9))
    assert numbers_in(one.path) == [9]
    one.close()
    assert one.path.exists(), "somebody has yet to store it"


def test_an_empty_one_is_removed_and_none_is_made_for_nothing(tmp_path: Path) -> None:
    journal(tmp_path).close()
    assert journals(tmp_path / "journal") == []
    one = journal(tmp_path)
    one.append(rows(1))
    one.clear()
    one.close()
    assert journals(tmp_path / "journal") == []


@pytest.mark.parametrize("cut", [2, 5, 40])
def test_a_line_that_was_cut_off_is_passed_over(cut: int, tmp_path: Path) -> None:
    one = journal(tmp_path)
    one.append(rows(1))
    one.append(rows(2))
    assert one.path is not None
    os.truncate(one.path, one.size - cut)
    assert numbers_in(one.path) == [1]
    data = bytearray(one.path.read_bytes())
    data[20] ^= 1
    one.path.write_bytes(bytes(data))
    assert numbers_in(one.path) == []


def test_it_has_a_limit_and_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    one = journal(tmp_path, limit=200)
    one.append(rows(1))
    with pytest.raises(JournalFull):
        one.append(rows(2, 3, 4))
    assert one.path is not None
    assert numbers_in(one.path) == [1]


def test_one_that_is_written_to_is_not_taken_over(tmp_path: Path) -> None:
    one = journal(tmp_path)
    one.append(rows(1))
    (path,) = journals(tmp_path / "journal")
    with left_behind(path) as ours:
        assert not ours
    one.close()
    with left_behind(path) as ours:
        assert ours
        path.unlink()
    with left_behind(path) as ours:
        assert not ours


def test_two_of_one_name_are_two_files(tmp_path: Path) -> None:
    first, second = journal(tmp_path), journal(tmp_path)
    first.append(rows(1))
    second.append(rows(2))
    assert len(journals(tmp_path / "journal")) == 2
