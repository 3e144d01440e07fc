"""What users of phone agents complain about most, each as a whole call that would show it.

The issues named are where people reported it of other systems.
"""

import numpy as np
import pytest

from models.base import Glimpse, Message, ModelFailed, Samples
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber
from pipeline.events import CallerTurn
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.service import CallService
from telephony.simulator import Report
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, interrupted, tone


def answered(house: House, line: str = "are you open today", lines: dict[int, Pcm] | None = None) -> Report:
    return house.play(["listen", {"say": line}, "listen"], lines)


@pytest.mark.parametrize("after_s", [0.3, 1.5, 2.9])
def test_1_buffered_audio_plays_on_after_barge_in(after_s: float) -> None:
    """pipecat#366, fastrtc#303, cloudflare/agents#2261."""
    _, report = interrupted(after_s)
    (stop_ms,) = [turn.edge_stop_ms for turn in report.turns if turn.edge_stop_ms is not None]
    assert stop_ms <= 450
    assert not report.violations


@pytest.mark.parametrize("pause_s", [0.3, 0.5])
def test_3_the_caller_is_cut_off_in_mid_sentence(pause_s: float) -> None:
    """pipecat#4950, livekit/agents#3418: a pause between two halves of a sentence."""
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "my number is" if len(audio) < 2.2 * 16_000 else "my number is four seven",
            latency_s=0.1,
        )
    )
    report = house.play(
        ["listen", {"say": "my number is, well"}, {"wait": pause_s}, {"say": "four seven"}, "listen"]
    )
    assert house.observed.caller == ["my number is four seven"]
    assert [turn.cut_off for turn in report.turns] == [False]


def test_4_the_agent_is_mute_while_it_believes_that_it_speaks() -> None:
    """pipecat#2941: a line that returns no mark leaves the agent SPEAKING; the caller is answered all the
    same."""
    house = House(transcriber=hears("hello", "are you there"), chat=ScriptedChat(["Hi.", "Yes, I am."]))

    async def two_turns(line: HandLine, service: CallService) -> None:
        await line.silent(6)
        await line.say(tone("hello", 1.0))
        await line.silent(6)
        await line.say(tone("are you there", 1.0))
        await line.silent(6)

    house.by_hand(two_turns, lambda: HandLine(marks=False))
    assert [turn.heard for turn in house.observed.agent[1:3]] == ["Hi.", "Yes, I am."]


def test_6_first_syllables_are_lost_on_barge_in() -> None:
    """livekit/agents#3261: the transcriber gets the interruption from before its first sample."""
    house, _ = interrupted()
    spoken_s = 0.08 * len("stop it now please")
    assert house.transcriber.durations_s[-1] >= spoken_s + 0.2


@pytest.mark.parametrize("after_s", [0.2, 1.0, 2.0, 3.0, 4.0])
def test_7_the_history_holds_text_that_was_never_heard(after_s: float) -> None:
    """pipecat#4996, #5426, openai-agents-js#1184. The stand-in voice speaks each character for 60 ms."""
    house, report = interrupted(after_s)
    cut = house.observed.agent[1]
    assert report.hearing is not None
    audible = np.flatnonzero(np.abs(report.hearing.agent.astype(np.int32)) > 300)
    after = audible[audible > report.hearing.turns[0].stop]
    answer_start = int(after[0])
    gaps = np.flatnonzero(np.diff(after) > LINE_RATE_HZ // 2)
    answer_end = int(after[gaps[0]]) if gaps.size else int(after[-1])
    characters = (answer_end - answer_start) / LINE_RATE_HZ / 0.06
    assert LONG.startswith(cut.heard)
    assert abs(len(cut.heard) - characters) <= 8, "to the word: half of the longest word, and its space"
    assert house.chat.requests[-1][-2].content == f"{cut.heard} ..."


def test_8_a_speculation_has_side_effects_or_doubles_the_cost() -> None:
    """livekit/agents#4219, #5924: what was begun at a pause that was none leaves neither words in the history
    nor sound on the line."""
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "I would like" if len(audio) < 2.0 * 16_000 else "I would like a visit",
            latency_s=0.05,
        ),
        chat=ScriptedChat(tokens_per_s=100),
    )
    report = house.play(
        ["listen", {"say": "I would like, um"}, {"wait": 0.45}, {"say": "a visit"}, "listen", "hang_up"]
    )
    first, second = (messages[-1].content for messages in house.chat.requests[-2:])
    assert (first, second) == ("I would like", "I would like a visit"), "one speculation was dropped"
    assert house.observed.caller == ["I would like a visit"]
    assert [turn.text for turn in house.observed.agent[1:]] == ["You said: I would like a visit"]
    assert report.turns[0].agent is None or "like a visit" in report.turns[0].agent
    counters = house.observed.ended[0].counters
    assert (counters["turns"], counters["speculations_confirmed"], counters["speculations"]) == (1, 1, 2)


