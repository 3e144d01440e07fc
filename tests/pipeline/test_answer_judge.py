"""Who has answered, by scripted voice and words."""

import pytest

from pipeline.answer_judge import (
    LATER_LOOKS_S,
    LATEST_S,
    LEAD_IN_S,
    LOOKS_S,
    NOBODY_S,
    PAUSE_S,
    AnswerJudge,
    AskWords,
    Verdict,
)
from pipeline.line import LINE_RATE_HZ

WINDOW = 256
LATENCY_S = 0.3
DOUBTFUL = "Thank you for calling our"
"""As likely a machine as somebody at work."""


def judged(*spans: tuple[float, float], says: str | list[str], limit_s: float = 12.0) -> Verdict | None:
    """Voice in `spans` (seconds); `says` is what the transcriber hears, one text after another."""
    judge = AnswerJudge()
    texts = [says] if isinstance(says, str) else list(says)
    due: tuple[int, AskWords] | None = None
    for start in range(0, round(limit_s * LINE_RATE_HZ), WINDOW):
        end = start + WINDOW
        if due is not None and end >= due[0]:
            judge.words(texts.pop(0) if len(texts) > 1 else texts[0], due[1], end)
            due = None
        voiced = any(a * LINE_RATE_HZ <= start < b * LINE_RATE_HZ for a, b in spans)
        ask = judge.voice(0.95 if voiced else 0.02, -20.0 if voiced else -70.0, start, end)
        if ask is not None:
            assert due is None
            due = end + round(LATENCY_S * LINE_RATE_HZ), ask
        if judge.verdict is not None:
            return judge.verdict
    return None


def at_s(verdict: Verdict | None) -> float:
    assert verdict is not None
    return verdict.at_sample / LINE_RATE_HZ


def test_a_hello_is_somebody_as_soon_as_it_is_understood() -> None:
    verdict = judged((0.8, 1.3), says="Hello?")
    assert verdict is not None
    assert verdict.answerer == "somebody"
    assert at_s(verdict) == pytest.approx(1.3 + PAUSE_S + LATENCY_S, abs=0.1)


def test_a_name_alone_is_somebody_once_they_wait() -> None:
    verdict = judged((0.5, 1.0), says="Miller.")
    assert verdict is not None
    assert verdict.answerer == "somebody"
    assert 1.5 < at_s(verdict) < 2.1


def test_the_more_it_sounds_like_a_machine_the_longer_the_silence_that_says_otherwise() -> None:
    waits = [
        at_s(judged((0.5, 1.0), says=text)) for text in ("Hello?", "Miller.", "Sorry,", "Sorry, right now")
    ]
    assert waits == sorted(waits)
    assert waits[0] < waits[1] < waits[3]


def test_a_machine_is_known_while_it_still_speaks() -> None:
    verdict = judged((0.3, 9.0), says="Hi, you've reached Anna, I can't come")
    assert verdict is not None
    assert verdict.answerer == "machine"
    assert at_s(verdict) == pytest.approx(0.3 + LOOKS_S[0] + LATENCY_S, abs=0.15)


def test_a_pause_in_a_machines_greeting_fools_nobody() -> None:
    verdict = judged(
        (0.3, 1.2), (1.7, 8.0), says=["Hello, this is Robert.", "Hello, this is Robert, leave a message"]
    )
    assert verdict is not None
    assert verdict.answerer == "machine"


def test_a_long_greeting_at_a_desk_is_somebody() -> None:
    verdict = judged(
        (0.6, 4.0), says=["Good morning, Riverside", "Good morning, Riverside Dental, how can I help"]
    )
    assert verdict is not None
    assert verdict.answerer == "somebody"


def test_a_name_and_an_offer_behind_a_pause_are_somebody() -> None:
    verdict = judged(
        (0.6, 2.0),
        (2.4, 6.0),
        says=["Thank you", "Thank you for calling Riverside", "Riverside Dental, this is Tom speaking"],
    )
    assert verdict is not None
    assert verdict.answerer == "somebody"


def test_an_opening_that_stops_is_a_machine_sooner_than_one_that_goes_on() -> None:
    opening = "Thank you for calling Riverside Dental."
    assert judged((0.5, 2.1), (2.5, 6.0), says=opening) != judged((0.5, 6.0), says=opening)
    stopped = judged((0.5, 2.1), (2.5, 6.0), says=opening)
    assert stopped is not None
    assert stopped.answerer == "machine"


