"""Calls that we make, from the moment of answering: whole ones, in virtual time."""

import asyncio

import numpy as np
import pytest

from models.base import ModelFailed
from models.scripted import ScriptedTranscriber
from pipeline.events import AgentTurn, CallerAudio
from pipeline.line import LINE_RATE_HZ, KeyPressed, LineClosed, Pcm, SendsKeys, TransfersCalls
from pipeline.screening import Screening
from pipeline.service import CallOutcome, CallService
from telephony.simulator.virtual_loop import run_virtual
from tests.pipeline.hand_line import HandLine, silence
from tests.pipeline.test_answering import beep
from tests.pipeline.virtual_calls import PERSONA, House, tone

MESSAGE = PERSONA.model_copy(update={"goodbye": "This is an automated message. Please call us back."})


def hears(*texts: str | Exception) -> House:
    return House(transcriber=ScriptedTranscriber(texts, latency_s=0.2))


def screened(house: House, *sounds: Pcm) -> tuple[HandLine, Screening, CallOutcome | None]:
    """What the far end gives, then silence for as long as anybody listens. A machine gets a message."""

    async def call() -> tuple[HandLine, Screening, CallOutcome | None]:
        async with house.service() as service, asyncio.timeout(120):
            line = HandLine()
            far_end = asyncio.create_task(speak(line, *sounds))
            try:
                return await hold(line, service)
            finally:
                far_end.cancel()

    async def hold(line: HandLine, service: CallService) -> tuple[HandLine, Screening, CallOutcome | None]:
        screening = service.screen(line)
        verdict = await screening.listen()
        if verdict.answerer == "machine":
            await screening.listened_to_the_end()
            outcome = await service.answer(screening.line, MESSAGE, only_goodbye=True)
            return line, screening, outcome
        answering = asyncio.create_task(service.answer(screening.line))
        await asyncio.sleep(4.0)
        line.close()
        return line, screening, await answering

    return run_virtual(call())


async def speak(line: HandLine, *sounds: Pcm) -> None:
    for sound in sounds:
        await line.say(sound)
    while True:
        await line.silent(0.2)


def test_somebody_gets_the_greeting_and_the_record_has_their_hello() -> None:
    house = hears("Hello?")
    _, screening, outcome = screened(house, silence(0.5), tone("hello", 0.5), silence(0.1))
    assert screening.verdict is not None
    assert screening.verdict.answerer == "somebody"
    assert outcome == CallOutcome(True, "caller hung up")
    first = next(event for event in house.observed.events if isinstance(event, CallerAudio))
    assert first.start_sample == 0
    assert len(first.pcm) >= screening.verdict.at_sample
    assert np.abs(first.pcm[:LINE_RATE_HZ].astype(int)).max() > 1000
    # Their hello is not answered as if it were a question.
    assert house.observed.caller == []
    assert [turn.text for turn in house.observed.agent] == [PERSONA.greeting]


def test_the_agent_speaks_soon_after_a_hello() -> None:
    house = hears("Hello?")
    _, screening, _ = screened(house, silence(0.5), tone("hello", 0.5))
    assert screening.verdict is not None
    greeting = next(event for event in house.observed.events if isinstance(event, AgentTurn))
    first_s = greeting.times.first_played_s
    assert first_s is not None
    assert first_s - 1.0 < 1.0  # seconds from the end of their hello


def test_a_machine_gets_a_message_behind_its_beep_and_nothing_else() -> None:
    house = hears("Hi, you've reached Anna.", "leave a message")
    greeting = tone("a long greeting", 4.0)
    line, screening, outcome = screened(house, silence(0.3), greeting, silence(0.6), beep(1000, 0.5))
    assert screening.verdict is not None
    assert screening.verdict.answerer == "machine"
    assert outcome == CallOutcome(True, "goodbye")
    assert line.hung_up == "goodbye"
    assert [turn.text for turn in house.observed.agent] == [MESSAGE.goodbye]
    (said,) = house.observed.agent
    assert said.heard == MESSAGE.goodbye
    assert said.times.first_played_s is not None
    assert said.times.first_played_s >= 5.4  # where the beep has ended


def test_the_far_end_hangs_up_while_we_listen() -> None:
    async def call() -> None:
        async with hears("Hello?").service() as service:
            line = HandLine()
            screening = service.screen(line)
            listening = asyncio.create_task(screening.listen())
            await line.silent(0.5)
            line.close()
            with pytest.raises(LineClosed, match="caller hung up"):
                await listening

    run_virtual(call())


def test_a_transcriber_that_fails_costs_a_second() -> None:
    _, screening, outcome = screened(hears(ModelFailed("no ears")), silence(0.5), tone("hello", 0.5))
    assert screening.verdict is not None
    assert screening.verdict.answerer == "somebody"
    assert outcome is not None
    assert outcome.completed


def test_keys_during_the_greeting_do_no_harm() -> None:
    async def call() -> None:
        async with hears("Hello?").service() as service:
            line = HandLine()
            screening = service.screen(line)
            listening = asyncio.create_task(screening.listen())
            line._arrived.put_nowait(KeyPressed("1"))
            await line.say(np.concatenate([tone("hello", 0.5), silence(1.5)]))
            assert (await listening).answerer == "somebody"

    run_virtual(call())


def test_a_screened_line_can_do_what_the_line_could() -> None:
    class Capable(HandLine):
        async def transfer(self, target: str) -> None: ...

    async def call() -> None:
        async with hears("Hello?").service() as service:
            line = service.screen(Capable()).line
            assert isinstance(line, TransfersCalls)
            assert not isinstance(line, SendsKeys)
            assert line.lead_s == HandLine.lead_s

    run_virtual(call())
