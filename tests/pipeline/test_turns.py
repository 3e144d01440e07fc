"""Who has the floor, as conversations: probabilities in, actions out, time as an argument."""

import pytest

from models.base import VAD_WINDOW_SAMPLES, Glimpse
from pipeline.line import LINE_RATE_HZ
from pipeline.persona import TurnTaking as TurnPolicy
from pipeline.turn_events import (
    AttemptFailed,
    CancelReply,
    ClearPlayout,
    CommitTurn,
    DropAttempt,
    Duck,
    FinishReply,
    Glimpsed,
    HangUp,
    NoteUtterance,
    PartTranscribed,
    PlayedOut,
    Prefill,
    ReplyAudible,
    Restore,
    RetractTurn,
    SpeakStock,
    StartReply,
    TakeGlimpse,
    Transcribe,
    Transcribed,
    TranscribePart,
    TruncateReply,
    TurnAction,
    TurnEndGuessed,
    Voice,
)
from pipeline.turns import PREROLL_SAMPLES, STALL_PATIENCE_S, State
from tests.pipeline.conversations import WINDOW_S, Conversation, of, speaking


def test_the_agent_greets_and_then_listens() -> None:
    talk = Conversation()
    assert talk.actions == [SpeakStock("greeting")]
    assert talk.tell(PlayedOut()) == [FinishReply()]
    assert talk.core.state is State.LISTENING


def test_words_are_transcribed_at_the_first_pause_and_committed_after_the_silence() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    at_pause = talk.silence(0.128)
    (transcribe,) = of(at_pause, Transcribe)
    assert isinstance(transcribe, Transcribe)
    assert transcribe.start_sample == 0
    assert transcribe.end_sample == pytest.approx(1.128 * LINE_RATE_HZ, abs=VAD_WINDOW_SAMPLES)
    assert talk.tell(Transcribed(1, "are you open")) == [StartReply(1, "are you open")]
    assert not of(talk.silence(0.5), CommitTurn)
    (commit,) = of(talk.silence(0.15), CommitTurn)
    assert commit == CommitTurn(1, "are you open", round(0.992 * LINE_RATE_HZ))
    assert talk.core.state is State.THINKING


def test_the_preroll_keeps_soft_first_syllables() -> None:
    talk = Conversation().greeted()
    talk.silence(1.0)
    talk.speech(0.5)
    (transcribe,) = of(talk.silence(0.2), Transcribe)
    onset = round(0.992 * LINE_RATE_HZ)
    assert isinstance(transcribe, Transcribe)
    assert transcribe.start_sample == onset - PREROLL_SAMPLES


def test_a_caller_who_goes_on_leaves_no_trace_of_the_speculation() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.3)
    talk.tell(Transcribed(1, "my number is"))
    assert of(talk.speech(0.6), DropAttempt) == [DropAttempt(1)]
    assert not of(talk.actions, CommitTurn)
    (again,) = of(talk.silence(0.2), Transcribe)
    assert isinstance(again, Transcribe)
    assert (again.attempt, again.start_sample) == (2, 0)
    assert talk.tell(Transcribed(1, "late words of a dropped attempt")) == []


def test_a_late_transcript_starts_and_commits_at_once() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    assert not of(talk.silence(1.5), CommitTurn)
    assert talk.core.state is State.THINKING
    actions = talk.tell(Transcribed(1, "hello"))
    assert [type(a) for a in actions] == [StartReply, CommitTurn]


@pytest.mark.parametrize("early", [True, False])
def test_noise_without_words_is_nobodys_turn(early: bool) -> None:
    talk = Conversation().greeted()
    talk.speech(0.3)
    talk.silence(0.2)
    if early:
        assert talk.tell(Transcribed(1, "")) == []
        talk.silence(0.8)
    else:
        talk.silence(0.8)
        assert talk.tell(Transcribed(1, "")) == [DropAttempt(1)]
    assert talk.core.state is State.LISTENING
    assert not of(talk.actions, CommitTurn)


def test_one_loud_window_is_no_utterance() -> None:
    talk = Conversation().greeted()
    talk.speech(WINDOW_S)
    assert talk.silence(2.0) == []
    assert talk.core.state is State.LISTENING


