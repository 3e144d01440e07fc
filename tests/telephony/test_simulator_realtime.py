"""The simulated caller over a real WebSocket against the server's real routes, and through the signed
webhook."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from telephony.simulator.caller import Speech
from telephony.simulator.errors import CannotCall
from telephony.simulator.realtime import simulate
from telephony.simulator.scenario import Scenario
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router
from tests.telephony.parrot import Parrot, tone

TOKEN = "0123456789abcdef0123456789abcdef"
QUICK_LISTEN = {"listen": {"pause_s": 0.4, "timeout_s": 5}}


@asynccontextmanager
async def served(parrot: Parrot, token: str | None) -> AsyncIterator[str]:
    """HOST:PORT of a server of our own routes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        app = FastAPI()
        config = TwilioConfig(f"http://{host}", (token,) if token else (), insecure=token is None)
        app.include_router(create_router(config, parrot))
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", lifespan="off", ws="websockets-sansio", ws_ping_interval=None
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield host
        finally:
            server.should_exit = True
            await serving


def scenario(*steps: Any) -> Scenario:
    return Scenario.model_validate({"steps": list(steps), "network": {"delay_ms": 20, "jitter_ms": 5}})


@pytest.mark.realtime
async def test_a_call_straight_to_the_stream(tmp_path):
    parrot = Parrot(greeting=tone(0.3))
    async with served(parrot, None) as host:
        report = await simulate(
            scenario(
                QUICK_LISTEN, {"say": "one"}, {"interrupt": {"after_s": 0.2, "say": "two"}}, QUICK_LISTEN
            ),
            url=f"ws://{host}/twilio/media",
            speeches={1: Speech.of("one", tone(1.0)), 2: Speech.of("two", tone(0.4))},
            recording_dir=tmp_path,
        )
    assert [turn.caller for turn in report.turns] == ["one", "two"]
    assert report.turns[0].interrupted
    assert all(turn.edge_gap_ms is not None and turn.edge_gap_ms > 750 for turn in report.turns)
    assert report.violations == ()
    assert report.recording is not None
    assert report.recording.parent == tmp_path
    assert parrot.closed == "caller hung up"
    # No drift: every AudioFrame that was spoken arrived, but for those on their way at the end.
    assert 0 <= report.duration_s * 8000 - parrot.received_samples <= 400


@pytest.mark.realtime
async def test_a_signed_call_through_the_webhook_and_what_follows_it():
    parrot = Parrot(greeting=tone(0.2), turns=0)
    async with served(parrot, TOKEN) as host:
        report = await simulate(
            scenario(QUICK_LISTEN, {"say": "one"}, {"wait": 5}),
            url=f"http://{host}",
            auth_token=TOKEN,
            speeches={1: Speech.of("one", tone(0.3))},
        )
    assert report.ending == "agent hung up"
    assert report.after_twiml is not None
    assert "<Hangup" in report.after_twiml
    assert report.violations == ()


@pytest.mark.realtime
async def test_a_signed_call_to_the_stream_takes_the_way_through_the_webhook():
    parrot = Parrot(greeting=tone(0.2))
    async with served(parrot, TOKEN) as host:
        report = await simulate(
            scenario({"keys": "5"}, "drop"), url=f"ws://{host}/twilio/media", auth_token=TOKEN
        )
        for _ in range(100):
            if parrot.closed:
                break
            await asyncio.sleep(0.01)
    assert report.ending == "connection dropped"
    assert parrot.keys == ["5"]
    assert parrot.closed == "connection lost"


async def test_a_wrong_token_is_refused_with_a_hint():
    async with served(Parrot(), TOKEN) as host:
        with pytest.raises(CannotCall, match=r"403.*auth token"):
            await simulate(scenario("hang_up"), url=f"http://{host}", auth_token="another")
        with pytest.raises(CannotCall, match="auth token"):
            await simulate(scenario("hang_up"), url=f"ws://{host}/twilio/media")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:9/twilio/media", "http://127.0.0.1:9"])
async def test_a_server_that_is_not_there(url):
    with pytest.raises(CannotCall, match="is the server running"):
        await simulate(scenario("hang_up"), url=url)


@pytest.mark.parametrize("url", ["ftp://host/x", "127.0.0.1:8080", "ws://"])
async def test_a_url_that_is_none(url):
    with pytest.raises(CannotCall, match="cannot call"):
        await simulate(scenario("hang_up"), url=url)


async def test_the_servers_transcript_is_read_when_it_is_complete(tmp_path):
    """The server finishes writing after the caller has left."""

    class Writing(Parrot):
        async def __call__(self, line):
            folder = tmp_path / line.info.call_id
            folder.mkdir()
            transcript = folder / "transcript.json"
            transcript.write_text('{"turns": [], "outcome": null}')
            outcome = await super().__call__(line)
            await asyncio.sleep(0.2)
            turns = [
                {"turn": 0, "caller": "", "agent": "Hi.", "heard": "Hi.", "times": {}},
                {"turn": 1, "caller": "won", "agent": "Too.", "heard": "T", "times": {"speech_end_s": 0.4}},
            ]
            transcript.write_text(json.dumps({"turns": turns, "outcome": {"outcome": "completed"}}))
            return outcome

    async with served(Writing(), None) as host:
        report = await simulate(
            scenario({"say": "one"}),
            url=f"ws://{host}/twilio/media",
            speeches={0: Speech.of("one", tone(0.2))},
            calls_dir=tmp_path,
        )
    (turn,) = report.turns
    assert (turn.transcript, turn.agent, turn.agent_heard) == ("won", "Too.", "T")
