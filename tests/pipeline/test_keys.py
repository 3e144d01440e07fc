"""Keys become numbers and choices."""

import pytest
from pydantic import ValidationError

from pipeline.keys import Chosen, Entered, KeyPad, KeySettings, as_words

MENU = {"0": "transfer:reception", "9": "hang_up"}


def pressed(pad: KeyPad, digits: str, *, now: float = 10.0, every_s: float = 0.3) -> list[Entered | Chosen]:
    done = [pad.press(digit, now + i * every_s) for i, digit in enumerate(digits)]
    return [one for one in done if one is not None]


def test_a_number_ends_when_no_key_comes() -> None:
    pad = KeyPad(KeySettings(between_s=3.0))
    assert pressed(pad, "4711") == []
    assert pad.collecting
    assert pad.next_deadline() == pytest.approx(10.9 + 3.0)
    assert pad.handle_timer(13.8) is None
    assert pad.handle_timer(13.95) == Entered("4711", "silence")
    assert not pad.collecting
    assert pad.next_deadline() is None
    assert pad.handle_timer(20.0) is None


def test_the_terminator_ends_it_at_once_and_is_no_part_of_it() -> None:
    pad = KeyPad(KeySettings())
    assert pressed(pad, "4711#12#") == [Entered("4711", "terminator"), Entered("12", "terminator")]


def test_the_terminator_alone_is_a_key() -> None:
    assert pressed(KeyPad(KeySettings()), "#") == [Entered("#", "terminator")]


def test_without_a_terminator_every_key_counts() -> None:
    pad = KeyPad(KeySettings(terminator=""))
    assert pressed(pad, "12#") == []
    assert pad.handle_timer(20.0) == Entered("12#", "silence")


def test_the_longest_number_ends_with_its_last_key() -> None:
    assert pressed(KeyPad(KeySettings(longest=4)), "12345") == [Entered("1234", "length")]


def test_a_key_of_the_menu_that_stands_alone_is_a_choice() -> None:
    pad = KeyPad(KeySettings(menu=MENU, menu_s=1.0, between_s=3.0))
    assert pressed(pad, "0") == []
    assert pad.next_deadline() == pytest.approx(11.0)
    assert pad.handle_timer(11.0) == Chosen("0", "transfer:reception")
    assert not pad.collecting


def test_a_key_of_the_menu_may_begin_a_number() -> None:
    pad = KeyPad(KeySettings(menu=MENU, menu_s=1.0, between_s=3.0))
    assert pressed(pad, "09") == []
    assert pad.handle_timer(11.5) is None
    assert pad.handle_timer(14.0) == Entered("09", "silence")


def test_where_nothing_is_longer_a_choice_is_made_at_once() -> None:
    pad = KeyPad(KeySettings(menu=MENU, longest=1))
    assert pressed(pad, "095") == [
        Chosen("0", "transfer:reception"),
        Chosen("9", "hang_up"),
        Entered("5", "length"),
    ]


def test_a_menu_may_have_the_terminator() -> None:
    pad = KeyPad(KeySettings(menu={"#": "hang_up"}))
    assert pressed(pad, "#") == []
    assert pad.handle_timer(20.0) == Chosen("#", "hang_up")
    assert pressed(pad, "12#") == [Entered("12", "terminator")]


@pytest.mark.parametrize("noise", ["", "x", "10", "e", " ", "\u0661"])
def test_what_is_no_key_is_ignored(noise: str) -> None:
    pad = KeyPad(KeySettings())
    assert pad.press(noise, 0.0) is None
    assert not pad.collecting


def test_what_was_begun_may_be_forgotten() -> None:
    pad = KeyPad(KeySettings())
    pressed(pad, "12")
    pad.forget()
    assert not pad.collecting
    assert pad.handle_timer(60.0) is None


def test_keys_are_told_one_by_one() -> None:
    assert as_words("4711") == "The caller pressed the keys 4 7 1 1."
    assert as_words("5") == "The caller pressed the key 5."


@pytest.mark.parametrize(
    "wrong",
    [
        {"menu": {"0": "dial:+19005550199"}},
        {"menu": {"0": "take_message"}},
        {"menu": {"10": "hang_up"}},
        {"menu": {"x": "hang_up"}},
        {"allowed": {"sales": "12x"}},
        {"allowed": {"Sales!": "1"}},
        {"terminator": "##"},
        {"longest": 0},
    ],
    ids=str,
)
def test_settings_that_would_do_something_else_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KeySettings.model_validate(wrong)
