"""The SIP bench measures what it says: on made-up arrivals, and with its phones against a real SIP server."""

import asyncio
from array import array
from functools import cached_property

import numpy as np
import pytest

from bench.processes import core_s, cpu_s
from bench.sip import Step, Work, _report, gaps_ms, setup_ms
from bench.sip_load import HOST, Load, Phone, options
from bench.sip_server import LineRateSynthesizer, load_config, talk_without_end
from pipeline.line import AudioReceived, Line, LineClosed, Pcm
from pipeline.service import CallOutcome
from telephony import g711
from telephony.rtp.ports import RtpPorts
from telephony.sip.server import SipServer
from tests.telephony.test_rtp_ports import free_range


def phone(arrived_s: list[float], invited_s: float = 0.0, answered_s: float | None = None) -> Phone:
    made = Phone(0, (), 100, 0, invited_s=invited_s, answered_s=answered_s)
    made.media.close()
    made.arrived_s = array("d", arrived_s)
    return made


def test_gaps_are_those_between_packets_of_the_measured_time() -> None:
    made = phone([0.9, 1.0, 1.02, 1.05, 1.06, 2.0])
    assert gaps_ms(made, 1.0, 2.0) == pytest.approx([20, 30, 10])
    assert not len(gaps_ms(phone([]), 0, 10))


def test_setup_times_are_those_of_answered_calls() -> None:
    phones = [phone([], 10.0, 10.005), phone([], 11.0, None), phone([], 12.0, 12.02)]
    assert setup_ms(phones) == pytest.approx([5, 20])


def step(gaps: list[float], work: Work = "call") -> Step:
    return Step(100, work, np.array(gaps), (1.0, 2.0, 3.0), 0, 0, 0.25, 0.01, 0.3)


def test_the_report_names_the_figures() -> None:
    gaps = [20.0] * 995 + [40.0] * 5
    bare, call, speech = step([20.0], "none"), step(gaps), step([21.0] * 100, "speech")
    setups = [phone([], 1.0, 1.004)] * 20
    figures = _report([bare, call, speech], setups, {"gap_difference_ms": 30.0}).figures
    assert figures["gap_p99_ms"] == 20.0
    assert figures["gap_p999_ms"] == 40.0
    assert figures["gap_p99_ms_dsp"] == 21.0
    assert figures["cpu_share"] == figures["cpu_share_call"] == 0.25
    assert figures["setup_p95_ms"] == pytest.approx(4.0)
    assert (figures["setup_n"], figures["setup_failed"]) == (20, 0)
    assert figures["gap_difference_ms"] == 30.0


def test_parts_that_were_left_out_have_no_figures() -> None:
    assert _report([], [], {}).figures == {}


def test_processor_time_is_that_of_the_process_and_its_core() -> None:
    import os

    (core, *_) = sorted(os.sched_getaffinity(0))
    before, core_before = cpu_s(os.getpid()), core_s(core)
    total = 0
    while cpu_s(os.getpid()) - before < 0.05:
        total += sum(range(10_000))
    assert total and core_s(core) >= core_before > 0


async def test_the_voice_of_the_plain_server_is_at_the_lines_rate() -> None:
    voice = await LineRateSynthesizer().open()
    audio = np.concatenate([chunk async for chunk in voice.speak("We are open.")])
    assert voice.sample_rate_hz == 8_000
    assert len(audio) == round(len("We are open.") * 0.06 * 8_000)
    assert np.abs(audio).max() > 0.05


class Parrot:
    """Answers calls with what it hears, and keeps it."""

    def __init__(self) -> None:
        self.heard: list[Pcm] = []
        self.over: list[str] = []

    async def __call__(self, line: Line) -> CallOutcome:
        try:
            async for event in line.events():
                if isinstance(event, AudioReceived):
                    self.heard.append(event.pcm)
                    await line.send_audio(event.pcm)
        except LineClosed as closed:
            self.over.append(closed.reason)
        return CallOutcome(True, "over")


@pytest.mark.realtime
async def test_the_agent_that_only_talks_is_heard_without_a_break() -> None:
    first = free_range(1)
    ports = RtpPorts(HOST, first, first + 1)

    def hold(port: int) -> Listener:
        load = Load((HOST, port))
        one = Listener(0, (), 1_000, 10)
        load.call(one)
        load.run(2.0)
        load.close()
        return one

    async with SipServer(load_config(0), talk_without_end, ports=ports) as server:
        one = await asyncio.to_thread(hold, server.port)
    audible = [np.abs(g711.decode(audio).astype(int)).max() > 300 for audio in one.sounds]
    assert sum(audible) > 80
    assert all(audible[audible.index(True) :])


class Listener(Phone):
    """Keeps what it hears."""

    @cached_property
    def sounds(self) -> list[bytes]:
        return []

    def take_audio(self, datagram: bytes, arrived_s: float) -> None:
        self.sounds.append(datagram[12:])


@pytest.mark.realtime
async def test_load_phones_hold_real_calls() -> None:
    parrot, first = Parrot(), free_range(4)
    config = load_config(0)
    ports = RtpPorts(HOST, first, first + 7)
    tone = g711.encode((8_000 * np.sin(np.arange(160) * 0.4)).astype(np.int16))

    def hold(port: int) -> list[Phone]:
        assert options((HOST, port), 2.0)
        load = Load((HOST, port))
        phones = [Phone(number, (tone,) * 10, 1_000, 10) for number in range(3)]
        for one in phones:
            load.call(one)
        load.run(2.0)
        load.close()
        return phones

    async with SipServer(config, parrot, ports=ports) as server:
        phones = await asyncio.to_thread(hold, server.port)
        async with asyncio.timeout(5):
            while server.live:  # noqa: ASYNC110  what is awaited is the server's own end of the calls
                await asyncio.sleep(0.01)
    assert {one.over for one in phones} == {"we hung up"}
    assert parrot.over == ["caller hung up"] * 3
    for one in phones:
        assert one.answered_s is not None and 0 < one.answered_s - one.invited_s < 1.0
        assert one.lost == 0
        gaps = gaps_ms(one, one.answered_s, one.answered_s + 2)
        assert 80 < len(gaps) <= 100
        assert np.median(gaps) == pytest.approx(20, abs=2)
    loud = np.concatenate(parrot.heard)
    assert (np.abs(loud) > 4_000).sum() > 3 * 1_600 / 2
    assert ports.in_use == 0
