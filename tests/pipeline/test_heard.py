"""How much of a clause counts as heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.heard import heard_words

SECOND = 8_000

texts = st.one_of(
    st.text(max_size=120),
    st.lists(
        st.sampled_from(
            ["Hello", "we", "$12.50,", "555-1234.", "FBI", "—", "extraordinarily", "🙂", "a", "*b*"]
        )
    ).map(" ".join),
)


@given(texts, st.integers(0, 20 * SECOND), st.integers(0, 20 * SECOND), st.booleans())
def test_a_prefix_that_ends_between_words(text: str, spoken: int, heard: int, complete: bool) -> None:
    result = heard_words(text, spoken, heard, complete=complete)
    assert text.strip().startswith(result)
    assert result == result.strip()
    assert result.split() == text.split()[: len(result.split())]


@given(texts, st.integers(1, 20 * SECOND), st.lists(st.integers(-10, 21 * SECOND), min_size=2, max_size=8))
def test_more_heard_is_never_fewer_words(text: str, spoken: int, positions: list[int]) -> None:
    lengths = [len(heard_words(text, spoken, heard)) for heard in sorted(positions)]
    assert lengths == sorted(lengths)


@given(texts, st.integers(1, 20 * SECOND))
def test_nothing_at_the_start_and_everything_at_the_end(text: str, spoken: int) -> None:
    assert heard_words(text, spoken, 0) == ""
    assert heard_words(text, spoken, -5) == ""
    assert heard_words(text, spoken, spoken) == text.strip()
    assert heard_words(text, spoken, 2 * spoken) == text.strip()


def test_a_clause_that_was_never_voiced() -> None:
    assert heard_words("Hello there.", 0, 0) == ""


@pytest.mark.parametrize(
    ("share", "heard"),
    [
        (0.10, ""),
        (0.20, "one"),
        (0.30, "one"),
        (0.45, "one two"),
        (0.70, "one two four"),
        (0.95, "one two four six"),
    ],
)
def test_a_word_counts_from_its_middle(share: float, heard: str) -> None:
    """Four words of one syllable take about a quarter each: their middles are near 1/8, 3/8, 5/8, 7/8."""
    assert heard_words("one two four six", SECOND, round(share * SECOND)) == heard


def test_long_words_and_numbers_take_longer() -> None:
    tenth = SECOND // 10
    assert heard_words("so am I extraordinarily complicated", SECOND, 4 * tenth) == "so am I"
    assert heard_words("extraordinarily complicated so am I", SECOND, 4 * tenth) == "extraordinarily"
    assert heard_words("call 555-123-4567 now and then", SECOND, 2 * tenth) == "call"
    assert heard_words("call 555-123-4567 now and then", SECOND, 6 * tenth) == "call 555-123-4567"
    assert heard_words("use the FBI", SECOND, 5 * tenth) == "use the"


def test_a_pause_follows_its_word() -> None:
    text = "Yes. We"
    assert heard_words(text, SECOND, round(0.35 * SECOND)) == "Yes."
    assert heard_words(text, SECOND, round(0.65 * SECOND)) == "Yes."


def test_an_incomplete_clause_is_taken_at_its_usual_length() -> None:
    text = "We are open from nine in the morning until five in the evening on every day."
    assert heard_words(text, SECOND, SECOND) == text
    partly = heard_words(text, SECOND, SECOND, complete=False)
    assert 2 <= len(partly.split()) <= 6
    assert heard_words(text, 60 * SECOND, 60 * SECOND, complete=False) == text


def test_measured_word_ends_replace_the_estimate() -> None:
    ends = [1_000, 7_000, 8_000]
    assert heard_words("a b c", 8_000, 499, word_end_samples=ends) == ""
    assert heard_words("a b c", 8_000, 500, word_end_samples=ends) == "a"
    assert heard_words("a b c", 8_000, 3_999, word_end_samples=ends) == "a"
    assert heard_words("a b c", 8_000, 4_000, word_end_samples=ends) == "a b"
    assert heard_words("a b c", 8_000, 7_500, word_end_samples=ends) == "a b c"
    with pytest.raises(ValueError, match="2 word ends for 3 words"):
        heard_words("a b c", 8_000, 100, word_end_samples=[1, 2])
