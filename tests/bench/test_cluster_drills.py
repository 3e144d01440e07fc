"""A drill counts turns by what was said, not by what the call noticed."""

from collections.abc import Sequence

from bench.cluster_drills import Seen, turns_lost
from pipeline.events import AgentTurn, CallerTurn, TurnTimes


def seen(asked: Sequence[int], answered: Sequence[int], *, silent: Sequence[int] = ()) -> Seen:
    """Of a call whose greeting, turn 0, was heard."""
    answers = [AgentTurn(0.0, turn, "Yes.", "Yes.", False, TurnTimes(turn)) for turn in (0, *answered)]
    answers += [AgentTurn(0.0, turn, "Yes.", "", True, TurnTimes(turn)) for turn in silent]
    return Seen([*(CallerTurn(0.0, turn, "Hi.") for turn in asked), *answers])


def test_every_question_answered_is_no_turn_lost() -> None:
    assert turns_lost(seen([1, 2, 3], [1, 2, 3])) == 0


def test_a_turn_that_nobody_transcribed_is_lost() -> None:
    assert turns_lost(seen([1, 2], [1, 2])) == 1


def test_the_greeting_and_an_apology_answer_nobody() -> None:
    assert turns_lost(seen([1, 2], [1, 3])) == 2
    assert turns_lost(seen([], [])) == 3


def test_an_answer_that_was_not_heard_is_none() -> None:
    assert turns_lost(seen([1, 2, 3], [1, 3], silent=[2])) == 1
