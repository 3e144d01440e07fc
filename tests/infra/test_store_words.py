"""Words sealed and readable, and the one form of a number."""

import pytest

from infra.records.keys import KeyRing
from infra.store.words import LOCKED, Words, fold, plain, same_number
from tests.infra.records_kit import KEY, OLD_KEY, Counting


def test_sealed_words_are_read_at_their_place_alone() -> None:
    words = Words(KEY, random=Counting())
    stored = words.stored("Grüße", "turns/CA1/0/1/caller", "CA1")
    assert stored.isascii()
    assert "Gr" not in stored.removeprefix("sealed")
    assert words.read(stored, "turns/CA1/0/1/caller", "CA1") == "Grüße"
    assert words.read(stored, "turns/CA1/0/2/caller", "CA1") == LOCKED
    assert words.read(stored, "turns/CA1/0/1/caller", "CA2") == LOCKED
    assert words.read(stored[:-8] + "AAAAAAA=", "turns/CA1/0/1/caller", "CA1") == LOCKED
    assert words.read("sealed:1:%%", "x", "CA1") == LOCKED
    assert words.read("sealed:1:AAAA", "x", "CA1") == LOCKED


def test_nothing_is_sealed_as_nothing_and_readable_words_stay_readable() -> None:
    assert Words(KEY).stored("", "x", "CA1") == ""
    assert Words(KEY).read("from before", "x", "CA1") == "from before"
    assert Words().stored("Hello", "x", "CA1") == "Hello"


def test_tags_of_one_number_are_the_same_in_all_its_forms_and_for_all_keys() -> None:
    old, both = Words(OLD_KEY), Words(KEY, KeyRing([KEY, OLD_KEY]))
    assert old.tag("+1 202-555-0123") == old.tag("+12025550123")
    assert old.tag("+12025550123") in both.tags("+12025550123")
    assert both.tag("+12025550123") in both.tags("+1 (202) 555-0123")
    assert "2025550123" not in old.tag("+12025550123")
    assert old.tag("") == ""
    assert both.tags("  ") == []
    assert Words().tag("+1 202 555 0123") == "+12025550123"


@pytest.mark.parametrize(
    ("number", "same"),
    [
        ("+1 (202) 555-0123", "+12025550123"),
        ("+49 30 901820", "+4930901820"),
        ("100", "100"),
        ("sip:Ann@example.com;transport=udp", "ann@example.com"),
        ("Anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_a_number_has_one_form(number: str, same: str) -> None:
    assert same_number(number) == same


def test_text_is_made_fit_for_every_database() -> None:
    assert plain("a\0b\ud800") == "ab?"
    assert fold("  Grüße  AUS\nKöln ") == "grüsse aus köln"
    assert len(plain("x" * 200_000)) == 100_000