def test_8_a_speculation_that_fails_costs_an_apology_and_no_words() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([ModelFailed("out of memory")]))
    answered(house)
    assert house.observed.agent[-1].text == PERSONA.apology
    assert not [event for event in house.observed.events if isinstance(event, CallerTurn)]


@pytest.mark.parametrize("slow", [0.0, 0.9, 2.0])
@pytest.mark.parametrize("jitter_ms", [0, 15])
def test_14_the_reported_latency_is_not_what_is_heard(slow: float, jitter_ms: float) -> None:
    """livekit/agents#3824: the stages that the server reports add up to the gap in the recorded audio."""
    house = House(transcriber=hears("are you open"), chat=ScriptedChat(first_token_s=slow, tokens_per_s=15))
    steps = ["listen", {"say": "are you open today"}, "listen"]
    report = house.play(steps, network={"delay_ms": 60, "jitter_ms": jitter_ms, "seed": 3})
    (turn,) = report.turns
    stages = house.observed.agent[1].times.stages_ms()
    assert turn.edge_gap_ms is not None
    assert sum(stages.values()) == pytest.approx(turn.edge_gap_ms, abs=10)
    assert list(house.chat.requests[-1]) == [Message("user", "are you open")]


def listening_caller(audio: Samples) -> Glimpse:
    """A short sound is a listener's, as far as a glimpse can tell."""
    return Glimpse(backchannel=0.97, noise=0.0, speech=0.03, text="mm")


@pytest.mark.parametrize("words", ["mm-hmm", "yeah", "right okay"])
@pytest.mark.parametrize("after_s", [0.5, 1.7, 2.9])
def test_2_a_backchannel_cancels_the_answer_and_it_never_resumes(words: str, after_s: float) -> None:
    """livekit/agents#4039, pipecat#1391: the agent goes on in the same word, no sample is lost or repeated,
    and the history knows nothing of it."""
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "tell me" if len(audio) > 0.9 * 16_000 else words,
            latency_s=0.2,
            glimpses=listening_caller,
            glimpse_s=0.06,
        ),
        chat=ScriptedChat([LONG]),
    )
    report = house.play(
        [
            "listen",
            {"say": "tell me please"},
            {"backchannel": {"after_s": after_s, "say": words}},
            "listen",
            "hang_up",
        ],
        {2: tone(words, 0.4)},
    )
    (overlap,) = report.overlaps
    assert overlap.placed
    assert not overlap.stopped
    assert overlap.duck_ms is not None
    assert overlap.duck_ms <= 200
    assert overlap.restored
    assert overlap.slip_ms == pytest.approx(0, abs=0.5)
    answer = house.observed.agent[1]
    assert (answer.heard, answer.interrupted) == (LONG, False)
    assert len(house.chat.requests) == 1


def test_2_noise_on_the_line_stops_nothing() -> None:
    """openclaw#91052: clicks of less than two windows of the detector."""
    house = House(transcriber=hears("tell me"), chat=ScriptedChat([LONG]))
    clicks = np.zeros(8000, np.int16)
    clicks[::2000] = 20_000
    report = house.play(
        [
            "listen",
            {"say": "tell me please"},
            {"sound": {"after_s": 1.0, "text": "clicks", "like": "click"}},
            "listen",
        ],
        {2: clicks},
    )
    assert not report.overlaps[0].stopped
    assert house.observed.agent[1].heard == LONG


@pytest.mark.parametrize("level_db", [-25, -30, -40])
@pytest.mark.parametrize("delay_ms", [100, 250, 600])
def test_5_the_echo_on_a_speaker_phone_interrupts_the_agent(level_db: float, delay_ms: float) -> None:
    """pipecat#1771, livekit/agents#3758: a detector that takes every sound for a voice hears nothing but the
    agent's own."""
    house = House(
        transcriber=hears("tell me"),
        chat=ScriptedChat([LONG]),
        voice_activity=EnergyVoiceActivity(threshold_dbfs=-65.0),
    )
    report = house.play(
        ["listen", {"say": "tell me please"}, "listen", "hang_up"],
        echo={"level_db": level_db, "delay_ms": delay_ms},
    )
    assert house.observed.caller == ["tell me"]
    assert [turn.interrupted for turn in house.observed.agent] == [False, False]
    assert [turn.cut_off for turn in report.turns] == [False]
