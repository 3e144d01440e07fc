"""How long a silence must be: by the words, by the language model, by the persona."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.persona import TurnTaking
from pipeline.turn_end import LONGEST_S, SHORTEST_S, Cue, Evidence, cue, silence_needed_s

POLICY = TurnTaking(endpoint_silence_s=1.2)


def needed(text: str | None, ends: float | None = None, policy: TurnTaking = POLICY) -> float:
    return silence_needed_s(Evidence(text, ends), policy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Cue.NO_WORDS),
        ("...", Cue.NO_WORDS),
        ("My number is", Cue.HANGING),
        ("My number is...", Cue.HANGING),
        ("Could you tell me where you are and,", Cue.HANGING),
        ("I am calling about, um,", Cue.HANGING),
        ("Well.", Cue.HANGING),
        ("I", Cue.HANGING),
        ("What time do you open on Saturday?", Cue.QUESTION),
        ("Which one?", Cue.QUESTION),
        ("My number is 321.", Cue.DIGITS),
        ("My number is 321-102", Cue.DIGITS),
        ("It's seven five, oh two", Cue.DIGITS),
        ("Member number 856, 604, and then 09.", Cue.DIGITS),
        ("321, 102, 6991", Cue.NUMBER),
        ("You can reach me at 744-2660.", Cue.NUMBER),
        ("That's 1 555 321 1026", Cue.NUMBER),
        ("January 3, 1994", Cue.NUMBER),
        ("October the 21st, 1962.", Cue.NUMBER),
        ("Sure, that's M-A-R-T", Cue.SPELLING),
        ("Thompson, T, H,", Cue.SPELLING),
        ("Sure, that's O.K.A.F.", Cue.SPELLING),
        ("If it costs more than fifty dollars,", Cue.OPEN),
        ("I was\u2026", Cue.HANGING),
        ("I live at Oak Street -", Cue.OPEN),
        ("Yes.", Cue.WORD),
        ("Saturday", Cue.WORD),
        ("I need to cancel my appointment.", Cue.SENTENCE),
        ("Thank you!", Cue.SENTENCE),
        ("I live at Oak Street", Cue.UNMARKED),
        ("Don\u2019t", Cue.WORD),
        ("No, I can't.", Cue.SENTENCE),
    ],
)
def test_the_last_words_show_whether_more_is_to_come(text: str, expected: Cue) -> None:
    assert cue(text) is expected
    assert cue(f"  {text} ") is expected


def test_what_asks_for_more_gets_more_time_and_a_question_less() -> None:
    waits = [
        needed(text)
        for text in ("Are you open?", "I need an appointment.", "My number is 321.", "My number is")
    ]
    assert waits == sorted(waits)
    assert waits[0] < POLICY.endpoint_silence_s < waits[-1]


def test_a_whole_telephone_number_is_answered_sooner_than_half_of_one() -> None:
    """pipecat#4950, livekit/agents#3418: callers cut off in the middle of a number."""
    assert needed("My number is 321, 102, 6991", 0.6) < 0.8
    assert needed("My number is 321, 102,", 0.001) > 1.6


def test_the_models_opinion_counts_against_the_words() -> None:
    sentence = "I was at your clinic on Tuesday with my neighbour."
    assert needed(sentence, 0.0005) > needed(sentence) > needed(sentence, 0.5)
    assert needed("Are you open?", 0.95) < 0.5


def test_before_the_words_are_known_the_personas_silence_stands() -> None:
    assert needed(None) == needed(None, 0.9) == POLICY.endpoint_silence_s


def test_noise_that_gave_no_words_gets_the_personas_silence() -> None:
    assert needed("") == pytest.approx(POLICY.endpoint_silence_s)


@given(
    st.sampled_from([case for c in ("Yes.", "and", "I am here.", "12", "Really?", "") for case in (c, None)]),
    st.none() | st.floats(0, 1),
    st.floats(0.2, 5.0),
)
def test_it_is_never_absurd(text: str | None, ends: float | None, silence_s: float) -> None:
    waited = needed(text, ends, TurnTaking(endpoint_silence_s=silence_s))
    assert waited == silence_s if text is None else SHORTEST_S <= waited <= LONGEST_S


@pytest.mark.parametrize("text", ["Are you open?", "I am here.", "My number is"])
def test_a_likelier_end_and_a_hastier_persona_never_wait_longer(text: str) -> None:
    chances = [0.0, 1e-6, 1e-3, 0.03, 0.3, 0.7, 0.999, 1.0]
    by_model = [needed(text, chance) for chance in chances]
    assert by_model == sorted(by_model, reverse=True)
    personas = [TurnTaking(endpoint_silence_s=s) for s in (0.2, 0.5, 0.9, 1.3, 2.0, 5.0)]
    by_persona = [needed(text, 0.03, persona) for persona in personas]
    assert all(a <= b for a, b in itertools.pairwise(by_persona))
    assert by_persona[0] < by_persona[-1]
