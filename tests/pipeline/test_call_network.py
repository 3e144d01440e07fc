"""Whole calls over bad networks: stalls, bursts and payloads of any size reach the transcriber whole."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from pipeline.service import CallService
from telephony import g711
from telephony.simulator.virtual_loop import MemorySocket, run_virtual
from telephony.twilio.desk import StreamDesk
from tests.pipeline.hand_line import HandLine, silence
from tests.pipeline.virtual_calls import House, hears, tone
from tests.telephony.twilio_support import CONNECTED, insecure_config, media, start


def speech_in_silence(before_s: float, speech_s: float, after_s: float) -> Pcm:
    return np.concatenate([silence(before_s), tone("hello there", speech_s), silence(after_s)])


def heard_whole(house: House, speech_s: float) -> bool:
    return house.observed.caller == ["hello"] and house.transcriber.durations_s[-1] >= speech_s


@pytest.mark.parametrize("stall_s", [0.5, 1.0, 1.5, 2.0, 3.0, 6.0])
def test_words_said_into_a_stalled_network_are_heard_from_their_first_syllable(stall_s: float) -> None:
    """Nothing comes, then all of it at once; the caller spoke from the stall's beginning on."""
    house = House(transcriber=hears("hello"))
    said_s = min(0.9, stall_s)

    async def stalls(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await asyncio.sleep(stall_s)
        line.burst(speech_in_silence(0, said_s, stall_s - said_s))
        await line.silent(4)

    house.by_hand(stalls)
    assert heard_whole(house, said_s)


def test_a_stall_inside_a_turn_does_not_end_it() -> None:
    house = House(transcriber=hears("hello"))

    async def stalls(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("hello there", 1.0))
        await line.silent(0.2)
        await asyncio.sleep(1.0)
        line.burst(tone("hello there", 1.0))
        await line.silent(4)

    house.by_hand(stalls)
    assert heard_whole(house, 2.2)


@pytest.mark.parametrize("payload_s", [0.5, 1.0, 2.0, 5.0])
def test_payloads_of_any_size_are_heard_whole(payload_s: float) -> None:
    house = House(transcriber=hears("hello"))

    async def speaks(line: HandLine, service: CallService) -> None:
        await line.say(speech_in_silence(4.1, 2.0, 10), round(payload_s * LINE_RATE_HZ))

    house.by_hand(speaks)
    assert heard_whole(house, 2.0)


def as_it_arrives(pcm: Pcm, payload_samples: int) -> Iterator[tuple[float, str]]:
    """Twilio's messages with the moment of their arrival: when their last sample was spoken."""
    for begin in range(0, pcm.size, payload_samples):
        payload = pcm[begin : begin + payload_samples]
        yield (begin + payload.size) / LINE_RATE_HZ, media(begin // 160, g711.encode(payload))


def over_the_wire(house: House, arrivals: Iterator[tuple[float, str]]) -> None:
    """One call through the desk, the protocol and its socket."""

    async def call() -> None:
        loop = asyncio.get_running_loop()
        async with house.open() as answer:
            twilio, ours = MemorySocket.pair()
            desk = StreamDesk(insecure_config(), answer, wall=loop.time)
            place = desk.admit()
            assert place is not None
            serving = asyncio.create_task(desk.serve(ours, place))
            await twilio.send(CONNECTED)
            await twilio.send(start())
            for at_s, message in arrivals:
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                await twilio.send(message)
            await twilio.close()
            await serving

    run_virtual(call())


@pytest.mark.parametrize("payload_bytes", [160, 8_000, 16_000, 40_000])
def test_payloads_of_any_size_reach_the_transcriber_over_the_wire(payload_bytes: int) -> None:
    house = House(transcriber=hears("hello"))
    over_the_wire(house, as_it_arrives(speech_in_silence(6.1, 1.5, 10), payload_bytes))
    assert heard_whole(house, 1.5)
    assert house.observed.agent[-1].heard == "You said: hello"


@pytest.mark.parametrize("stall_s", [1.0, 2.0, 4.0])
def test_a_stalled_network_and_its_burst_reach_the_transcriber_over_the_wire(stall_s: float) -> None:
    house = House(transcriber=hears("hello"))

    def stalled() -> Iterator[tuple[float, str]]:
        for at_s, message in as_it_arrives(speech_in_silence(6.1, 0.8, 10), AUDIO_FRAME_SAMPLES):
            yield (6.0 + stall_s if 6.0 < at_s < 6.0 + stall_s else at_s), message

    over_the_wire(house, stalled())
    assert heard_whole(house, 0.8)
    assert house.outcomes[0].completed
