import numpy as np
import pytest

from models.hearsay import (
    Evidence,
    looped,
    loud_level,
    noise,
    once,
    recited,
    suspicious,
    unspoken,
    voiced_seconds,
)


def evidence(
    text: str, *, logp: float = -0.2, no_speech: float = 0.05, voiced: float = 3.0, finished: bool = True
) -> Evidence:
    return Evidence(text, logp, no_speech, finished, voiced)


@pytest.mark.parametrize(
    "text",
    [
        "Beep beep beep beep beep beep beep",
        "I'm going to get a little bit of a little bit of a little bit of a little bit of",
        "Thank you. Thank you. Thank you. Thank you.",
        "So I said, so I said, so I said, so",
        ". . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . .",
    ],
)
def test_loops_are_seen(text: str) -> None:
    assert looped(text) and suspicious(evidence(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no!",
        "My number is 5 5 5 5 0 1 4 2.",
        "Five, five, five, zero, zero, one.",
        "Yes, yes. I would like that very much, yes.",
        "Is it the one on the left or the one on the right?",
    ],
)
def test_people_may_repeat_themselves(text: str) -> None:
    assert not looped(text)
    assert once(text) == text


def test_a_loop_is_cut_after_its_first_round() -> None:
    assert once("I want to go home I want to go home I want to go home") == "I want to go home."
    assert once("Hello, so I said, so I said, so I said") == "Hello, so I said."


def test_one_word_heard_twice_in_the_time_of_one_is_suspicious() -> None:
    assert suspicious(evidence("Yes. Yes.", voiced=0.4))
    assert not suspicious(evidence("Yes. Yes.", voiced=0.9))
    assert not unspoken(evidence("Yes. Yes.", voiced=0.4)), "suspicious is no reason to drop it"


def test_more_words_than_fit_are_not_believed() -> None:
    crowded = evidence("I'm going to use the same colour as the other one.", voiced=0.6)
    assert suspicious(crowded) and unspoken(crowded)
    assert not unspoken(evidence("Yes I do.", voiced=0.2))


def test_an_unfinished_text_is_looked_at_again_but_not_dropped() -> None:
    cut = evidence("I would like to book an", finished=False)
    assert suspicious(cut) and not unspoken(cut)


@pytest.mark.parametrize(
    ("text", "logp", "no_speech", "dropped"),
    [
        ("Thank you.", -0.1, 0.02, False),
        ("Thank you.", -0.77, 0.85, True),
        ("Thank you.", -1.3, 0.1, True),
        ("Alright.", -1.07, 0.05, False),
        ("Okay.", -1.05, 0.34, False),
        ("Start.", -1.25, 0.1, False),
        ("You.", -1.6, 0.36, True),
        ("Okay.", -0.3, 0.5, True),
        ("Okay.", -0.5, 0.3, False),
        ("Beep beep", -0.3, 0.87, True),
        ("The fourteenth of March.", -1.06, 0.04, False),
        ("I'm going to put the oil in the pan.", -1.53, 0.4, True),
        ("...", -0.1, 0.0, True),
        ("", -0.1, 0.0, True),
    ],
)
def test_confidence_decides(text: str, logp: float, no_speech: float, dropped: bool) -> None:
    assert unspoken(evidence(text, logp=logp, no_speech=no_speech)) is dropped


def test_whispers_own_verdict_is_noise_unless_it_is_sure_of_the_words() -> None:
    assert noise(evidence("Beep", logp=-0.3, no_speech=0.87))
    assert not noise(evidence("Hello there.", logp=-0.05, no_speech=0.7))


def test_a_recited_prompt_is_not_speech() -> None:
    hot_words = "Riverside Dental Clinic, Dr. Okafor, whitening"
    assert recited(evidence("Riverside Dental Clinic.", logp=-0.7), hot_words)
    assert not recited(evidence("Riverside Dental Clinic.", logp=-0.1), hot_words)
    assert not recited(evidence("Whitening.", logp=-0.7), hot_words)


def test_voiced_seconds_count_what_stands_out() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    quiet = np.zeros(16_000, np.float32)
    assert voiced_seconds(np.concatenate([quiet, tone, quiet])) == pytest.approx(1.0, abs=0.05)
    assert voiced_seconds(quiet) == 0.0
    assert voiced_seconds(tone[:100]) == 0.0
    assert loud_level(np.concatenate([quiet, tone])) == pytest.approx(0.1 / np.sqrt(2), rel=0.01)
    assert loud_level(tone[:100]) == 0.0