def test_a_barge_in_is_three_actions_in_order() -> None:
    talk = speaking()
    actions = talk.speech(0.3)
    assert actions == [CancelReply(), ClearPlayout(), TruncateReply(0)]
    assert talk.core.state is State.CALLER


def test_the_interruption_is_transcribed_with_its_first_syllables() -> None:
    talk = speaking()
    talk.silence(1.0)
    onset = talk.sample
    talk.speech(0.6)
    (transcribe,) = of(talk.silence(0.2), Transcribe)
    assert isinstance(transcribe, Transcribe)
    assert transcribe.start_sample == onset - PREROLL_SAMPLES


def test_a_cough_over_the_agent_stops_nothing() -> None:
    talk = speaking()
    talk.speech(0.128)
    talk.silence(1.0)
    assert not of(talk.actions, CancelReply)
    assert talk.core.state is State.SPEAKING


def test_speech_before_any_audio_reopens_the_turn() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "I would like"))
    talk.silence(0.7)
    assert talk.core.state is State.THINKING
    actions = talk.speech(0.5)
    beside = (NoteUtterance, TranscribePart)
    assert [a for a in actions if not isinstance(a, beside)] == [RetractTurn(), DropAttempt(1)]
    (transcribe,) = of(talk.silence(0.2), Transcribe)
    assert isinstance(transcribe, Transcribe)
    assert transcribe.start_sample == 0
    talk.tell(Transcribed(2, "I would like an appointment"))
    (commit,) = of(talk.silence(0.7), CommitTurn)
    assert isinstance(commit, CommitTurn)
    assert commit.text == "I would like an appointment"


def test_a_caller_in_mid_utterance_when_the_agent_ends_has_the_floor() -> None:
    talk = speaking()
    talk.speech(0.1)
    assert talk.tell(PlayedOut()) == [FinishReply()]
    assert talk.core.state is State.CALLER


def test_a_long_turn_is_settled_in_pieces_at_its_pauses() -> None:
    talk = Conversation().greeted()
    talk.speech(16.0)
    talk.silence(0.3)
    talk.speech(5.0)
    talk.silence(0.2)
    first, second = of(talk.actions, Transcribe)
    assert isinstance(first, Transcribe)
    assert isinstance(second, Transcribe)
    assert second.start_sample == first.end_sample
    assert (first.follows, second.follows) == ((), (first.attempt,))
    assert not of(talk.actions, DropAttempt)
    assert talk.tell(Transcribed(2, "and the end")) == []
    assert talk.tell(Transcribed(1, "once upon a time")) == [StartReply(2, "once upon a time and the end")]


def test_a_monologue_without_pauses_is_cut_where_the_voice_is_weakest() -> None:
    talk = Conversation().greeted()
    talk.speech(22.0)
    dip = talk.sample + VAD_WINDOW_SAMPLES
    talk.hear(WINDOW_S, 0.4)
    talk.speech(10.0)
    (cut,) = of(talk.actions, Transcribe)
    assert isinstance(cut, Transcribe)
    assert cut.end_sample == dip
    assert talk.core.state is State.CALLER


@pytest.mark.parametrize("when", ["pause", "thinking", "speaking"])
def test_a_failed_model_ends_in_an_apology(when: str) -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "hello"))
    if when != "pause":
        talk.silence(0.7)
    if when == "speaking":
        talk.tell(ReplyAudible())
    actions = talk.tell(AttemptFailed(1))
    if when != "speaking":
        assert isinstance(actions[-1], Transcribe), "nothing was heard yet: once more, and nobody notices"
        actions = talk.tell(AttemptFailed(2))
    assert actions[-1] == SpeakStock("apology")
    assert talk.core.state is State.CLOSING
    talk.speech(1.0)
    assert talk.tell(PlayedOut()) == [FinishReply(), HangUp("goodbye")]
    assert talk.core.state is State.ENDED


def test_a_reply_that_fails_before_it_is_heard_is_made_again() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "hello"))
    talk.silence(0.7)
    retract, drop, again = talk.tell(AttemptFailed(1))
    assert (retract, drop) == (RetractTurn(), DropAttempt(1))
    assert isinstance(again, Transcribe)
    assert (again.attempt, again.end_sample) == (2, of(talk.actions, Transcribe)[0].end_sample)
    assert [type(a) for a in talk.tell(Transcribed(2, "hello"))] == [StartReply, CommitTurn]


