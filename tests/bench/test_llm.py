"""The bench that asks the demo persona's questions, and the product's promise about its answers."""

import pytest

from bench import llm
from bench.llm import CLINIC, QUESTIONS, Question, Questions
from pipeline.documents import read_toml
from pipeline.persona import load_persona


def question(any_of: tuple[str, ...], none_of: tuple[str, ...] = ()) -> Question:
    return Question(topic="t", ask="a?", any_of=any_of, none_of=none_of)


@pytest.mark.parametrize(
    ("answer", "sensible"),
    [
        ("We open at 8 a.m.", True),
        ("We open at EIGHT.", True),
        ("We open at 18 hours.", False),
        ("We open at 8, no, at 9.", False),
        ("", False),
    ],
)
def test_an_answer_is_judged_by_whole_words(answer: str, sensible: bool) -> None:
    assert question(("8", "eight"), ("9",)).accepts(answer) is sensible


def test_curly_apostrophes_count() -> None:
    assert not question(("know",), ("don't",)).accepts("I don\u2019t know.")


def test_there_are_twelve_questions_and_as_many_held_out() -> None:
    questions = read_toml(QUESTIONS, Questions).questions
    assert [sum(q.held_out is held for q in questions) for held in (False, True)] == [12, 12]
    assert len({q.ask for q in questions}) == len(questions)


def test_the_fallback_never_passes_for_a_fact() -> None:
    """Saying always the same must not score: no fixed sentence of the persona answers many questions."""
    questions = read_toml(QUESTIONS, Questions).questions
    persona = load_persona(CLINIC)
    for sentence in (persona.fallback, *persona.facts, "Yes.", "No."):
        assert sum(q.accepts(sentence) for q in questions) <= 6, sentence


@pytest.mark.models
@pytest.mark.timeout(600)
def test_the_default_model_answers_ten_of_twelve_and_evaluates_nothing_twice() -> None:
    report = llm.run()
    figures = report.figures
    wrong = [row for row in report.details["answers"] if not row["right"]]  # type: ignore[attr-defined]
    assert round(float(str(figures["answers_right"])) * 12) >= 10, wrong
    assert figures["reevaluated_tokens"] == 0
    assert 0 < int(str(figures["prefix_tokens"])) <= 350
