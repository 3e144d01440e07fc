"""How long a silence must be: by the language model, by the persona."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.persona import TurnTaking
from pipeline.turn_end import (
    LONGEST_S,
    PAUSE_MEDIAN_S,
    SHORTEST_S,
    UNHEARD_S,
    end_log_odds,
    silence_at_odds,
    silence_needed_s,
)

POLICY = TurnTaking(endpoint_silence_s=1.3)
CHANCES = (0.0, 1e-6, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.7, 0.999, 1.0)


def needed(ends: float | None, silence_s: float = 1.3, text: str = "my number is") -> float:
    return silence_needed_s(text, ends, TurnTaking(endpoint_silence_s=silence_s))


def test_a_caller_in_the_middle_of_a_number_is_not_cut_off_and_a_question_is_answered_soon() -> None:
    """pipecat#4950, livekit/agents#3418. The chances are Qwen2.5-Coder-1.5B's for "My number is 321-102." and
    for "Are you open on Saturday?"."""
    assert needed(0.0022) > 1.5
    assert needed(0.97) < 0.6


def test_even_odds_take_the_personas_silence() -> None:
    for silence_s in (0.7, 1.0, 1.6):
        assert silence_at_odds(0.0, silence_s) == pytest.approx(silence_s)


def test_half_of_the_pauses_are_longer_than_the_median() -> None:
    """Where only pauses twice as improbable as an end may be longer, a silence of the median will do."""
    assert silence_at_odds(0.0, PAUSE_MEDIAN_S) == pytest.approx(PAUSE_MEDIAN_S)
    tail = math.log(0.5 / 0.1)
    at_a_tenth = PAUSE_MEDIAN_S * math.exp(0.7 * 1.2816)
    assert silence_at_odds(tail, at_a_tenth) == pytest.approx(PAUSE_MEDIAN_S, rel=1e-3)


def test_before_the_model_is_heard_nothing_is_over_in_a_hurry() -> None:
    assert needed(None, 0.5) == UNHEARD_S
    assert needed(None, 1.9) == 1.9


def test_a_persona_may_go_by_silence_alone() -> None:
    plain = TurnTaking(end_of_turn="silence", endpoint_silence_s=0.8)
    assert {silence_needed_s("Yes.", ends, plain) for ends in (None, 0.0, 0.5, 1.0)} == {0.8}


def test_a_callers_long_pauses_stretch_all_silences() -> None:
    slow = silence_at_odds(1.0, 2.0, median_s=1.0)
    assert slow == pytest.approx(2 * silence_at_odds(1.0, 1.0, median_s=0.5))


def test_models_believe_too_little_in_ends() -> None:
    assert end_log_odds(0.5) > 1
    assert end_log_odds(0.0001) < -1


@given(st.floats(0, 1), st.floats(0.2, 5.0))
def test_it_is_never_absurd(ends: float, silence_s: float) -> None:
    assert SHORTEST_S <= needed(ends, silence_s) <= LONGEST_S


def test_a_likelier_end_and_a_hastier_persona_never_wait_longer() -> None:
    by_model = [needed(chance) for chance in CHANCES]
    assert by_model == sorted(by_model, reverse=True)
    assert by_model[0] == LONGEST_S
    for chance in CHANCES:
        by_persona = [needed(chance, silence_s) for silence_s in (0.2, 0.5, 0.9, 1.3, 2.0, 5.0)]
        assert all(a <= b for a, b in itertools.pairwise(by_persona))


@pytest.mark.parametrize("text", ["Do you think Medicare?", "Yes.", "No, thanks.", "Correct"])
def test_words_that_look_whole_are_not_waited_for_long(text: str) -> None:
    assert needed(1e-5, 1.6, text) == pytest.approx(1.12)
    assert needed(0.97, 1.6, text) < 0.7, "and no longer than the model asks"


@pytest.mark.parametrize(
    ("text", "patient"),
    [
        ("My son has a fever.", False),
        ("My number is 223-793.", True),
        ("Thompson, T, H, O.", True),
        ("I am calling about...", True),
        ("October", True),
        ("Yes, and", True),
    ],
)
def test_a_sentence_is_waited_for_as_long_as_at_even_odds(text: str, patient: bool) -> None:
    assert needed(1e-5, 1.6, text) == (LONGEST_S if patient else 1.6)