def test_a_failure_in_a_pause_that_was_none_is_forgotten() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(AttemptFailed(1))
    talk.speech(0.5)
    talk.silence(0.2)
    talk.tell(Transcribed(3, "my number is four"))
    assert of(talk.silence(1.0), CommitTurn)


def test_a_model_that_never_answers_ends_in_an_apology() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    actions = talk.silence(22.0)
    assert SpeakStock("apology") in actions


def test_the_longest_call_ends_with_a_goodbye() -> None:
    talk = Conversation(call_limit_s=5.0).greeted()
    actions = talk.silence(5.2)
    assert actions[-1] == SpeakStock("goodbye")
    assert talk.tell(PlayedOut()) == [FinishReply(), HangUp("limit")]


def test_a_goodbye_that_is_never_played_out_does_not_hold_the_line() -> None:
    talk = Conversation(call_limit_s=5.0).greeted()
    talk.silence(30.0)
    assert talk.actions[-1] == HangUp("limit")


def test_events_that_a_state_does_not_know_change_nothing() -> None:
    talk = Conversation().greeted()
    for event in (PlayedOut(), ReplyAudible(), Transcribed(7, "x"), AttemptFailed(7)):
        assert talk.tell(event) == []
    assert talk.core.state is State.LISTENING


def long_turn(pause_s: float) -> Conversation:
    """A first piece of 16 s that a pause has settled, and 3 s of the next."""
    talk = Conversation().greeted()
    talk.speech(16.0)
    talk.silence(pause_s)
    talk.speech(3.0)
    return talk


def test_a_settled_piece_that_fails_ends_in_an_apology() -> None:
    talk = long_turn(0.3)
    assert talk.tell(AttemptFailed(1))[-1] == SpeakStock("apology")


@pytest.mark.parametrize(
    ("first", "second", "committed"),
    [("", "the end", "the end"), ("a tale", "", "a tale")],
)
@pytest.mark.parametrize("in_order", [True, False])
def test_a_piece_without_words_does_not_lose_the_other(
    first: str, second: str, committed: str, in_order: bool
) -> None:
    talk = long_turn(0.3)
    talk.silence(0.9)
    events = [Transcribed(1, first), Transcribed(2, second)]
    for event in events if in_order else reversed(events):
        talk.tell(event)
    (commit,) = of(talk.actions, CommitTurn)
    assert commit.text == committed
    assert talk.core.state is State.THINKING


def test_a_piece_whose_reply_had_begun_keeps_its_words() -> None:
    talk = Conversation().greeted()
    talk.speech(16.0)
    talk.silence(0.2)
    assert talk.tell(Transcribed(1, "once upon a time")) == [StartReply(1, "once upon a time")]
    assert of(talk.speech(3.0), DropAttempt) == [DropAttempt(1)], "the reply behind the gate is out of date"
    talk.silence(0.2)
    first, second = of(talk.actions, Transcribe)
    assert second.start_sample == first.end_sample
    assert talk.tell(Transcribed(2, "and the end")) == [StartReply(2, "once upon a time and the end")]


@pytest.mark.parametrize(("speech_s", "thinking_s"), [(18.0, 14.0), (14.0, 17.0)])
def test_a_long_turn_reopened_while_the_agent_thinks_stays_under_30_s(
    speech_s: float, thinking_s: float
) -> None:
    """The silence in which the agent thought counts."""
    talk = Conversation().greeted()
    talk.speech(speech_s)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "once"))
    talk.silence(thinking_s)
    talk.speech(1.0)
    talk.silence(0.2)
    spans = of(talk.actions, Transcribe)
    assert len(spans) == 2
    assert all(t.end_sample - t.start_sample <= 30 * LINE_RATE_HZ for t in spans)


def test_a_reopened_turn_is_not_cut_inside_its_first_new_word() -> None:
    talk = Conversation().greeted()
    talk.speech(18.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "once"))
    talk.silence(8.0)
    resumed = talk.sample
    talk.speech(1.0)
    talk.silence(0.2)
    ends = [t.end_sample for t in of(talk.actions, Transcribe)]
    assert not any(resumed < end < resumed + LINE_RATE_HZ for end in ends)


def test_silence_must_be_heard_not_only_waited_for() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "my number is"))
    assert talk.stall(1.0) == []
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(2, "my number is four seven"))
    (commit,) = of(talk.silence(0.7), CommitTurn)
    assert commit.text == "my number is four seven"


