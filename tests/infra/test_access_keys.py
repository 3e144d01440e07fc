"""Keys: what is shown once, what is kept, and who is whom."""

import calendar
import string

import pytest

from infra.access.keys import KeyBook, Principal, digest_of, new_key, parse_key, parse_key_file

HASH = "ab" * 32
NOON = float(calendar.timegm((2026, 11, 28, 12, 0, 0)))
DAY = 86_400.0


def test_a_key_is_long_random_and_recognisable() -> None:
    keys = {new_key()[0] for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert key.startswith("maya_")
        assert len(key) >= len("maya_") + 43  # 32 bytes
        assert set(key) <= set(string.ascii_letters + string.digits + "-_")


def test_what_is_kept_is_not_the_key() -> None:
    key, digest = new_key()
    assert key not in digest
    assert digest == digest_of(key) != digest_of(key + "x")


@pytest.mark.parametrize("line", [f"ann:operator:2027-02-26:{HASH}", f"CI.1_x-2:viewer:never:{HASH}"])
def test_a_line_reads_as_it_was_written(line: str) -> None:
    assert parse_key(line).line() == line
    assert parse_key(" " + line.replace(":", " : ") + " ").line() == line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("maya_thekeyitself", "no line of a key"),
        (f"ann:operator:2027-02-26:{HASH}:x", "no line of a key"),
        (f"ann:boss:never:{HASH}", "metrics, viewer, operator, admin"),
        (f"an n:viewer:never:{HASH}", "name"),
        (f":viewer:never:{HASH}", "name"),
        (f"{'a' * 33}:viewer:never:{HASH}", "name"),
        ("ann:viewer:never:maya_thekeyitself", "not the key"),
        (f"ann:viewer:never:{HASH[:-1]}", "hash"),
        (f"ann:viewer:2027-02-30:{HASH}", "ends on a day"),
        (f"ann:viewer::{HASH}", "ends on a day"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_shows_nothing(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_key(line)
    assert "thekeyitself" not in str(caught.value)


def test_a_file_has_a_key_a_line_and_remarks() -> None:
    text = f"# the office\n\nann:admin:never:{HASH}  # since May\nbob:viewer:never:{'cd' * 32}\n"
    assert [key.name for key in parse_key_file(text)] == ["ann", "bob"]
    with pytest.raises(ValueError, match="line 2: a key's role"):
        parse_key_file(f"\nann:boss:never:{HASH}")


def test_roles_include_the_lower_ones() -> None:
    may = {
        role: [wanted for wanted in ("viewer", "operator", "admin") if Principal("ann", role).may(wanted)]  # type: ignore[arg-type]
        for role in ("viewer", "operator", "admin")
    }
    assert may == {
        "viewer": ["viewer"],
        "operator": ["viewer", "operator"],
        "admin": ["viewer", "operator", "admin"],
    }


def test_a_key_is_good_to_the_end_of_its_last_day() -> None:
    key = parse_key(f"ann:viewer:2026-11-28:{HASH}")
    book = KeyBook([key])
    assert book.find(HASH, NOON) is key
    assert book.find(HASH, NOON + 0.499 * DAY) is key
    assert book.find(HASH, NOON + 0.501 * DAY) is None
    assert book.find("cd" * 32, NOON) is None


def test_of_two_keys_of_one_name_both_are_good_while_one_is_changed() -> None:
    old, new = parse_key(f"ann:viewer:2026-11-27:{HASH}"), parse_key(f"ann:admin:never:{'cd' * 32}")
    book = KeyBook([old, new])
    assert book.find("cd" * 32, NOON) is new
    assert book.find(HASH, NOON - DAY) is old
    assert book.find(HASH, NOON) is None
