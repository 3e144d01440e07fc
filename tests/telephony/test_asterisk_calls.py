"""Whole calls over both of Asterisk's protocols, in virtual time: service, turn-taking, playout, line,
protocol and codecs are real; the models are scripted, and Asterisk is the double."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import numpy as np
import pytest

from models.scripted import ScriptedChat
from pipeline.audible import voiced_runs
from telephony.answer import CallOutcome
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.desk import CallDesk
from telephony.simulator.virtual import MemorySocket, run_virtual
from tests.pipeline.virtual_calls import LONG, House, hears, tone
from tests.telephony.asterisk_double import AudioSocketCall, MediaChannel, MemoryPipe

Way = Literal["plain ulaw", "json slin", "json alaw", "audiosocket"]
WAYS: tuple[Way, ...] = ("plain ulaw", "json slin", "json alaw", "audiosocket")
Phone = MediaChannel | AudioSocketCall
Ended = tuple[Phone, CallOutcome | None]


def call(house: House, way: Way, caller: Callable[[Phone], Awaitable[None]]) -> Ended:
    """One call; it ends when `caller` returns, or before."""

    async def play() -> Ended:
        async with house.open() as answer:
            desk = CallDesk(AsteriskConfig(), answer)
            place = desk.admit()
            assert place is not None
            phone: Phone
            if way == "audiosocket":
                ours, theirs = MemoryPipe.pair()
                assert isinstance(ours, MemoryPipe)
                phone = AudioSocketCall(theirs)
                serving = asyncio.create_task(desk.serve_audiosocket(ours, place))
            else:
                control, form = way.split()
                ours, theirs = MemorySocket.pair()
                phone = MediaChannel(theirs, as_json=control == "json", format=form)
                serving = asyncio.create_task(desk.serve_websocket(ours, place, {"caller": "+15550100"}))
            running = asyncio.create_task(phone.run())
            await caller(phone)
            await phone.hang_up()
            async with asyncio.timeout(30):
                await running
                outcome = await serving
            assert (desk.live, desk.pending) == ({}, 0)
            return phone, outcome

    return run_virtual(play())


@pytest.mark.parametrize("way", WAYS)
def test_two_turns(way: Way) -> None:
    house = House(
        transcriber=hears("what time is it", "thank you"),
        chat=ScriptedChat(["It is noon.", "You are welcome."]),
    )

    async def caller(phone: Phone) -> None:
        for words in ("what time is it", "thank you"):
            await phone.until(sounding=True)
            await phone.until(sounding=False)
            await phone.say(tone(words))
        await phone.until(sounding=True)
        await phone.until(sounding=False)

    phone, outcome = call(house, way, caller)
    assert phone.complaints == []
    assert outcome is not None
    assert (outcome.completed, outcome.reason) == (True, "caller hung up")
    assert house.observed.caller == ["what time is it", "thank you"]
    assert [turn.heard for turn in house.observed.agent] == [
        "Hello, how can I help?",
        "It is noon.",
        "You are welcome.",
    ]
    assert not any(turn.interrupted for turn in house.observed.agent)
    assert house.observed.faults == []
    # Greeting and two answers, each without a hole.
    assert len(voiced_runs(phone.audio)) == 3


@pytest.mark.parametrize("way", WAYS)
def test_an_interruption_stops_the_agent_and_keeps_the_heard_words(way: Way) -> None:
    house = House(transcriber=hears("tell me", "stop it"), chat=ScriptedChat([LONG, "All right."]))
    stopped_after: list[float] = []

    async def caller(phone: Phone) -> None:
        await phone.until(sounding=True)
        await phone.until(sounding=False)
        await phone.say(tone("tell me please"))
        await phone.until(sounding=True)
        await asyncio.sleep(1.5)
        began = asyncio.get_running_loop().time()
        speaking = asyncio.create_task(phone.say(tone("stop it now please")))
        await phone.until(sounding=False)
        stopped_after.append(asyncio.get_running_loop().time() - began - 0.3)
        await speaking
        await phone.until(sounding=True)
        await phone.until(sounding=False)

    phone, _ = call(house, way, caller)
    assert phone.complaints == []
    told, answered = house.observed.agent[1:3]
    assert told.interrupted
    assert told.heard
    assert LONG.startswith(told.heard.split("...")[0].strip()[:20])
    assert len(told.heard) < len(LONG)
    assert answered.heard == "All right."
    assert stopped_after[0] < 1.0
    if isinstance(phone, MediaChannel):
        assert "FLUSH_MEDIA" in phone.commands


@pytest.mark.parametrize("way", WAYS)
def test_the_agent_hangs_up_after_its_goodbye(way: Way) -> None:
    house = House()
    house.persona = house.persona.model_copy(
        update={"turns": house.persona.turns.model_copy(update={"still_there_s": 2.0})}
    )

    async def caller(phone: Phone) -> None:
        async with asyncio.timeout(60):
            while not phone.hung_up_by_us:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    phone, outcome = call(house, way, caller)
    assert phone.complaints == []
    assert outcome is not None
    assert outcome.reason == "silence"
    # The goodbye was played to its last sample before the channel was hung up: it ends in silence.
    assert house.observed.agent[-1].heard == "Goodbye."
    assert len(voiced_runs(phone.audio)) == len(house.observed.agent)


@pytest.mark.parametrize("way", WAYS)
def test_a_phone_that_suppresses_silence_is_answered_as_soon(way: Way) -> None:
    gaps: list[float] = []
    for quiet in (False, True):
        house = House(transcriber=hears("what time is it"), chat=ScriptedChat(["It is noon."]))

        async def caller(phone: Phone, quiet: bool = quiet) -> None:
            await phone.until(sounding=True)
            await phone.until(sounding=False)
            phone.quiet = quiet
            await phone.say(tone("what time is it"))
            ended = asyncio.get_running_loop().time()
            await phone.until(sounding=True)
            gaps.append(asyncio.get_running_loop().time() - ended)

        call(house, way, caller)
        assert house.observed.caller == ["what time is it"]
    assert gaps[1] <= gaps[0] + 0.6


def test_the_sound_is_the_one_that_was_made() -> None:
    """The greeting over each way against the samples that went in: nothing lost, repeated or rescaled."""
    heard = {}
    for way in WAYS:

        async def caller(phone: Phone) -> None:
            await phone.until(sounding=True)
            await phone.until(sounding=False)

        phone, _ = call(House(), way, caller)
        (run,) = voiced_runs(phone.audio)
        heard[way] = phone.audio[run.start : run.stop].astype(float)
    exact = heard["json slin"]
    for way, audio in heard.items():
        length = min(len(audio), len(exact))
        assert abs(len(audio) - len(exact)) < 80, way
        noise = np.sqrt(np.mean((audio[:length] - exact[:length]) ** 2)) / np.sqrt(np.mean(exact**2))
        assert noise < 0.03, way


def test_answers_come_as_soon_as_over_twilio() -> None:
    """From the caller's last sample to the agent's first, at the carrier's edge, with the same models."""
    words = "what time is it"
    gaps = {}
    for way in WAYS:
        house = House(transcriber=hears(words), chat=ScriptedChat(["It is noon."]))

        async def caller(phone: Phone, way: str = way) -> None:
            await phone.until(sounding=True)
            await phone.until(sounding=False)
            await phone.say(tone(words))
            ended = asyncio.get_running_loop().time()
            heard = len(phone.heard)
            await phone.until(sounding=True)
            sounding = next(n for n in range(heard, len(phone.heard)) if phone.heard[n].any())
            gaps[way] = 1000 * (phone.heard_at[sounding] - ended)

        call(house, way, caller)
    twilio = House(transcriber=hears(words), chat=ScriptedChat(["It is noon."]))
    network = {"delay_ms": 0, "jitter_ms": 0, "loss": 0}
    report = twilio.play(["listen", {"say": words}, "listen"], network=network)
    for way, gap in gaps.items():
        assert abs(gap - report.edge_gap_ms.max) <= 60, (way, gaps, report.edge_gap_ms)