def test_a_line_that_brings_nothing_more_ends_the_turn_at_last() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "my number is"))
    assert of(talk.stall(0.7 + STALL_PATIENCE_S), CommitTurn)


def test_audio_that_the_detector_has_not_judged_is_kept() -> None:
    """It may lag behind a burst: what counts is the last window judged, not what has arrived."""
    talk = Conversation().greeted()
    talk.silence(4.0)
    judged = talk.sample
    talk.stall(10.0)
    assert talk.core.oldest_needed_sample() == judged - PREROLL_SAMPLES


def test_an_onset_that_may_become_speech_is_kept_with_its_preroll() -> None:
    talk = Conversation().greeted()
    talk.silence(4.0)
    onset = talk.sample
    talk.speech(WINDOW_S)
    assert talk.core.oldest_needed_sample() == onset - PREROLL_SAMPLES


@pytest.mark.parametrize("phrase", ["apology", "goodbye"])
def test_nobody_interrupts_the_last_sentence(phrase: str) -> None:
    talk = speaking()
    if phrase == "apology":
        talk.tell(AttemptFailed(1))
    else:
        talk.actions += talk.core.close("goodbye", "shutdown", talk.now)
    assert talk.actions[-1] == SpeakStock(phrase)  # type: ignore[arg-type]
    assert [a for a in talk.speech(2.0) if not isinstance(a, NoteUtterance)] == []
    talk.silence(1.0)
    assert talk.core.state is State.CLOSING


def test_a_second_ending_changes_nothing() -> None:
    talk = speaking()
    talk.tell(AttemptFailed(1))
    assert talk.core.close("goodbye", "shutdown", talk.now) == []
    assert talk.tell(PlayedOut())[-1] == HangUp("goodbye")


def test_a_noise_that_cut_the_agent_off_is_asked_for_pardon() -> None:
    talk = speaking()
    talk.speech(0.3)
    talk.silence(0.9)
    assert talk.tell(Transcribed(2, "")) == [DropAttempt(2), SpeakStock("pardon")]
    assert talk.core.state is State.SPEAKING
    assert talk.tell(PlayedOut()) == [FinishReply()]


def test_a_caller_who_speaks_on_over_a_noise_is_not_asked_for_pardon() -> None:
    talk = speaking()
    talk.speech(0.3)
    talk.silence(0.9)
    talk.speech(0.1)
    assert talk.tell(Transcribed(2, "")) == [DropAttempt(2)]
    assert talk.core.state is State.CALLER


def test_a_sentence_without_a_trusted_word_is_asked_for_once() -> None:
    talk = Conversation().greeted()
    asked = []
    for attempt in (1, 2):
        talk.speech(1.0)
        talk.silence(0.2)
        talk.tell(Transcribed(attempt, ""))
        asked += of(talk.silence(0.8), SpeakStock)
        talk.tell(PlayedOut())
    assert asked == [SpeakStock("pardon")], "a room that keeps talking is not asked again and again"
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(3, "hello"))
    talk.silence(0.8)
    assert talk.core.state is State.THINKING


def test_a_short_noise_is_asked_for_nothing() -> None:
    talk = Conversation().greeted()
    talk.speech(0.5)
    talk.silence(0.2)
    talk.tell(Transcribed(1, ""))
    assert not of(talk.silence(0.8), SpeakStock)
    assert talk.core.state is State.LISTENING


def test_a_turn_ends_where_its_last_utterance_did_even_if_the_next_has_begun() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    end = talk.sample
    talk.silence(0.64)
    talk.tell(Transcribed(1, "thank you"))
    talk.speech(WINDOW_S)
    (commit,) = of(talk.silence(0.1), CommitTurn)
    assert commit == CommitTurn(1, "thank you", end)


# While the caller speaks


def test_the_words_so_far_are_evaluated_while_the_caller_speaks_but_not_a_half_heard_last_one() -> None:
    talk = Conversation().greeted()
    (part,) = of(talk.speech(1.0), TranscribePart)
    assert (part.start_sample, part.end_sample) == (0, pytest.approx(0.8 * LINE_RATE_HZ, abs=256))
    assert talk.tell(PartTranscribed("my number is fo")) == [Prefill("my number is")]
    assert not of(talk.speech(0.9), TranscribePart)
    assert len(of(talk.speech(0.4), TranscribePart)) == 1


