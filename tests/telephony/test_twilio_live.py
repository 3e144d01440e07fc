"""Whole streams over real sockets: uvicorn as it is run, called by the websockets client."""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection

from telephony.twilio.routes import create_router
from tests.telephony.twilio_support import (
    AUTH_TOKEN,
    CALL,
    CONNECTED,
    Echo,
    config,
    dtmf,
    insecure_config,
    mark_echo,
    media,
    signature,
    start,
    stop,
)


@asynccontextmanager
async def serving(agent: Any, *, insecure: bool = False, **options: Any) -> AsyncIterator[str]:
    """ "127.0.0.1:port" of a server that is run as `maya serve` runs it."""
    listener = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    make = insecure_config if insecure else config
    app = FastAPI()
    app.include_router(create_router(make(public_url=f"http://{host}", **options), agent))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=2**21,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=2,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0.005)
    try:
        yield host
    finally:
        server.should_exit = True
        await running


async def until(agent: Echo, ends: int) -> None:
    async with asyncio.timeout(10):
        while len(agent.ends) < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def event_of(connection: ClientConnection) -> str:
    return str(json.loads(await connection.recv())["event"])


async def test_a_whole_call_from_the_webhook_to_the_goodbye() -> None:
    agent = Echo()
    async with serving(agent) as host, httpx.AsyncClient(base_url=f"http://{host}") as web:

        async def post(path: str) -> str:
            fields = {"CallSid": CALL, "From": "+15550100"}
            signed = signature(f"http://{host}{path}", fields, AUTH_TOKEN)
            response = await web.post(path, data=fields, headers={"X-Twilio-Signature": signed})
            assert response.status_code == 200
            return response.text

        twiml = await post("/twilio/voice")
        parameters = dict(re.findall(r'<Parameter name="(\w+)" value="([^"]+)" />', twiml))
        url = f"ws://{host}/twilio/media"
        assert f'url="{url}"' in twiml
        signed = {"X-Twilio-Signature": signature(url)}
        async with websockets.connect(url, additional_headers=signed, compression=None) as twilio:
            await twilio.send(CONNECTED)
            await twilio.send(start(**parameters))
            for n in range(25):
                await twilio.send(media(n, bytes([0x80 + n]) * 160))
                assert await event_of(twilio) == "media"
                await twilio.send(mark_echo(await twilio.recv()))
            await twilio.send(dtmf("#"))
            with pytest.raises(websockets.ConnectionClosedOK) as caught:
                await twilio.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, "goodbye")
        assert "<Hangup" in await post("/twilio/after")
        assert agent.heard[CALL] == b"".join(bytes([0x80 + n]) * 160 for n in range(25))
        assert [mark.heard for mark in agent.marks] == [True] * 25
        assert agent.lines[0].info.caller == "+15550100"
        # The token is used up.
        async with websockets.connect(url, additional_headers=signed) as twilio:
            await twilio.send(start(**parameters))
            with pytest.raises(websockets.ConnectionClosedError, match="token refused"):
                await twilio.recv()


async def test_a_handshake_without_signature_gets_403() -> None:
    async with serving(Echo()) as host:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(f"ws://{host}/twilio/media")
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("end", "reason"),
    [("stop", "caller hung up"), ("close", "caller hung up"), ("abort", "connection lost")],
)
async def test_ways_to_leave(end: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    agent = Echo()
    async with serving(agent, insecure=True) as host:
        twilio = await websockets.connect(f"ws://{host}/twilio/media")
        await twilio.send(start())
        await twilio.send(media(0))
        await twilio.recv()
        if end == "stop":
            await twilio.send(stop())
            await twilio.wait_closed()
        elif end == "close":
            await twilio.close()
        else:
            twilio.transport.abort()
        await until(agent, 1)
        assert agent.ends == [reason]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_bad_company_on_the_wire_hurts_no_call(caplog: pytest.LogCaptureFixture) -> None:
    agent = Echo()
    async with serving(agent, insecure=True) as host:
        url = f"ws://{host}/twilio/media"
        async with websockets.connect(url) as good:
            await good.send(start("CAgood"))

            async def alive(n: int) -> None:
                await good.send(media(n))
                assert await event_of(good) == "media"
                await good.recv()

            async def bad(*messages: str | bytes) -> websockets.ConnectionClosed:
                async with websockets.connect(url) as other:
                    with pytest.raises(websockets.ConnectionClosed) as caught:
                        for message in messages:
                            await other.send(message)
                        while True:
                            await other.recv()
                    return caught.value

            await alive(0)
            assert "state 'expect connected'" in str(await bad(media(0)))
            assert "start in state 'streaming'" in str(await bad(start("CA1"), start("CA1")))
            assert "has a stream already" in str(await bad(start("CAgood")))
            assert "mediaFormat" in str(await bad(start("CA2").replace("8000", "16000")))
            await alive(1)
            flood = str(await bad(start("CA3"), *[media(n, b"\xff") for n in range(3000)]))
            assert "more than 200 messages per second" in flood or "malformed" in flood
            await alive(2)
            # Longer than the server reads at all, and longer than the protocol takes.
            assert "1009" in str(await bad(start("CA4"), "x" * 2**22))
            async with websockets.connect(url) as odd:
                for message in (start("CA5"), b"\x00\xff", "{", "x" * 2**20, media(0, b"\xff" * 159)):
                    await odd.send(message)
                assert await event_of(odd) == "media"
                assert len(json.loads(await odd.recv())["mark"]["name"])
                await odd.send(dtmf("9"))
                with pytest.raises(websockets.ConnectionClosedError, match="internal error"):
                    await odd.recv()
            await alive(3)
    failures = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in failures] == ["call CA5 failed"]


async def test_silence_on_the_wire_ends_by_timeout() -> None:
    agent = Echo()
    async with serving(agent, insecure=True, start_timeout_s=0.2, media_timeout_s=0.3) as host:
        url = f"ws://{host}/twilio/media"
        async with websockets.connect(url) as mute:
            with pytest.raises(websockets.ConnectionClosedError, match=r"no start within 0\.2 s"):
                await mute.recv()
        async with websockets.connect(url) as mute:
            await mute.send(start())
            with pytest.raises(websockets.ConnectionClosedError, match=r"no media for 0\.3 s"):
                await mute.recv()
        await until(agent, 1)
        assert agent.ends == [r"no media for 0.3 s"]


async def test_the_server_stops_under_a_live_call() -> None:
    agent = Echo()
    async with serving(agent, insecure=True) as host:
        twilio = await websockets.connect(f"ws://{host}/twilio/media")
        await twilio.send(start())
        await twilio.send(media(0))
        await twilio.recv()
    assert agent.ends == ["server shut down"]
