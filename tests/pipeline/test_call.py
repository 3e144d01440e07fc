"""Whole calls: what is said, heard, interrupted and broken, in virtual time."""

import numpy as np
import pytest

from models.base import Message, ModelFailed
from models.scripted import BreaksOff, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from pipeline.events import AgentAudio, CallerAudio
from pipeline.line import LINE_RATE_HZ
from telephony.simulator import Report
from tests.pipeline.virtual_calls import PERSONA, House, with_limits


def hears(*texts: str | Exception) -> ScriptedTranscriber:
    return ScriptedTranscriber(texts, latency_s=0.2, once_per_turn=True)


def test_a_caller_is_greeted_understood_and_answered() -> None:
    house = House(transcriber=hears("are you open", "thank you"))
    report = house.play(["listen", {"say": "are you open"}, "listen", {"say": "thank you"}, "listen"])
    assert house.observed.caller == ["are you open", "thank you"]
    assert [a.text for a in house.observed.agent] == [
        PERSONA.greeting,
        "You said: are you open",
        "You said: thank you",
    ]
    assert all(a.heard == a.text and not a.interrupted for a in house.observed.agent)
    assert report.violations == ()
    assert house.outcomes[0].completed
    assert not house.observed.faults


def test_the_reply_is_made_ready_during_the_pause() -> None:
    """Transcription (0.2 s), first token (0.1 s) and voice (0.05 s) run inside the 0.7 s of silence."""
    house = House(transcriber=hears("are you open"))
    report = house.play(["listen", {"say": "are you open"}, "listen"])
    (gap,) = [t.edge_gap_ms for t in report.turns]
    assert gap is not None
    assert 650 <= gap <= 850


def test_stage_times_are_in_order_and_add_up_to_the_gap() -> None:
    house = House(transcriber=hears("are you open"))
    report = house.play(["listen", {"say": "are you open"}, "listen"])
    times = house.observed.agent[1].times
    assert times.speech_end_s is not None
    assert times.transcribe_started_s is not None
    assert times.transcribed_s is not None
    assert times.first_token_s is not None
    assert times.first_clause_s is not None
    assert times.first_audio_s is not None
    assert times.committed_s is not None
    assert times.first_played_s is not None
    assert (
        times.speech_end_s
        < times.transcribe_started_s
        < times.transcribed_s
        < times.first_token_s
        <= times.first_clause_s
        < times.first_audio_s
        <= times.first_played_s
    )
    assert times.committed_s <= times.first_played_s
    gap_ms = report.turns[0].edge_gap_ms
    assert gap_ms is not None
    # The detector's windows are 32 ms long.
    assert (times.first_played_s - times.speech_end_s) * 1000 == pytest.approx(gap_ms, abs=60)


def test_the_history_is_what_was_said() -> None:
    house = House(transcriber=hears("one", "two"))
    house.play(["listen", {"say": "one one one"}, "listen", {"say": "two two two"}, "listen"])
    assert list(house.chat.requests[-1]) == [
        Message("assistant", PERSONA.greeting),
        Message("user", "one"),
        Message("assistant", "You said: one"),
        Message("user", "two"),
    ]
    assert house.chat.overlaps == 0


LONG = "I will tell you everything, one thing after another, for a very long time. And then even more of it."


def interrupted(after_s: float = 1.5) -> tuple[House, Report]:
    house = House(transcriber=hears("tell me", "stop it"), chat=ScriptedChat([LONG, "All right."]))
    report = house.play(
        [
            "listen",
            {"say": "tell me please"},
            {"interrupt": {"after_s": after_s, "say": "stop it now please"}},
            "listen",
        ]
    )
    return house, report


def test_an_interruption_stops_the_agent_and_cuts_the_history_to_what_was_heard() -> None:
    house, _ = interrupted()
    cut = house.observed.agent[1]
    assert cut.interrupted
    assert cut.heard
    assert LONG.startswith(cut.heard)
    assert len(cut.heard) < len(cut.text)
    assert house.chat.requests[-1][-2:] == (
        Message("assistant", f"{cut.heard} ..."),
        Message("user", "stop it"),
    )
    assert house.observed.agent[2].text == "All right."


def test_buffered_audio_does_not_play_on_after_barge_in() -> None:
    """pipecat#366, fastrtc#303, cloudflare/agents#2261: `clear` goes out with the decision."""
    _, report = interrupted()
    stops = [t.edge_stop_ms for t in report.turns if t.edge_stop_ms is not None]
    assert len(stops) == 1
    assert stops[0] < 400


def test_first_syllables_of_an_interruption_are_kept() -> None:
    """livekit/agents#3261: the transcriber gets the interruption from before its first sample."""
    house, _ = interrupted()
    spoken_s = 0.08 * len("stop it now please")
    assert house.transcriber.durations_s[-1] >= spoken_s


def test_an_interrupted_greeting_is_heard_history_too() -> None:
    house = House(transcriber=hears("wait a moment"))
    house.play([{"interrupt": {"after_s": 0.5, "say": "wait a moment please"}}, "listen"])
    greeting = house.observed.agent[0]
    assert greeting.interrupted
    assert PERSONA.greeting.startswith(greeting.heard)
    assert house.chat.requests[0][0].content.endswith("...")


def test_a_pause_inside_a_turn_leaves_one_turn() -> None:
    house = House(
        transcriber=ScriptedTranscriber(lambda audio: f"{len(audio) / 16000:.0f} seconds", latency_s=0.1)
    )
    house.play(
        ["listen", {"say": "my number is four seven"}, {"wait": 0.4}, {"say": "two nine three one"}, "listen"]
    )
    assert len(house.observed.caller) == 1
    assert len(house.chat.requests) == 2, "one speculation was dropped, one was answered"
    assert house.chat.requests[0][:-1] == house.chat.requests[1][:-1], "the dropped one left no trace"