def test_no_second_part_is_asked_for_before_the_first_has_come() -> None:
    talk = Conversation().greeted()
    assert len(of(talk.speech(6.0), TranscribePart)) == 1
    assert talk.tell(PartTranscribed(None)) == []
    assert len(of(talk.speech(0.1), TranscribePart)) == 1


def test_a_part_of_a_long_turn_stands_behind_its_closed_pieces() -> None:
    talk = Conversation().greeted()
    talk.speech(16.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "first piece"))
    talk.speech(1.0)
    assert talk.tell(PartTranscribed("and then so")) == [Prefill("first piece and then")]


def test_the_words_before_a_pause_are_evaluated_when_the_caller_goes_on() -> None:
    talk = Conversation().greeted()
    talk.speech(1.0)
    talk.silence(0.3)
    talk.tell(Transcribed(1, "my number is"))
    assert of(talk.speech(0.3), Prefill) == [Prefill("my number is")]


# Silence and company


def idle(policy: TurnPolicy | None = None, **limits: float) -> Conversation:
    return Conversation(policy, **limits).greeted()


def test_a_silent_caller_is_asked_twice_and_then_bidden_farewell() -> None:
    talk = idle(TurnPolicy(still_there_s=8.0, still_there_times=2))
    for _ in range(2):
        assert not of(talk.silence(7.5), SpeakStock)
        assert of(talk.silence(1.0), SpeakStock) == [SpeakStock("still_there")]
        talk.tell(ReplyAudible())
        talk.silence(30.0)
        assert talk.actions[-1] == SpeakStock("still_there"), "not while the question still sounds"
        talk.tell(PlayedOut())
    assert SpeakStock("goodbye") in talk.silence(8.5)
    assert talk.tell(PlayedOut()) == [FinishReply(), HangUp("silence")]


def test_field_12_no_idle_timer_runs_while_the_agent_speaks() -> None:
    talk = speaking()
    assert not of(talk.silence(60.0), SpeakStock)
    talk.tell(PlayedOut())
    assert not of(talk.silence(7.0), SpeakStock)


def test_a_line_with_nothing_but_noise_is_a_silent_one() -> None:
    talk = idle()
    asked = []
    for number in range(1, 30):
        talk.speech(0.2)
        talk.silence(0.3)
        talk.tell(Transcribed(number, ""))
        asked += of(talk.silence(1.0), SpeakStock)
        if asked:
            break
    assert asked == [SpeakStock("still_there")]
    assert talk.sample / LINE_RATE_HZ == pytest.approx(8.0, abs=1.6)


def test_music_that_never_pauses_is_a_silent_line_too() -> None:
    talk = idle()
    talk.speech(27.0)
    talk.tell(Transcribed(1, ""))
    assert SpeakStock("still_there") in talk.speech(0.2)


def test_a_caller_who_never_stops_talking_is_not_asked() -> None:
    talk = idle()
    for number in range(1, 6):
        assert not of(talk.speech(27.0), SpeakStock)
        talk.tell(Transcribed(number, "and then he said"))
    assert talk.core.state is State.CALLER


def test_an_answer_starts_the_count_anew() -> None:
    talk = idle()
    talk.silence(8.5)
    talk.tell(ReplyAudible())
    talk.tell(PlayedOut())
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "yes I am here"))
    talk.silence(3.0)
    talk.tell(ReplyAudible())
    talk.tell(PlayedOut())
    for _ in range(2):
        assert SpeakStock("still_there") in talk.silence(8.5)
        talk.tell(ReplyAudible())
        talk.tell(PlayedOut())


def test_the_last_minute_is_announced_when_the_floor_is_free() -> None:
    talk = idle(call_limit_s=300.0, warning_s=60.0)
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "tell me everything"))
    talk.silence(3.0)
    talk.tell(ReplyAudible())
    assert not of(talk.silence(242.0), SpeakStock), "not into the agent's own words"
    talk.tell(PlayedOut())
    assert of(talk.silence(0.1), SpeakStock) == [SpeakStock("last_minute")]
    talk.tell(PlayedOut())
    assert SpeakStock("goodbye") in talk.silence(60.0)


