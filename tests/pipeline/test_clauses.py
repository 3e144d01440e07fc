"""What leaves when, for replies as language models write them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clauses import MAX_CLAUSE_CHARS, ClauseChunker


def clauses(*pieces: str) -> list[str]:
    chunker = ClauseChunker()
    found = [clause for piece in pieces for clause in chunker.push(piece)]
    return found + chunker.flush()


CASES = {
    # The first clause: a comma, colon, dash or conjunction after enough words, or the end of a sentence.
    "We are open today, and tomorrow too, from nine.": ["We are open today,", "and tomorrow too, from nine."],
    "Sure, I can help you with that, Anna.": ["Sure, I can help you with that,", "Anna."],
    "Yes. We are open.": ["Yes.", "We are open."],
    "Hi there! How can I help you?": ["Hi there!", "How can I help you?"],
    "Here are our hours: nine to five.": ["Here are our hours:", "nine to five."],
    "That is all right — we have time.": ["That is all right —", "we have time."],
    "That is all right—we have time.": ["That is all right—", "we have time."],
    "That is all right - we have time.": ["That is all right -", "we have time."],
    "We are closed on Sundays but you can call us.": ["We are closed on Sundays", "but you can call us."],
    "We have free parking for everybody and a lift.": ["We have free parking for everybody", "and a lift."],
    "We are open between nine and five.": ["We are open between nine and five."],
    "You can come by any day of the week before noon.": [
        "You can come by any day of the week",
        "before noon.",
    ],
    "On Saturdays, we open from 9 a.m. to noon.": ["On Saturdays,", "we open from 9 a.m. to noon."],
    "The results are ready after three days.": ["The results are ready", "after three days."],
    "Sure, we can do that.": ["Sure, we can do that."],  # "Sure" alone answers nothing
    # What was said so far is too short to last until the rest is made: the next clause leaves early too.
    "Yes, the clinic is open on Saturday, from nine to noon, and on Monday.": [
        "Yes,",
        "the clinic is open",
        "on Saturday, from nine to noon, and on Monday.",
    ],
    # Afterwards whole sentences.
    "Yes. We are open, but only until five, and not on Sundays.": [
        "Yes.",
        "We are open, but only until five, and not on Sundays.",
    ],
    # Numbers.
    "It is 3.5 miles away.": ["It is 3.5 miles away."],
    "It costs 1,200 dollars a year.": ["It costs 1,200 dollars a year."],
    "We close at 10:30 today.": ["We close at 10:30 today."],
    "We close at 5. Call us.": ["We close at 5.", "Call us."],
    "It happens on Friday November 22, 2026 at noon.": ["It happens on Friday November 22, 2026 at noon."],
    "We are open 9 - 5 every day.": ["We are open 9 - 5 every day."],
    "It costs $12.50. Cash only.": ["It costs $12.50.", "Cash only."],
    # Abbreviations and initials.
    "Dr. Smith is in. Mr. Jones too.": ["Dr. Smith is in.", "Mr. Jones too."],
    "Bring a card, e.g. a passport. Thanks.": ["Bring a card,", "e.g. a passport.", "Thanks."],
    "We are near St. Mary's church.": ["We are near St. Mary's church."],
    "We are on 5th St. Our door is green.": ["We are on 5th St. Our door is green."],
    "We are at 12 Main St. Our door is green.": ["We are at 12 Main St.", "Our door is green."],
    "We open at 9 a.m. and close at 5 p.m. Come by.": [
        "We open at 9 a.m.",
        "and close at 5 p.m.",
        "Come by.",
    ],
    "Take bus No. 7. It stops here.": ["Take bus No. 7.", "It stops here."],
    "No. We are closed.": ["No.", "We are closed."],
    "Open Mon. - Fri. all day.": ["Open Mon. - Fri. all day."],
    "J. K. Rowling called.": ["J. K. Rowling called."],
    "So do I. Call again.": ["So do I.", "Call again."],
    "She lives in the U.S. now.": ["She lives in the U.S. now."],
    # Addresses.
    "Write to info@clinic.example. Thanks.": ["Write to info@clinic.example.", "Thanks."],
    "See www.clinic.example/hours. Thanks.": ["See www.clinic.example/hours.", "Thanks."],
    "See https://a.example/b?c=d,e;f. Thanks.": ["See https://a.example/b?c=d,e;f.", "Thanks."],
    # Ellipses, runs, quotes, brackets.
    "Well... let me see.": ["Well... let me see."],
    "Let me see now... we have two.": ["Let me see now...", "we have two."],
    "Hmm… Right.": ["Hmm…", "Right."],
    "Really?! Yes.": ["Really?!", "Yes."],
    'He said "Stop. Go on." Then he left.': ['He said "Stop. Go on."', "Then he left."],
    "She said “No. Never.” Then she left.": ["She said “No. Never.”", "Then she left."],
    "We close (on Sundays. Always.) Sorry.": ["We close (on Sundays. Always.)", "Sorry."],
    # Lists and markdown.
    "1. Call us\n2. Come by": ["1. Call us", "2. Come by"],
    "- Call us\n- Come by\n": ["- Call us", "- Come by"],
    "**Hours.** We open at nine.": ["**Hours.**", "We open at nine."],
    "See [our page. Really.](https://a.example) Bye.": ["See [our page. Really.](https://a.example) Bye."],
    # Nothing, or nothing to say.
    "": [],
    " \n ": [],
    "...": ["..."],
    "... Yes.": ["... Yes."],
}


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_cases(text: str, expected: list[str]) -> None:
    assert clauses(text) == expected
    assert clauses(*text) == expected  # one character at a time


def test_a_clause_leaves_as_soon_as_it_is_certain() -> None:
    chunker = ClauseChunker()
    assert chunker.push("We are open today,") == ["We are open today,"]
    assert chunker.push(" and tomorrow, too.") == []
    assert chunker.push(" Come") == ["and tomorrow, too."]
    assert chunker.flush() == ["Come"]


def test_a_comma_behind_a_digit_may_stand_inside_a_number() -> None:
    chunker = ClauseChunker()
    assert chunker.push("It is room 1,") == []
    assert chunker.push("200, upstairs") == ["It is room 1,200,"]


def test_flush_starts_anew() -> None:
    chunker = ClauseChunker()
    chunker.push("Yes. We are open today, and")
    chunker.flush()
    assert chunker.flush() == []
    assert chunker.push("It is open today, and so on") == ["It is open today,"]


def test_a_runaway_is_cut_at_word_borders() -> None:
    text = "word " * 400
    found = clauses(text)
    assert all(80 <= len(clause) <= MAX_CLAUSE_CHARS for clause in found)
    assert " ".join(found) == text.strip()


def test_a_runaway_prefers_a_comma() -> None:
    text = "Yes. Word " + "word " * 20 + "comma, " + "word " * 40
    assert clauses(text)[1].endswith("comma,")


def test_a_text_without_spaces_is_cut_too() -> None:
    found = clauses("x" * 2_000)
    assert "".join(found) == "x" * 2_000
    assert all(len(clause) <= 300 for clause in found)


def test_2000_words() -> None:
    text = "The clinic is open from nine to five, and Dr. Smith sees patients until 4.30 p.m. daily. " * 118
    assert len(text.split()) > 2_000
    found = clauses(text)
    assert " ".join(found) == text.strip()
    assert len(found) == 119


texts = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.sampled_from(
            [
                *(
                    "Dr.",
                    "e.g.",
                    "a.m.",
                    "St.",
                    "No.",
                    "3.5",
                    "1,200",
                    "10:30",
                    "Hello",
                    "we",
                    "and",
                    "but",
                    "the",
                ),
                *(
                    "I",
                    "from",
                    "between",
                    ",",
                    ".",
                    "...",
                    "?",
                    "!",
                    '"',
                    "(",
                    ")",
                    "—",
                    "-",
                    "\n",
                    "1.",
                    "**",
                ),
                *(
                    "info@clinic.example",
                    "https://a.example/b.c",
                    "U.S.",
                    "x" * 50,
                    "…",
                    "”",
                    "“",
                    "7",
                    ":",
                    ";",
                ),
                "Monday",
            ]
        ),
        max_size=80,
    ).map(" ".join),
)


@given(texts)
def test_nothing_is_lost_or_added(text: str) -> None:
    found = clauses(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(clause == clause.strip() and clause for clause in found)
    assert all(len(clause) <= 300 for clause in found)


@given(texts, st.lists(st.integers(0, 400), max_size=20))
def test_pieces_do_not_matter(text: str, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(borders)]
    assert clauses(*pieces) == clauses(text)


@given(texts)
def test_words_stay_whole(text: str) -> None:
    """A cut stands only where white space was, beside a dash, or inside a word too long to say."""
    whole = set(text.split())
    for clause in clauses(text):
        for word in clause.split():
            assert word in whole or "—" in word or any(len(long) > 100 and word in long for long in whole)