def test_words_are_asked_for_at_each_look_and_never_two_at_once() -> None:
    judge = AnswerJudge()
    asked = []
    for start in range(0, 4 * LINE_RATE_HZ, WINDOW):
        ask = judge.voice(0.95, -20.0, start, start + WINDOW)
        if ask is not None:
            asked.append(ask.end_sample / LINE_RATE_HZ)
            judge.words("", ask, ask.end_sample)
    assert asked == pytest.approx(LOOKS_S, abs=0.04)


def test_after_slow_words_only_the_newest_look_is_asked_for() -> None:
    judge = AnswerJudge()
    asked: list[AskWords] = []
    for start in range(0, 4 * LINE_RATE_HZ, WINDOW):
        if asked and start > 1.9 * LINE_RATE_HZ:
            judge.words("", asked[0], start)
        ask = judge.voice(0.95, -20.0, start, start + WINDOW)
        if ask is not None:
            asked.append(ask)
    ends = [ask.end_sample / LINE_RATE_HZ for ask in asked]
    assert ends[0] == pytest.approx(LOOKS_S[0], abs=0.04)
    assert ends[1] == pytest.approx(1.9, abs=0.08)


def test_words_that_never_come_do_not_hold_up_the_call() -> None:
    judge = AnswerJudge()
    for start in range(0, 6 * LINE_RATE_HZ, WINDOW):
        judge.voice(0.95, -20.0, start, start + WINDOW)
    assert judge.verdict is not None
    assert judge.verdict.answerer == "machine"  # who talks for so long
    assert at_s(judge.verdict) == pytest.approx(LATEST_S, abs=0.05)


def test_nobody_speaks() -> None:
    verdict = judged(says="")
    assert verdict is not None
    assert verdict.answerer == "nobody"
    assert at_s(verdict) == pytest.approx(NOBODY_S, abs=0.05)


def test_words_that_cannot_be_had_leave_it_to_the_silence() -> None:
    judge = AnswerJudge()
    for start in range(0, 4 * LINE_RATE_HZ, WINDOW):
        voiced = 4000 <= start < 8000
        ask = judge.voice(0.95 if voiced else 0.02, -20.0, start, start + WINDOW)
        if ask is not None:
            judge.failed(ask)
    assert judge.verdict is not None
    assert judge.verdict.answerer == "somebody"


def test_late_words_of_an_earlier_question_change_nothing() -> None:
    judge = AnswerJudge()
    judge.words("leave a message", AskWords(0, 100), 100)
    assert judge.verdict is None


def test_an_opening_alone_is_judged_at_the_last_look_and_a_doubt_is_listened_to() -> None:
    opening = "Thank you for calling Riverside Dental."
    assert at_s(judged((0.3, 9.0), says=opening)) < 0.3 + LOOKS_S[-1] + LATENCY_S + 0.1
    assert at_s(judged((0.3, 9.0), says=DOUBTFUL)) > 0.3 + LATER_LOOKS_S[0]


def test_who_is_in_doubt_is_known_by_the_words_that_follow() -> None:
    before = len(LOOKS_S)
    person = judged((0.3, 9.0), says=[DOUBTFUL] * before + [f"{DOUBTFUL} how can I help"])
    machine = judged((0.3, 9.0), says=[DOUBTFUL] * before + [f"{DOUBTFUL} leave a message"])
    assert person is not None
    assert machine is not None
    assert (person.answerer, machine.answerer) == ("somebody", "machine")
    assert at_s(person) == at_s(machine) == pytest.approx(0.3 + LATER_LOOKS_S[0] + LATENCY_S, abs=0.1)


def test_a_doubt_that_stays_ends_at_the_latest() -> None:
    assert at_s(judged((0.3, 9.0), says=DOUBTFUL)) == pytest.approx(0.3 + LATEST_S, abs=0.1)


def test_words_are_asked_for_from_before_the_voice_was_noticed() -> None:
    judge = AnswerJudge()
    asked = None
    for start in range(0, 3 * LINE_RATE_HZ, WINDOW):
        voiced = start >= LINE_RATE_HZ
        level_dbfs = -20.0 if voiced else -70.0
        asked = asked or judge.voice(0.95 if voiced else 0.02, level_dbfs, start, start + WINDOW)
    assert asked is not None
    assert asked.start_sample / LINE_RATE_HZ == pytest.approx(1.0 - LEAD_IN_S, abs=0.04)


def test_a_pause_just_before_the_last_look_does_not_delay_the_verdict() -> None:
    verdict = judged((0.3, 2.2), (2.5, 9.0), says="Good morning, Riverside Dental.")
    assert at_s(verdict) < 0.3 + LOOKS_S[-1] + LATENCY_S + 0.1