def test_a_short_call_needs_no_warning() -> None:
    talk = idle(TurnPolicy(still_there_s=120.0), call_limit_s=100.0, warning_s=60.0)
    assert of(talk.silence(101.0), SpeakStock) == [SpeakStock("goodbye")]


# A voice over the agent's

POLITE = TurnPolicy(end_of_turn="silence", endpoint_silence_s=0.7, barge_in="polite")
WANTS_FLOOR, LISTENS, COUGHS = Glimpse(0.01, 0.0, 0.99), Glimpse(0.98, 0.0, 0.02), Glimpse(0.0, 0.95, 0.05)


def test_a_voice_turns_the_agent_down_at_once_and_a_glimpse_is_asked_for() -> None:
    talk = speaking(POLITE)
    assert talk.speech(0.064) == [Duck()]
    (glimpse,) = of(talk.speech(0.096), TakeGlimpse)
    assert glimpse.end_sample - glimpse.start_sample <= 0.3 * LINE_RATE_HZ
    assert talk.core.state is State.SPEAKING


def line_brings(
    talk: Conversation, seconds: float, level_dbfs: float, probability: float
) -> list[TurnAction]:
    """Windows of a line whose level is known."""
    actions: list[TurnAction] = []
    for _ in range(round(seconds / WINDOW_S)):
        start, talk.sample = talk.sample, talk.sample + VAD_WINDOW_SAMPLES
        actions += talk.tell(Voice(probability, start, talk.sample, level_dbfs, own_voice_near=True))
    return actions


def test_a_sound_that_stands_out_turns_the_agent_down_and_up_again_if_it_is_no_voice() -> None:
    talk = speaking(POLITE)
    assert line_brings(talk, 1.6, -60.0, 0.02) == []
    # Softer than any voice of the caller's: the detector is told that nobody speaks.
    assert line_brings(talk, 0.064, -41.0, 0.2) == [Duck()]
    assert line_brings(talk, 0.16, -60.0, 0.02) == [Restore()]
    assert talk.core.state is State.SPEAKING


def test_a_reply_that_ends_under_such_a_sound_leaves_no_turn_behind() -> None:
    talk = speaking(POLITE)
    line_brings(talk, 1.6, -60.0, 0.02)
    assert line_brings(talk, 0.064, -35.0, 0.2) == [Duck()]
    assert talk.tell(PlayedOut()) == [FinishReply()]
    assert talk.core.state is State.LISTENING


def test_somebody_who_wants_the_floor_stops_the_agent_for_good() -> None:
    talk = speaking(POLITE)
    talk.silence(1.0)
    onset = talk.sample
    (glimpse,) = of(talk.speech(0.16), TakeGlimpse)
    assert talk.tell(Glimpsed(glimpse.number, WANTS_FLOOR)) == [
        CancelReply(),
        ClearPlayout(),
        TruncateReply(0),
    ]
    assert talk.core.state is State.CALLER
    talk.speech(0.5)
    (transcribe,) = of(talk.silence(0.2), Transcribe)
    assert transcribe.start_sample == onset - PREROLL_SAMPLES


def test_field_2_a_backchannel_turns_the_agent_down_and_up_again() -> None:
    """livekit/agents#4039, pipecat#1391: "mm-hmm" cancels the answer, and it never resumes."""
    talk = speaking(POLITE)
    (glimpse,) = of(talk.speech(0.16), TakeGlimpse)
    assert talk.tell(Glimpsed(glimpse.number, LISTENS)) == []
    over = [*talk.speech(0.128), *talk.silence(0.5)]
    assert of(over, Restore) == [Restore()]
    assert not of(talk.actions, CancelReply)
    assert talk.core.state is State.SPEAKING
    assert talk.tell(PlayedOut()) == [FinishReply()]


def test_the_decision_falls_within_400_ms_even_if_no_glimpse_comes() -> None:
    talk = speaking(POLITE)
    talk.silence(1.0)
    began = talk.now
    while not of(talk.actions, Restore):
        talk.speech(WINDOW_S)
        assert talk.now - began <= 0.42
    assert talk.core.state is State.SPEAKING


def test_a_voice_that_goes_on_and_on_takes_the_floor_after_all() -> None:
    talk = speaking(POLITE)
    for _ in range(40):
        for wanted in of(talk.speech(WINDOW_S), TakeGlimpse):
            talk.tell(Glimpsed(wanted.number, LISTENS))
    assert of(talk.actions, CancelReply) == [CancelReply()]
    assert talk.core.state is State.CALLER


