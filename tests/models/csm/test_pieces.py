import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.csm.pieces import LONGEST_PIECE, utterances


@pytest.mark.parametrize("text", ["", "   ", "🙂👍", "... !?", "—"])
def test_nothing_to_say(text: str) -> None:
    assert utterances(text) == []


def test_a_short_text_stays_whole() -> None:
    assert utterances("  Yes. It is\nopen. ") == ["Yes. It is open."]


def test_five_thousand_characters_are_cut_at_sentences() -> None:
    text = "We are open from nine to five on every working day. " * 97
    assert len(text) > 5000
    pieces = utterances(text)
    assert all(len(piece) <= LONGEST_PIECE and piece.endswith("day.") for piece in pieces)
    assert " ".join(pieces) == text.strip()
    assert len(pieces) == 25


def test_long_sentences_are_cut_at_clauses_then_words_then_anywhere() -> None:
    clauses = utterances("one two three four, " * 30)
    assert all(piece.endswith("four,") for piece in clauses[:-1])
    words = utterances("word " * 200)
    assert all(set(piece.split()) == {"word"} for piece in words)
    assert [len(piece) for piece in utterances("x" * 500)] == [220, 220, 60]


@given(st.text(max_size=1200))
def test_no_letter_is_lost(text: str) -> None:
    pieces = utterances(text)
    assert all(0 < len(piece) <= LONGEST_PIECE for piece in pieces)
    letters = [character for character in text if character.isalnum()]
    assert [character for piece in pieces for character in piece if character.isalnum()] == letters
