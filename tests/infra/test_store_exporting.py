"""Stored calls as CSV: what a caller said is never run."""

import csv
import io

import pytest

from infra.store.exporting import csv_lines
from infra.store.rows import CallRow, StoredCall, TurnRow


def exported(words: str) -> str:
    """The whole line of one turn, in which the caller said `words`."""
    ends = ("+12025550123", "100", "clinic", "f")
    call = CallRow(1, "CA1", "sip", *ends, 0, 0.0, 0.0, 1.0, 1.0, "ended", "", "", 1, 0)
    return list(csv_lines([StoredCall(call, (TurnRow(0, 1, "done", words, "Hello.", "Hello.", False),))]))[1]


@pytest.mark.parametrize(
    ("words", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("+2+3", "'+2+3"),
        ("  =1+1", "  '=1+1"),
        ("\n=1+1", "\n'=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("yes;=1+1", "yes;'=1+1"),
        ("yes; \uff0b1", "yes; '\uff0b1"),
        ("yes\t@x", "yes\t'@x"),
        ("yes\n=1", "yes\n'=1"),
        ("well-known, 1+1=2; a@b.c", "well-known, 1+1=2; a@b.c"),
    ],
)
def test_no_spreadsheet_finds_a_formula(words: str, cell: str) -> None:
    row = next(csv.reader(io.StringIO(exported(words), newline="")))
    assert row[15] == cell
    assert row[2] == "+12025550123", "a number is one"
    for separator in (";", "\t"):
        for cells in csv.reader(io.StringIO(exported(words), newline=""), delimiter=separator):
            assert not [one for one in cells if one.strip()[:1] in ("=", "@", "-", "\uff1d", "\uff0b")]