def test_a_short_stop_that_the_glimpse_let_pass_stops_the_agent_by_its_words() -> None:
    talk = speaking(POLITE)
    for wanted in of([*talk.speech(0.35), *talk.silence(0.1)], TakeGlimpse):
        talk.tell(Glimpsed(wanted.number, LISTENS))
    (part,) = of(talk.silence(0.2), TranscribePart)
    assert part.end_sample - part.start_sample >= 0.35 * LINE_RATE_HZ
    actions = talk.tell(PartTranscribed("Stop."))
    assert actions[:2] == [CancelReply(), ClearPlayout()]
    (transcribe,) = of(actions, Transcribe)
    talk.tell(Transcribed(transcribe.attempt, "Stop."))
    assert of(talk.silence(1.0), CommitTurn), "it was over already: a whole turn"


def test_what_was_let_pass_and_says_nothing_more_is_forgotten() -> None:
    talk = speaking(POLITE)
    talk.speech(0.35)
    talk.silence(0.3)
    assert talk.tell(PartTranscribed("Yeah.")) == []
    assert talk.core.state is State.SPEAKING


def test_a_cough_is_let_pass() -> None:
    talk = speaking(POLITE)
    for wanted in of([*talk.speech(0.2), *talk.silence(0.1)], TakeGlimpse):
        talk.tell(Glimpsed(wanted.number, COUGHS))
    assert of(talk.silence(0.5), Restore) == [Restore()]


def test_two_interruptions_within_200_ms_are_one() -> None:
    talk = speaking(POLITE)
    (glimpse,) = of(talk.speech(0.16), TakeGlimpse)
    talk.silence(0.064)
    talk.tell(Glimpsed(glimpse.number, WANTS_FLOOR))
    talk.silence(0.064)
    talk.speech(0.5)
    assert len(of(talk.actions, CancelReply)) == 1
    talk.silence(0.2)
    assert talk.core.state is State.PAUSE


def test_a_word_in_the_last_moment_of_a_reply_is_a_turn() -> None:
    talk = speaking(POLITE)
    talk.speech(0.096)
    talk.silence(0.064)
    actions = talk.tell(PlayedOut())
    assert actions[0] == FinishReply()
    assert of([*actions, *talk.silence(0.3)], Transcribe)


def test_a_protected_greeting_is_heard_to_its_end() -> None:
    talk = Conversation(POLITE.model_copy(update={"protect_greeting": True}))
    assert talk.speech(2.0) == []
    assert talk.tell(PlayedOut()) == [FinishReply()]
    talk.speech(0.5)
    assert of(talk.silence(0.2), Transcribe), "who still speaks then has the floor"


def test_an_agent_that_nobody_may_interrupt_is_not_turned_down_either() -> None:
    talk = speaking(POLITE.model_copy(update={"barge_in": "never"}))
    actions = talk.speech(3.0)
    assert not of(actions, Duck)
    assert not of(actions, CancelReply)


def test_field_5_our_own_echo_is_nobody() -> None:
    """pipecat#1771, livekit/agents#3758."""
    talk = speaking(POLITE)
    for _ in range(60):
        talk.now += WINDOW_S
        start, talk.sample = talk.sample, talk.sample + 256
        assert talk.core.receive(Voice(0.95, start, talk.sample, -45.0, echo=0.8), talk.now) == []
    talk.tell(PlayedOut())
    assert talk.core.state is State.LISTENING


def test_field_5_what_is_too_soft_for_a_caller_is_nobody_while_our_voice_may_echo() -> None:
    talk = Conversation(POLITE).greeted()
    for near in (True, False):
        for _ in range(10):
            talk.now += WINDOW_S
            start, talk.sample = talk.sample, talk.sample + 256
            talk.core.receive(Voice(0.95, start, talk.sample, -50.0, own_voice_near=near), talk.now)
        assert talk.core.state is (State.LISTENING if near else State.CALLER)


def test_what_is_overheard_is_kept_until_its_words_are_known() -> None:
    talk = speaking(POLITE)
    onset = talk.sample
    for wanted in of([*talk.speech(0.3), *talk.silence(0.3)], TakeGlimpse):
        talk.tell(Glimpsed(wanted.number, LISTENS))
    talk.silence(1.0)
    assert talk.core.oldest_needed_sample() <= onset
    (transcribe,) = of(talk.tell(PartTranscribed("Stop.")), Transcribe)
    assert transcribe.start_sample <= onset


