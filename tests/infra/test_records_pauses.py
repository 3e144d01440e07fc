"""What a pause keeps out of the record, of sound and of words."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from infra.records.pauses import NOT_RECORDED, Pauses
from infra.records.policy import RecordingPolicy
from pipeline.events import (
    AgentClause,
    AgentTurn,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    KeysEntered,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo

PAUSE, RESUME = RecordingPaused(10.0, "card number"), RecordingResumed(20.0)


def kept(*events: CallEvent, policy: RecordingPolicy | None = None) -> list[CallEvent]:
    pauses = Pauses(policy or RecordingPolicy())
    return [pauses.kept(event) for event in events]


def spoken(event: CallEvent) -> str:
    return cast(CallerTurn | AgentClause | AgentTurn, event).text


def agent(at_s: float, turn: int, *, played_s: float | None = None) -> AgentTurn:
    return AgentTurn(at_s, turn, "Four one", "Four", True, TurnTimes(turn, first_played_s=played_s))


def test_without_a_pause_every_word_is_kept() -> None:
    events = [CallerTurn(3.0, 1, "hello"), AgentClause(4.0, 1, "Hi."), agent(6.0, 1), KeyReceived(7.0, "1")]
    assert kept(*events) == events


@pytest.mark.parametrize(
    ("spoke", "at_s", "told"),
    [
        ((8.0, 9.0), 9.5, True),
        ((9.0, 10.5), 11.0, False),
        ((12.0, 15.0), 16.0, False),
        ((19.0, 21.0), 22.0, False),
        ((21.0, 22.0), 23.0, True),
    ],
)
def test_a_callers_turn_that_reaches_into_the_pause_has_no_words(
    spoke: tuple[float, float], at_s: float, told: bool
) -> None:
    turn = [CallerSpoke(*spoke), CallerTurn(at_s, 2, "4111 1111")]
    before = at_s < PAUSE.at_s
    events = [*turn, PAUSE, RESUME] if before else [PAUSE, turn[0], turn[1]]
    if at_s > RESUME.at_s:
        events = [PAUSE, turn[0], RESUME, turn[1]] if spoke[0] < 20 else [PAUSE, RESUME, *turn]
    (text,) = (spoken(event) for event in kept(*events) if isinstance(event, CallerTurn))
    assert text == ("4111 1111" if told else NOT_RECORDED)


def test_without_a_word_from_the_voice_detector_all_since_the_turn_before_counts() -> None:
    events = kept(CallerTurn(5.0, 1, "hello"), PAUSE, RESUME, CallerTurn(22.0, 2, "4111"))
    assert [spoken(event) for event in (events[0], events[3])] == ["hello", NOT_RECORDED]


def test_a_turn_that_is_taken_up_again_keeps_its_beginning() -> None:
    events = kept(
        PAUSE,
        CallerSpoke(12.0, 13.0),
        CallerTurn(14.0, 1, "4111"),
        RESUME,
        CallerSpoke(21.0, 22.0),
        CallerTurn(23.0, 1, "4111 and thanks"),
    )
    assert [spoken(event) for event in (events[2], events[5])] == [NOT_RECORDED] * 2


def test_the_answer_to_words_that_are_not_kept_is_not_kept_either() -> None:
    events = kept(
        PAUSE,
        CallerSpoke(18.0, 19.0),
        RESUME,
        CallerTurn(21.0, 3, "4111"),
        ToolRan(22.0, 3, "pay", {"card": "4111"}, "done", 0.1, "charged 4111"),
        AgentClause(23.0, 3, "Your 4111,"),
        agent(25.0, 3),
        CallerSpoke(26.0, 27.0),
        CallerTurn(28.0, 4, "thanks"),
        AgentClause(29.0, 4, "You are welcome."),
    )
    assert "4111" not in repr(events)
    assert cast(ToolRan, events[4]).name == "pay"
    assert [spoken(event) for event in events[-2:]] == ["thanks", "You are welcome."]


@pytest.mark.parametrize(
    ("clause_s", "played_s", "done_s", "told"),
    [(7.0, 7.1, 9.9, True), (8.0, 8.1, 10.5, False), (12.0, 12.1, 14.0, False), (20.5, 19.9, 22.0, False)],
)
def test_what_the_agent_says_into_the_pause_is_not_kept(
    clause_s: float, played_s: float, done_s: float, told: bool
) -> None:
    events: list[CallEvent] = [AgentClause(clause_s, 1, "Four one"), agent(done_s, 1, played_s=played_s)]
    events += [PAUSE, RESUME]
    result = kept(*sorted(events, key=lambda event: cast(CallerTurn, event).at_s))
    turn = next(event for event in result if isinstance(event, AgentTurn))
    assert (turn.text, turn.heard) == (("Four one", "Four") if told else (NOT_RECORDED, NOT_RECORDED))


def test_keys_and_faults_within_are_not_kept_and_numbers_that_were_pressed_within() -> None:
    events = kept(
        KeyReceived(9.0, "9"),
        KeysEntered(9.5, "9", "terminator"),
        PAUSE,
        KeyReceived(12.0, "4"),
        Fault(13.0, "transcriber", "ValueError: 4111"),
        RESUME,
        KeysEntered(21.0, "4", "silence"),
        KeyReceived(22.0, "7"),
        KeysEntered(23.0, "7", "length"),
    )
    assert [getattr(event, "digit", getattr(event, "digits", "")) for event in events] == [
        *("9", "9", "", NOT_RECORDED, "", "", NOT_RECORDED, "7", "7"),
    ]
    assert events[4] == Fault(13.0, "transcriber", NOT_RECORDED)


def test_a_message_that_was_taken_within_is_not_kept() -> None:
    assert kept(PAUSE, MessageTaken(12.0, 1, "Ann", "+4930", "Call me."))[1] == MessageTaken(
        12.0, 1, NOT_RECORDED, NOT_RECORDED, NOT_RECORDED
    )


@dataclass(frozen=True, slots=True)
class OfNextYear:
    at_s: float
    secret: str
    parts: tuple[str, ...]


def test_of_an_event_that_nothing_is_known_of_only_the_time_is_kept() -> None:
    event = cast(CallEvent, OfNextYear(12.0, "4111", ("41", "11")))
    assert kept(event, PAUSE, event)[::2] == [event, OfNextYear(12.0, NOT_RECORDED, ())]


def test_sound_is_silent_from_sample_to_sample_and_as_long_as_before() -> None:
    pauses = Pauses(RecordingPolicy())
    pcm = np.ones(160, np.int16)
    before = pauses.silenced(80_000, pcm)
    pauses.kept(PAUSE)
    within = pauses.silenced(80_000, pcm)
    late_and_early = pauses.silenced(80_000 - 60, pcm)
    pauses.kept(RESUME)
    around = pauses.silenced(160_000 - 100, pcm)
    assert before.all()
    assert not within.any()
    np.testing.assert_array_equal(np.flatnonzero(late_and_early), np.arange(60))
    np.testing.assert_array_equal(np.flatnonzero(around), np.arange(100, 160))
    assert {len(piece) for piece in (before, within, late_and_early, around)} == {160}
    assert pcm.all(), "the call's own samples are left alone"


def test_pauses_do_not_nest_and_a_call_may_pause_twice() -> None:
    pauses = Pauses(RecordingPolicy())
    for event in (
        PAUSE,
        RecordingPaused(12.0, "again"),
        RESUME,
        RecordingResumed(21.0),
        RecordingPaused(30.0, ""),
    ):
        pauses.kept(event)
    seconds = [0.0, 11.0, 19.9, 20.0, 29.9, 30.0, 99.0]
    heard = [bool(pauses.silenced(round(s * 8000), np.ones(1, np.int16)).any()) for s in seconds]
    assert heard == [True, False, False, True, True, False, False]


def test_where_pauses_are_not_allowed_recording_goes_on() -> None:
    events = [PAUSE, CallerTurn(12.0, 1, "hello")]
    assert kept(*events, policy=RecordingPolicy(pause_allowed=False)) == events


def test_where_consent_is_required_nothing_is_kept_before_it() -> None:
    pauses = Pauses(RecordingPolicy(consent_required=True))
    started = CallStarted(0.0, LineInfo("CA1", "twilio"), "clinic")
    assert pauses.kept(started) == started
    assert spoken(pauses.kept(AgentClause(0.1, 0, "May I record?"))) == NOT_RECORDED
    assert not pauses.silenced(0, np.ones(160, np.int16)).any()
    pauses.kept(RecordingResumed(4.0))
    assert pauses.silenced(32_000, np.ones(160, np.int16)).all()
    assert not pauses.silenced(31_000, np.ones(160, np.int16)).any()
    assert spoken(pauses.kept(AgentClause(5.0, 1, "Thank you."))) == "Thank you."


def test_where_only_sound_is_wanted_no_words_are_kept() -> None:
    events = kept(
        CallerTurn(3.0, 1, "hello"),
        agent(6.0, 1),
        KeyReceived(7.0, "1"),
        policy=RecordingPolicy(keep="audio"),
    )
    assert [spoken(event) for event in events[:2]] == [NOT_RECORDED] * 2
    assert events[2] == KeyReceived(7.0, NOT_RECORDED)
