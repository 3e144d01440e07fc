"""How much of a clause counts as heard."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.heard import heard_words, written_word_spans
from pipeline.speakable import speakable

SECOND = 8_000

texts = st.one_of(
    st.text(max_size=120),
    st.lists(
        st.sampled_from(
            ["Hello", "we", "$12.50,", "555-1234.", "FBI", "—", "extraordinarily", "🙂", "a", "*b*"]
        )
    ).map(" ".join),
)


@settings(deadline=None)
@given(texts, st.integers(0, 20 * SECOND), st.integers(0, 20 * SECOND), st.booleans())
def test_a_prefix_that_ends_between_words(text: str, spoken: int, heard: int, complete: bool) -> None:
    result = heard_words(text, spoken, heard, complete=complete)
    assert text.strip().startswith(result)
    assert result == result.strip()
    assert result.split() == text.split()[: len(result.split())]


@settings(deadline=None)
@given(texts, st.integers(1, 20 * SECOND), st.lists(st.integers(-10, 21 * SECOND), min_size=2, max_size=8))
def test_more_heard_is_never_fewer_words(text: str, spoken: int, positions: list[int]) -> None:
    lengths = [len(heard_words(text, spoken, heard)) for heard in sorted(positions)]
    assert lengths == sorted(lengths)


@settings(deadline=None)
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


def owned(text: str) -> list[tuple[str, str]]:
    """Each written word with the spoken ones that it lasts for, when each of them lasts a second."""
    spoken = speakable(text).split()
    spans = written_word_spans(text, speakable(text), [(float(n), n + 1.0) for n in range(len(spoken))])
    assert spans is not None
    borders = [0, *(end // SECOND for _, end in spans)]
    return [
        (word, " ".join(spoken[start:end]))
        for word, (start, end) in zip(text.split(), pairwise(borders), strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open at 9 a.m. today", "open|at|nine|A.M.|today"),
        ("A visit is $80, I think.", "A|visit|is|eighty dollars,|I|think."),
        ("It is 12 Mill St., by the park.", "It|is|twelve|Mill|Street,|by|the|park."),
        ("See Dr. Patel at 5:30 p.m.", "See|Doctor|Patel|at|five thirty|P.M."),
        ("Come on Jan. 5 please.", "Come|on|January|fifth|please."),
        ("It costs $5 million in all.", "It|costs|five|million dollars|in|all."),
        ("Call (555) 123-4567 now.", "Call|five five five,|one two three, four five six seven|now."),
        ("Dial 911 now.", "Dial|nine one one|now."),
        ("Go to www.clinic.com/a now.", "Go|to|clinic dot com slash a|now."),
        ("Yes — we **can** 🙂 do it.", "Yes,||we|can||do|it."),
        (
            "On 10/12/2026, 2% milk & eggs.",
            "On|October twelfth, twenty twenty-six,|two percent|milk|and|eggs.",
        ),
        ("🙂 Hello there.", "|Hello|there."),
    ],
)
def test_written_words_own_what_was_spoken_for_them(text: str, expected: str) -> None:
    assert "|".join(spoken for _, spoken in owned(text)) == expected


def test_measured_spans_of_spoken_words_decide_what_was_heard() -> None:
    text = "It is $80 now."
    spoken = [(0.0, 0.1), (0.1, 0.2), (0.2, 0.6), (0.6, 1.0), (1.1, 1.5)]
    spans = written_word_spans(text, "It is eighty dollars now.", spoken)
    assert spans == ((0, 800), (800, 1_600), (1_600, 8_000), (8_800, 12_000))
    assert heard_words(text, 13_000, 4_799, word_spans=spans) == "It is"
    assert heard_words(text, 13_000, 4_800, word_spans=spans) == "It is $80"


def test_no_spans_where_they_cannot_be_told() -> None:
    second = [(0.0, 1.0)]
    assert written_word_spans("one two", "one two", []) is None
    assert written_word_spans("one two", "one two", second) is None
    assert written_word_spans("", "", []) is None
    assert written_word_spans("—", "dash", second) is None
    assert written_word_spans("the sky is blue", "buy cheap green apples", second * 4) is None


@settings(deadline=None)
@given(texts)
def test_spans_of_any_text_rise_and_close_with_the_last_word_spoken(text: str) -> None:
    words = speakable(text)
    spoken = [(0.25 * n, 0.25 * n + 0.2) for n in range(len(words.split()))]
    spans = written_word_spans(text, words, spoken)
    if spans is None:
        assert not words or not any(character.isalnum() for character in words)
        return
    assert len(spans) == len(text.split())
    borders = [border for span in spans for border in span]
    assert borders == sorted(borders)
    assert borders[-1] == round(spoken[-1][1] * SECOND)
    heard_words(text, borders[-1], borders[-1] // 2, word_spans=spans)


written_ones = st.lists(st.sampled_from(["one", "two", "5", "fifth", "Dr", "$3", "—", "ok"]), max_size=12)
spoken_ones = st.lists(st.sampled_from(["one", ".", "two", "five", "million", "fifth", "ok"]), max_size=12)


@settings(deadline=None)
@given(written_ones, spoken_ones)
def test_words_that_were_never_the_text_do_not_raise(text: list[str], words: list[str]) -> None:
    spans = written_word_spans(
        " ".join(text), " ".join(words), [(float(n), n + 1.0) for n in range(len(words))]
    )
    assert spans is None or (len(spans) == len(text) and list(spans) == sorted(spans))


def test_spans_say_where_the_middle_of_a_word_lies() -> None:
    spans = [(0, 1_000), (5_000, 7_000), (7_000, 8_000)]
    assert heard_words("a b c", 8_000, 499, word_spans=spans) == ""
    assert heard_words("a b c", 8_000, 5_999, word_spans=spans) == "a"
    assert heard_words("a b c", 8_000, 6_000, word_spans=spans) == "a b"
    with pytest.raises(ValueError, match="3 measured words for 2 words"):
        heard_words("a b", 8_000, 100, word_spans=spans)


def test_written_words_last_as_long_as_all_that_was_spoken_for_them() -> None:
    spoken = [(0.0, 0.1), (0.1, 0.2), (0.3, 0.6), (0.6, 1.0), (1.25, 1.5)]
    spans = written_word_spans("It — is $80 now.", "It, is eighty dollars now.", spoken)
    assert spans == ((0, 800), (800, 800), (800, 1_600), (2_400, 8_000), (10_000, 12_000))
