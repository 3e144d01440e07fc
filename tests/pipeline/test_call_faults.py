"""Whole calls in which something breaks: the caller hears of it, the record says it, nobody else is hurt."""

import asyncio
from collections.abc import Sequence

import pytest

from models.base import ModelFailed, Samples, VoiceActivityStream
from models.scripted import (
    BreaksOff,
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSynthesizer,
    ScriptedTranscriber,
)
from pipeline.events import CallerAudio, CallGoesOn
from pipeline.line import LINE_RATE_HZ, LineClosed, Pcm
from pipeline.service import CallOutcome, CallService
from pipeline.turns import STALLED_PATIENCE_S, THINKING_PATIENCE_S
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, tone, with_limits


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


def test_a_full_house_says_so_and_hurts_nobody() -> None:
    house = House(chat=ScriptedChat(sequences=1), others=1)
    report = house.play(["listen", "hang_up"])
    assert report.ending == "agent hung up"
    assert (house.outcomes[0].completed, house.outcomes[0].reason) == (False, "busy")
    assert house.observed.faults[0].where == "admission"
    assert house.chat.sessions == 1


async def one_turn(line: HandLine, service: CallService) -> None:
    await line.silent(4)
    await line.say(tone("hello", 1.0))
    await line.silent(THINKING_PATIENCE_S + 10)


@pytest.mark.parametrize(
    "mute",
    [
        {"transcriber": ScriptedTranscriber(["hello"], latency_s=1000)},
        {"chat": ScriptedChat(first_token_s=1000)},
        {"synthesizer": ScriptedSynthesizer()},
    ],
    ids=["transcriber", "chat", "voice"],
)
def test_a_model_that_never_answers_ends_its_call_with_an_apology(mute: dict[str, object]) -> None:
    house = House(**{"transcriber": hears("hello"), **mute})  # type: ignore[arg-type]

    async def voice_falls_silent(line: HandLine, service: CallService) -> None:
        if "synthesizer" in mute:
            house.synthesizer.latency_s = 1000
        await one_turn(line, service)

    line = house.by_hand(voice_falls_silent)
    last = house.observed.agent[-1]
    assert (last.text, last.heard) == (PERSONA.apology, PERSONA.apology)
    assert line.hung_up == "goodbye", "the caller has heard the apology"
    # Nobody waits for words that come so late; they are asked for once more.
    late = ["transcriber", "transcriber"] if "transcriber" in mute else ["reply"]
    assert [fault.where for fault in house.observed.faults] == late
    assert [(end.reason, end.outcome) for end in house.observed.ended] == [("apologised", "failed")]
    assert house.chat.sessions == 0


def test_a_voice_that_hangs_in_mid_reply_ends_its_call_with_an_apology() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([LONG]))

    async def hangs(line: HandLine, service: CallService) -> None:
        # After its first chunk, the next is 1000 s away.
        house.synthesizer.realtime_factor = 10_000
        await line.silent(4)
        await line.say(tone("hello", 1.0))
        await line.silent(STALLED_PATIENCE_S + 10)

    line = house.by_hand(hangs)
    broken_off, apology = house.observed.agent[-2:]
    assert broken_off.interrupted and LONG.startswith(broken_off.heard) and broken_off.heard != LONG
    assert (apology.text, apology.heard) == (PERSONA.apology, PERSONA.apology)
    assert line.hung_up == "goodbye"
    assert [fault.where for fault in house.observed.faults] == ["reply"]


def test_a_reply_that_pauses_between_its_clauses_is_waited_for() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([LONG]))

    async def hesitates(line: HandLine, service: CallService) -> None:
        house.synthesizer.latency_s = STALLED_PATIENCE_S - 1
        await line.silent(4)
        await line.say(tone("hello", 1.0))
        await line.silent(150)

    house.by_hand(hesitates)
    assert house.observed.faults == []
    assert house.observed.agent[1].heard == LONG


def test_a_piece_of_a_long_turn_that_fails_ends_its_call_with_an_apology() -> None:
    """Half of what the caller said is lost: no answer to the rest would be right."""
    house = House(transcriber=ScriptedTranscriber([ModelFailed("no ears"), "the end"], latency_s=0.6))

    async def long_turn(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("once upon a time", 16.0))
        await line.silent(0.3)
        await line.say(tone("the end", 3.0))
        await line.silent(10)

    house.by_hand(long_turn)
    assert house.observed.agent[-1].heard == PERSONA.apology
    assert [fault.where for fault in house.observed.faults] == ["transcriber"]
    assert house.observed.caller == []


