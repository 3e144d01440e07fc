"""What the voice is shown of a call: keys, words, sound, and how much was heard."""

import numpy as np
import pytest

from models.base import AgentSpeech, CallerSpeech, Speech
from pipeline.conversation import SOUND_KEPT_S, Conversation, SpokenClause
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.playout import HeardClause

MORNING = SpokenClause("We open at 8.", "We open at eight.", "reply/1/1")
EVENING = SpokenClause("We close at six in the evening.", "We close at six in the evening.", "reply/1/2")


def pcm(seconds: float, level: int = 8192) -> Pcm:
    return np.full(round(seconds * LINE_RATE_HZ), level, np.int16)


def hears(talk: Conversation, attempt: int, text: str, sound: Pcm, follows: tuple[int, ...] = ()) -> None:
    talk.caller_paused(attempt, follows, sound)
    talk.transcribed(attempt, text)


def heard(clause: SpokenClause, samples: int, heard_samples: int, *, complete: bool = True) -> HeardClause:
    return HeardClause(clause.text, samples, heard_samples, complete)


def shown(speeches: tuple[Speech, ...]) -> list[tuple[str, str, float | None]]:
    """Keys, words and seconds: of the agent as heard, of the caller as kept."""
    return [
        (s.utterance, s.text, s.heard_s)
        if isinstance(s, AgentSpeech)
        else (s.key, s.text, None if s.audio is None else s.audio.size / s.sample_rate_hz)
        for s in speeches
    ]


def test_turns_stand_in_order_with_words_sound_and_keys() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "when do you open", pcm(1.5))
    talk.caller_said()
    talk.agent_said([MORNING, EVENING])
    hears(talk, 2, "thank you", pcm(0.5))
    assert shown(talk.with_caller()) == [
        ("caller/1", "when do you open", 1.5),
        ("reply/1/1", "We open at eight.", None),
        ("reply/1/2", "We close at six in the evening.", None),
        ("caller/2", "thank you", 0.5),
    ]
    assert len(talk.speeches) == 3, "the turn in hand may still be dropped"
    first = talk.speeches[0]
    assert isinstance(first, CallerSpeech)
    assert first.audio is not None
    assert first.audio.dtype == np.float32
    assert first.audio == pytest.approx(0.25)


def test_the_committed_turn_is_the_very_speech_that_was_prepared() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "when do you open", pcm(1.0))
    ahead = talk.with_caller()
    talk.caller_said()
    assert talk.speeches[-1] is ahead[-1]


def test_a_voice_that_takes_words_is_given_no_sound() -> None:
    talk = Conversation("text")
    hears(talk, 1, "hello", pcm(1.0))
    talk.caller_said()
    talk.agent_cut([MORNING], [heard(MORNING, 8000, 4000)])
    caller, agent = talk.speeches
    assert isinstance(caller, CallerSpeech)
    assert caller.audio is None
    assert isinstance(agent, AgentSpeech)


def test_for_a_voice_that_takes_nothing_nothing_is_kept() -> None:
    talk = Conversation("nothing")
    hears(talk, 1, "hello", pcm(1.0))
    assert talk.with_caller() == ()
    talk.caller_said()
    talk.agent_said([MORNING])
    talk.agent_cut([MORNING], [heard(MORNING, 8000, 4000)])
    talk.retract_caller()
    assert talk.speeches == ()


def test_a_cut_reply_is_kept_as_far_as_it_was_heard() -> None:
    """One clause whole, one in part, one not at all: the ledger's seconds, the words as voiced."""
    talk = Conversation("audio")
    third = SpokenClause("And more.", "And more.", "reply/1/3")
    talk.agent_cut(
        [MORNING, EVENING, third],
        [heard(MORNING, 9600, 9600), heard(EVENING, 16_000, 8000), heard(third, 4000, 0, complete=False)],
    )
    whole, part = shown(talk.speeches)
    assert whole == ("reply/1/1", "We open at eight.", None)
    key, words, seconds = part
    assert (key, seconds) == ("reply/1/2", 1.0)
    assert words
    assert EVENING.words.startswith(words)
    assert words != EVENING.words


def test_a_clause_that_is_still_being_voiced_was_not_heard_whole() -> None:
    talk = Conversation("audio")
    talk.agent_cut([EVENING], [heard(EVENING, 8000, 8000, complete=False)])
    [(_, words, seconds)] = shown(talk.speeches)
    assert seconds == 1.0
    assert words != EVENING.words


def test_a_retracted_turn_leaves_no_trace_and_comes_again_under_another_key() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "my number is", pcm(1.0))
    talk.caller_said()
    talk.retract_caller()
    assert talk.speeches == ()
    hears(talk, 2, "my number is four", pcm(2.0))
    talk.caller_said()
    assert shown(talk.speeches) == [("caller/2", "my number is four", 2.0)]


def test_only_the_last_turn_can_be_retracted_and_only_once() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "hello", pcm(1.0))
    talk.caller_said()
    talk.agent_said([MORNING])
    talk.retract_caller()
    assert len(talk.speeches) == 2
    hears(talk, 2, "thank you", pcm(1.0))
    talk.caller_said()
    talk.retract_caller()
    talk.retract_caller()
    assert len(talk.speeches) == 2


def test_a_long_turn_is_the_pieces_that_were_transcribed() -> None:
    """Also when it is reopened after it was over: the settled pieces keep their keys."""
    talk = Conversation("audio")
    hears(talk, 1, "once upon a time", pcm(16.0))
    talk.caller_paused(2, (1,), pcm(3.0))
    talk.transcribed(2, "and the end")
    turn = [("caller/1", "once upon a time", 16.0), ("caller/2", "and the end", 3.0)]
    assert shown(talk.with_caller()) == turn
    talk.caller_said()
    talk.retract_caller()
    hears(talk, 3, "and the end is near", pcm(4.0), follows=(1,))
    assert shown(talk.with_caller()) == [turn[0], ("caller/3", "and the end is near", 4.0)]


def test_a_dropped_attempt_is_forgotten_with_the_next() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "my number", pcm(1.0))
    hears(talk, 2, "my number is four", pcm(2.0))
    talk.transcribed(1, "late")
    assert shown(talk.with_caller()) == [("caller/2", "my number is four", 2.0)]


def test_a_piece_without_words_is_no_speech() -> None:
    talk = Conversation("audio")
    hears(talk, 1, "", pcm(1.0))
    assert talk.with_caller() == ()


@pytest.mark.parametrize("monologue", [False, True], ids=["many turns", "one turn of many pieces"])
def test_a_long_call_keeps_all_words_and_a_bounded_amount_of_sound(monologue: bool) -> None:
    talk = Conversation("audio")
    for attempt in range(1, 201):
        hears(talk, attempt, f"turn {attempt}", pcm(10.0), tuple(range(1, attempt)) if monologue else ())
        if not monologue:
            talk.caller_said()
            talk.agent_said([SpokenClause("Yes.", "Yes.", f"reply/{attempt}/1")])
    if monologue:
        talk.caller_said()
    turns = [s for s in talk.speeches if isinstance(s, CallerSpeech)]
    assert [s.text for s in turns] == [f"turn {attempt}" for attempt in range(1, 201)]
    with_sound = [s for s in turns if s.audio is not None]
    assert len(with_sound) == SOUND_KEPT_S / 10
    assert with_sound == turns[-len(with_sound) :], "the latest"
