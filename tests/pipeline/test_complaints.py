"""What users of phone agents complain about most, each as a whole call that would show it.

The issues named are where people reported it of other systems.
"""

import numpy as np
import pytest

from models.base import Message, ModelFailed
from models.scripted import ScriptedChat, ScriptedTranscriber
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