def test_hanging_up_while_the_agent_thinks() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat(first_token_s=5.0))
    house.play(["listen", {"say": "hello there"}, {"wait": 1.5}, "hang_up"])
    assert house.outcomes[0].completed
    assert house.observed.ended[0].outcome == "completed"
    assert house.chat.sessions == 0
    assert house.chat.closed_early >= 1


@pytest.mark.parametrize("ending", ["hang_up", "drop"])
def test_leaving_while_the_agent_speaks(ending: str) -> None:
    house = House(transcriber=hears("tell me"), chat=ScriptedChat([LONG]))
    house.play(["listen", {"say": "tell me please"}, {"wait": 2.5}, ending])
    assert len(house.outcomes) == 1
    last = house.observed.agent[-1]
    assert last.interrupted
    assert len(last.heard) < len(LONG)
    assert len(house.observed.ended) == 1
    assert house.chat.sessions == 0


def test_a_call_of_no_time_at_all() -> None:
    house = House()
    house.play(["hang_up"])
    assert len(house.observed.ended) == 1
    assert house.chat.sessions == 0


def test_thirty_seconds_of_silence_ask_nothing_of_the_models() -> None:
    house = House()
    house.play(["listen", {"wait": 30}, "hang_up"])
    assert house.transcriber.durations_s == []
    assert house.chat.requests == []


def test_noise_that_the_transcriber_does_not_trust_is_nobodys_turn() -> None:
    house = House(transcriber=hears("", "hello"))
    rng = np.random.default_rng(5)
    noise = (rng.normal(size=LINE_RATE_HZ * 2) * 3000).astype(np.int16)
    house.play(["listen", {"say": "noise"}, {"wait": 2}, {"say": "hello there"}, "listen"], {1: noise})
    assert house.observed.caller == ["hello"]


def test_clipped_audio_is_only_loud() -> None:
    house = House(transcriber=hears("hello"))
    loud = np.where(np.arange(LINE_RATE_HZ) % 80 < 40, 32767, -32768).astype(np.int16)
    house.play(["listen", {"say": "hello"}, "listen"], {1: loud})
    assert house.observed.caller == ["hello"]


@pytest.mark.parametrize(
    "broken",
    [
        {"transcriber": ScriptedTranscriber([ModelFailed("no ears")], latency_s=0.1)},
        {"chat": ScriptedChat([ModelFailed("no words")])},
        {"chat": ScriptedChat([BreaksOff("I was about to say, that")])},
    ],
    ids=["transcriber", "chat", "chat mid-stream"],
)
def test_a_model_that_raises_ends_its_call_with_an_apology(broken: dict[str, object]) -> None:
    house = House(**{"transcriber": hears("hello"), **broken})  # type: ignore[arg-type]
    report = house.play(["listen", {"say": "hello there"}, {"wait": 12}])
    assert report.ending == "agent hung up"
    assert house.observed.agent[-1].text == PERSONA.apology
    assert house.observed.agent[-1].heard == PERSONA.apology
    assert house.observed.faults
    assert house.observed.ended[0].outcome == "failed"
    assert house.outcomes[0].completed, "the caller has heard the apology"
    assert house.chat.sessions == 0


def test_a_voice_that_raises_ends_the_call_with_the_apology_made_ahead() -> None:
    def fail(text: str) -> Exception | None:
        return ModelFailed("hoarse") if text.startswith("You said") else None

    house = House(transcriber=hears("hello"), synthesizer=ScriptedSynthesizer(fail=fail))
    report = house.play(["listen", {"say": "hello there"}, {"wait": 12}])
    assert report.ending == "agent hung up"
    assert house.observed.agent[-1].text == PERSONA.apology


@pytest.mark.parametrize("empty", ["", "   ", "**"])
def test_an_empty_reply_is_not_silence(empty: str) -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([empty]))
    house.play(["listen", {"say": "hello there"}, "listen"])
    assert house.observed.agent[-1].heard == PERSONA.pardon


def test_a_reply_of_two_thousand_words_can_be_cut_off() -> None:
    chat = ScriptedChat(["word, " * 2000, "Fine."], keep_to_limit=False)
    house = House(transcriber=hears("talk", "stop"), chat=chat)
    house.play(
        ["listen", {"say": "talk please"}, {"interrupt": {"after_s": 6.0, "say": "stop it now"}}, "listen"]
    )
    assert house.observed.agent[1].interrupted
    assert house.observed.agent[2].text == "Fine."


def test_the_longest_call_ends_with_a_goodbye() -> None:
    house = House(persona=with_limits(call_s=8.0))
    report = house.play(["listen", {"wait": 30}])
    assert report.ending == "agent hung up"
    assert house.observed.agent[-1].text == PERSONA.goodbye
    assert house.observed.agent[-1].heard == PERSONA.goodbye


def test_a_full_house_says_so_and_hurts_nobody() -> None:
    house = House(chat=ScriptedChat(sequences=1), others=1)
    report = house.play(["listen", "hang_up"])
    assert report.ending == "agent hung up"
    assert (house.outcomes[0].completed, house.outcomes[0].reason) == (False, "busy")
    assert house.observed.faults[0].where == "admission"
    assert house.chat.sessions == 1


def test_the_recording_places_what_was_played() -> None:
    house, report = interrupted()
    caller = [e for e in house.observed.events if isinstance(e, CallerAudio)]
    agent = [e for e in house.observed.events if isinstance(e, AgentAudio)]
    position = 0
    for event in caller:
        assert event.start_sample == position
        position += event.pcm.size
    position = 0
    for event in agent:
        assert event.start_sample >= position - 1
        position = event.start_sample + event.pcm.size
    assert report.violations == ()