def test_nobody_interrupts_the_apology() -> None:
    house = House(transcriber=hears(ModelFailed("no ears")))

    async def talks_over_it(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("hello", 1.0))
        await line.silent(0.5)
        await line.say(tone("hello hello", 4.0))

    house.by_hand(talks_over_it)
    last = house.observed.agent[-1]
    assert (last.text, last.heard, last.interrupted) == (PERSONA.apology, PERSONA.apology, False)


class ShortLived(EnergyVoiceActivity):
    """Raises after its thirtieth window."""

    windows = 0

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        self.windows += 1
        if self.windows > 30:
            raise ModelFailed("deaf")
        return super().probabilities(streams, windows)


def test_a_call_that_ends_by_a_fault_still_tells_what_was_heard() -> None:
    house = House(voice_activity=ShortLived())
    line = house.by_hand(one_turn)
    (greeting,) = house.observed.agent
    assert greeting.interrupted
    assert greeting.heard
    assert PERSONA.greeting.startswith(greeting.heard)
    assert [fault.detail for fault in house.observed.faults] == ["ModelFailed: deaf"]
    assert [end.outcome for end in house.observed.ended] == ["failed"]
    assert (line.hung_up, house.outcomes[0].completed) == ("apology", False)


class BreaksInClear(HandLine):
    """The connection is lost in the moment of the barge-in."""

    async def clear(self) -> None:
        self.close("connection lost")
        raise LineClosed("connection lost")


def test_a_line_lost_in_the_moment_of_a_barge_in_is_no_fault_of_ours() -> None:
    house = House(transcriber=hears("tell me"), chat=ScriptedChat([LONG]))

    async def barge_in(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("tell me", 1.0))
        await line.silent(2)
        await line.say(tone("stop", 1.0))

    house.by_hand(barge_in, BreaksInClear)
    assert house.outcomes == [CallOutcome(True, "connection lost")]
    assert house.observed.faults == []
    assert house.observed.agent[-1].interrupted
    assert len(house.observed.ended) == 1


def test_a_line_without_any_audio_is_greeted_and_on_record() -> None:
    house = House()

    async def nothing(line: HandLine, service: CallService) -> None:
        await asyncio.sleep(9)

    house.by_hand(nothing)
    assert [turn.text for turn in house.observed.agent] == [PERSONA.greeting]
    assert house.outcomes == [CallOutcome(True, "caller hung up")]


class Congested(HandLine):
    """Takes no audio between two moments."""

    blocked_s = (0.0, 0.0)

    async def send_audio(self, pcm: Pcm) -> None:
        await super().send_audio(pcm)
        begins, ends = self.blocked_s
        if begins <= self.now() < ends:
            await asyncio.sleep(ends - self.now())


def test_a_reply_that_fails_as_it_is_cut_off_does_not_rename_the_ending() -> None:
    """The call coped: the caller wanted no more of it."""
    broken = BreaksOff("one two three four five six, seven eight nine ten eleven twelve thirteen")
    house = House(
        transcriber=hears("one", "two"),
        chat=ScriptedChat([broken, "Fine."], tokens_per_s=5),
        persona=with_limits(call_s=20.0),
    )

    async def cuts_off(line: HandLine, service: CallService) -> None:
        assert isinstance(line, Congested)
        await line.silent(4)
        await line.say(tone("hello", 1.0))
        await line.silent(0.7)
        line.blocked_s = (line.now() + 1.0, line.now() + 3.0)
        await line.silent(1.2)
        await line.say(tone("stop", 1.0))
        await line.silent(20)

    house.by_hand(cuts_off, Congested)
    assert [fault.where for fault in house.observed.faults] == ["reply"]
    assert house.observed.agent[-1].text == PERSONA.goodbye
    assert house.outcomes == [CallOutcome(True, "limit")]


def test_a_call_says_that_it_goes_on_and_one_that_hangs_does_not() -> None:
    house = House(transcriber=hears(*["hello"] * 30))

    class Stuck(HandLine):
        async def send_audio(self, pcm: Pcm) -> None:
            if self.now() - began[0] > 20.0:
                await asyncio.Event().wait()
            await super().send_audio(pcm)

    began: list[float] = []

    async def talks(line: HandLine, service: CallService) -> None:
        began.append(line.now())
        for _ in range(20):
            await line.say(tone("hello", 1.0))
            await line.silent(4)

    house.by_hand(talks, Stuck)
    events = house.observed.events
    said = [event.at_s for event in events if isinstance(event, CallGoesOn)]
    assert said[:2] == pytest.approx([0.0, 10.0], abs=0.5)
    assert said[-1] < 30.0, "what it decides hangs, though the caller's sound still comes"
    assert sum(len(event.pcm) for event in events if isinstance(event, CallerAudio)) > 40 * LINE_RATE_HZ
