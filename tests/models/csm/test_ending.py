import numpy as np
import pytest

from models.csm.ending import EndLimits, EndRules
from models.csm.utterance import Verdict

LOUD = np.full(1920, 0.1, np.float32)
QUIET = np.full(1920, 10 ** (-61 / 20), np.float32)
TEXT = "x" * 40


def codes(n: int = 1) -> np.ndarray:
    return np.full(32, n, np.int32)


def ended(zeros: int, *, c0: int = 0) -> np.ndarray:
    row = np.full(32, 7, np.int32)
    row[0] = c0
    row[1 : 1 + zeros] = 0
    return row


def judged(rules: EndRules, sound: np.ndarray, n: int, *, start: int = 0) -> list[Verdict | None]:
    return [rules.judge(index, codes(index + 1), sound) for index in range(start, start + n)]


@pytest.mark.parametrize(("zeros", "end"), [(31, True), (8, True), (7, False), (0, False)])
def test_the_models_own_end_may_be_ragged(zeros: int, end: bool) -> None:
    rules = EndRules(TEXT, EndLimits())
    judged(rules, LOUD, 5)
    assert rules.judge(5, ended(zeros), LOUD) == (Verdict("end") if end else None)
    assert rules.judge(6, ended(31, c0=1), LOUD) is None


def test_the_strict_rule_is_a_setting() -> None:
    rules = EndRules(TEXT, EndLimits(end_zeros=31))
    assert rules.judge(5, ended(30), LOUD) is None
    assert rules.judge(6, ended(31), LOUD) == Verdict("end")


def test_nothing_ends_before_its_third_codec_frame() -> None:
    rules = EndRules(TEXT, EndLimits(repeats=1))
    assert rules.judge(0, ended(31), QUIET) is None
    assert rules.judge(1, ended(31), QUIET) is None
    assert rules.judge(2, ended(31), QUIET) == Verdict("end")


def test_a_stuck_model_is_stopped_and_its_repeats_are_no_example() -> None:
    rules = EndRules(TEXT, EndLimits(repeats=6))
    verdicts = [rules.judge(index, codes(3), LOUD) for index in range(6)]
    assert verdicts == [None] * 5 + [Verdict("repeat", spoken=True)]
    assert rules.surplus("repeat") == 5


def test_a_change_of_one_code_is_no_repeat() -> None:
    rules = EndRules(TEXT, EndLimits(repeats=2))
    row = codes(3)
    for index in range(20):
        row[31] = index
        assert rules.judge(index, row, LOUD) is None


def test_a_silent_tail_ends_the_utterance_when_its_words_must_be_over() -> None:
    rules = EndRules(TEXT, EndLimits())
    assert judged(rules, LOUD, 20) == [None] * 20
    assert judged(rules, QUIET, 10, start=20) == [None] * 9 + [Verdict("silence")]
    assert rules.surplus("silence") == 7, "160 ms of nine spoken silent ones remain"


def test_a_pause_in_the_middle_is_no_end() -> None:
    rules = EndRules("x" * 100, EndLimits())
    assert judged(rules, QUIET, 50) == [None] * 50
    assert rules.judge(50, codes(), QUIET) == Verdict("silence")


def test_sound_within_the_tail_starts_it_again() -> None:
    rules = EndRules("x", EndLimits())
    judged(rules, QUIET, 9)
    rules.judge(9, codes(10), LOUD)
    assert judged(rules, QUIET, 10, start=10) == [None] * 9 + [Verdict("silence")]


def test_caps_follow_the_text() -> None:
    limits = EndLimits()
    assert limits.most_codec_frames("x" * 100) == 170
    assert limits.most_codec_frames("") == 30
    assert limits.least_codec_frames("x" * 100) == 50
    assert limits.least_codec_frames("x") == 2
    assert EndRules("x", limits).surplus("cap") == 0