@pytest.mark.parametrize("spoken_s", [0.1, 0.16, 0.25])
def test_a_word_that_is_over_before_the_decision_has_the_last_say_too(spoken_s: float) -> None:
    talk = speaking(POLITE)
    talk.speech(spoken_s)
    talk.silence(0.6)
    assert len(of(talk.actions, Restore)) == 1
    assert len(of(talk.actions, TranscribePart)) == 1 + 1, "the turn's own part, and the overheard word"
    assert talk.tell(PartTranscribed("No."))[:2] == [CancelReply(), ClearPlayout()]


def test_words_over_the_end_of_a_reply_are_a_turn_when_they_ask_for_one() -> None:
    for text, state in (("How much is it?", State.PAUSE), ("Yeah.", State.LISTENING)):
        talk = speaking(POLITE)
        for wanted in of([*talk.speech(0.3), *talk.silence(0.3)], TakeGlimpse):
            talk.tell(Glimpsed(wanted.number, None))
        talk.tell(PlayedOut())
        assert talk.core.state is State.LISTENING
        talk.tell(PartTranscribed(text))
        assert talk.core.state is state


def test_noise_after_the_last_question_does_not_end_in_silence_for_ever() -> None:
    talk = idle(TurnPolicy(barge_in="eager", end_of_turn="silence", endpoint_silence_s=0.7))
    talk.speech(0.8)
    talk.silence(0.2)
    talk.tell(Transcribed(1, ""))
    talk.silence(0.8)
    assert talk.actions[-1] == SpeakStock("pardon")
    talk.tell(PlayedOut())
    assert SpeakStock("still_there") in talk.silence(8.5)
    talk.speech(0.3)
    talk.silence(0.2)
    talk.tell(Transcribed(2, ""))
    talk.silence(0.8)
    assert talk.core.state is State.LISTENING
    assert SpeakStock("still_there") in talk.silence(9.0)


@pytest.mark.parametrize("policy", ["never", "polite"])
def test_who_talks_over_a_long_announcement_is_heard_in_pieces_that_fit(policy: str) -> None:
    talk = speaking(POLITE.model_copy(update={"barge_in": policy}))
    for _ in range(40):
        for wanted in of(talk.hear(1.0, 0.95), TakeGlimpse):
            talk.tell(Glimpsed(wanted.number, COUGHS))
    talk.tell(PlayedOut())
    talk.speech(6.0)
    talk.silence(0.2)
    asked = of(talk.actions, Transcribe)
    assert asked
    assert all(a.end_sample - a.start_sample <= 30 * LINE_RATE_HZ for a in asked)


def test_parts_go_on_after_a_pause_inside_the_turn() -> None:
    talk = Conversation().greeted()
    assert of(talk.speech(1.0), TranscribePart)
    talk.silence(0.3)
    assert of(talk.speech(2.0), TranscribePart), "the first one was given up for the pause"


# By the words


def silence_before_the_commit(ends: float | None) -> float:
    talk = Conversation(TurnPolicy(barge_in="eager")).greeted()
    talk.speech(1.0)
    end = talk.now
    talk.silence(0.2)
    talk.tell(Transcribed(1, "I would like an appointment"))
    if ends is not None:
        assert talk.tell(TurnEndGuessed(1, ends)) == []
    while not of(talk.actions, CommitTurn):
        talk.silence(WINDOW_S)
    return talk.now - end


def test_the_language_models_opinion_moves_the_end_of_the_turn() -> None:
    complete, even, unfinished = (silence_before_the_commit(ends) for ends in (0.9, 0.03, 0.0001))
    assert complete < 0.7 < even < unfinished
    assert silence_before_the_commit(None) == pytest.approx(1.6, abs=0.2), "while it has none"


def test_a_sound_without_words_does_not_wait_for_more() -> None:
    talk = Conversation(TurnPolicy(barge_in="eager")).greeted()
    talk.speech(0.3)
    talk.silence(0.2)
    talk.tell(Transcribed(1, ""))
    talk.silence(0.7)
    assert talk.core.state is State.LISTENING
