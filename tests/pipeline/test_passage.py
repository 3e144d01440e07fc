import numpy as np
import pytest

from pipeline.conversation import SpokenClause
from pipeline.passage import Passage
from pipeline.playout import HeardClause

NINE = SpokenClause("We open at 9.", "We open at nine.", "reply/1/0")
NOON = SpokenClause("We close at noon.", "We close at noon.", "reply/1/1")
KEY = SpokenClause("", "", "keys")
SPANS = {NINE: [(0.0, 0.2), (0.2, 0.5), (0.5, 0.6), (0.6, 1.0)], NOON: []}


def spans(clause: SpokenClause) -> list[tuple[float, float]]:
    return SPANS[clause]


def passage(*clauses: SpokenClause, before: str = "") -> Passage:
    made = Passage(before)
    for clause in clauses:
        made.begin_clause(clause)
    return made


def test_what_was_heard_to_its_end_is_heard_as_it_is_written() -> None:
    said = passage(NINE, KEY, NOON)
    assert said.heard(None, spans) == [(NINE, NINE.text), (KEY, ""), (NOON, NOON.text)]
    assert said.text == "We open at 9. We close at noon."


def test_what_was_cut_is_heard_to_the_word_by_the_voices_own_durations() -> None:
    said = passage(NINE, NOON)
    parts = [HeardClause(NINE.text, 8_000, 4_000, True), HeardClause(NOON.text, 8_000, 0, True)]
    assert said.heard(parts, spans) == [(NINE, "We open"), (NOON, "")]


def test_parts_of_another_passage_are_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        passage(NINE, NOON).heard([HeardClause(NINE.text, 8_000, 0, True)], spans)


def test_what_was_heard_before_the_line_was_lost_stands_before_the_rest() -> None:
    said = passage(NOON, before=NINE.text)
    assert said.text == "We open at 9. We close at noon."
    assert said.behind_before("") == NINE.text


def test_each_clause_is_told_once() -> None:
    said = passage(NINE, NOON)
    assert [said.newly_heard(clauses) for clauses in (0, 1, 1, 2, 1, 2)] == [0, 1, 0, 1, 0, 0]


def test_its_first_audible_sample_is_found_behind_silence() -> None:
    said = passage(NINE)
    said.made(np.zeros(800, np.int16))
    assert said.audible_at is None
    loud = np.full(1_600, 8_000, np.int16)
    said.made(np.concatenate([np.zeros(160, np.int16), loud]))
    assert said.audible_at == 960
    said.made(loud)
    assert said.audible_at == 960
