"""The media bench measures what it says: on made-up passages, and against a server of our own routes."""

import asyncio
import socket
from array import array

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

from bench.media import Step, _deviations_ms, _report
from bench.media_load import LoadCaller, Pacer, Passage
from telephony.simulator.caller import Speech
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router
from tests.telephony.parrot import Parrot, tone


def passage(late_ms: dict[int, float], packets: int = 200) -> Passage:
    """Packets on schedule from second 5 on, 200 ms ahead of their playout, but for those in `late_ms`."""
    position = [number * 0.02 for number in range(packets)]
    arrived = [
        5 + max(0.0, place - 0.2) + late_ms.get(number, 0.0) / 1000 for number, place in enumerate(position)
    ]
    return Passage(array("d", arrived), array("d", position))


def test_a_punctual_server_has_no_jitter_whatever_its_lead():
    assert _deviations_ms(passage({}), 0, 100).max() == pytest.approx(0, abs=1e-6)


def test_late_and_early_packets_are_told_by_how_much():
    deviations = _deviations_ms(passage({50: 7.0, 60: -3.0}), 0, 100)
    assert sorted(deviations)[-3:] == pytest.approx([0, 3, 7], abs=1e-6)


def test_only_packets_of_the_measured_time_count():
    late = passage({50: 7.0})
    assert _deviations_ms(late, 0, 5.5).max() == pytest.approx(0, abs=1e-6)
    assert len(_deviations_ms(late, 90, 100)) == 0
    assert len(_deviations_ms(Passage(), 0, 100)) == 0


def step(calls: int, p99_ms: float, starved: int = 0) -> Step:
    """Beyond 50 calls, the server's memory holds what it has no time for."""
    rss_kib = 100_000 + 700 * calls + (50_000 if calls > 50 else 0)
    return Step(calls, 1.0, p99_ms, p99_ms, 1.0, 48.0, starved, 0, 0, 8.0, 0.5, 0.0, rss_kib)


def test_the_figures_are_those_of_the_largest_load_that_kept_time():
    figures = _report([step(20, 5), step(40, 12), step(60, 9, starved=1), step(80, 25)]).figures
    assert figures["calls_per_core"] == 40
    assert figures["added_jitter_p99_ms"] == 12
    assert figures["kib_per_call"] == 700
    assert _report([step(20, 30)]).figures["calls_per_core"] == 0


@pytest.mark.realtime
async def test_load_callers_hold_real_calls():
    parrots = [Parrot(greeting=tone(0.5)) for _ in range(3)]
    waiting = iter(parrots)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        app = FastAPI()
        config = TwilioConfig(f"http://127.0.0.1:{port}", insecure=True)
        app.include_router(create_router(config, lambda line: next(waiting)(line)))
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", lifespan="off", ws="websockets-sansio", ws_ping_interval=None
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        pacer = Pacer()
        line = Speech.of("", tone(0.4)).audio_frames
        for number in range(3):
            caller = LoadCaller(number, line, cycle=1000, offset=20)
            await caller.open(port)
            pacer.callers.append(caller)
        pacing = asyncio.create_task(pacer.run())
        await asyncio.sleep(2.6)
        pacing.cancel()
        for caller in pacer.callers:
            caller.hang_up()
        await asyncio.gather(pacing, return_exceptions=True)
        server.should_exit = True
        await serving
    for caller, parrot in zip(pacer.callers, parrots, strict=True):
        assert caller.twilio.violations == []
        # Greeting, then the caller's own words.
        assert [len(one.arrived_s) for one in caller.passages] == [3, 2]
        assert len(parrot.marks) == 5
        assert all(mark.heard for mark in parrot.marks)
        assert parrot.closed == "caller hung up"
        assert 8000 * 2 < parrot.received_samples <= 8000 * 2.7
    assert np.percentile(np.asarray(pacer.late_s), 50) < 0.02
