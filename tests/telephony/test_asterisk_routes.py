"""chan_websocket over real sockets: uvicorn as it is run, and Asterisk's double connecting."""

import asyncio
import logging
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from fastapi.testclient import TestClient
from websockets.typing import Subprotocol

from telephony.asterisk.book import CallBook, Ending
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.joining import ClientSocket
from telephony.asterisk.routes import create_router
from tests.telephony.asterisk_double import MediaChannel
from tests.telephony.test_asterisk_config import SECRET
from tests.telephony.test_asterisk_control import PLAIN_START
from tests.telephony.twilio_support import Echo

NAME = uuid.UUID("40325ec2-5efd-4bd3-805f-53576e581d13")


@asynccontextmanager
async def serving(agent: Any, **settings: Any) -> AsyncIterator[str]:
    """ "127.0.0.1:port" of a server that is run as `maya serve` runs it."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = FastAPI()
    app.include_router(create_router(AsteriskConfig.of(**settings), agent))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=2**21,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0.005)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def connecting(host: str, query: str = "", **options: Any) -> Any:
    return websockets.connect(
        f"ws://{host}/asterisk/media{query}", subprotocols=[Subprotocol("media")], compression=None, **options
    )


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("as_json", "form"), [(False, "ulaw"), (True, "slin"), (True, "alaw")])
async def test_a_whole_call(as_json: bool, form: str) -> None:
    agent = Echo()
    tone = (8000 * np.sin(np.arange(800) / 5)).astype(np.int16)
    async with (
        serving(agent, secret=SECRET) as host,
        connecting(host, f"?caller=%2B15550100&token={SECRET}&uniq=1.2") as connection,
    ):
        assert connection.subprotocol == "media"
        channel = MediaChannel(ClientSocket(connection), as_json=as_json, format=form)
        running = asyncio.create_task(channel.run())
        await channel.say(tone)
        await until(lambda: np.abs(channel.audio).max(initial=0) > 7000)
        for digit in "1234":
            await channel.press(digit)
        await channel.press("#")
        await running
    assert channel.complaints == []
    assert channel.hung_up_by_us
    assert agent.ends == ["we hung up: goodbye"]
    info = agent.lines[0].info
    assert info.caller == "+15550100"
    assert info.parameters["uniq"] == "1.2"
    assert SECRET not in repr(info)


async def test_asterisk_hangs_up() -> None:
    agent = Echo()
    async with serving(agent) as host, connecting(host) as connection:
        channel = MediaChannel(ClientSocket(connection))
        running = asyncio.create_task(channel.run())
        await until(lambda: agent.lines)
        await channel.hang_up()
        await running
        await until(lambda: agent.ends)
    assert agent.ends == ["caller hung up"]


async def test_basic_authentication_as_websocket_client_conf_does_it() -> None:
    agent = Echo()
    async with serving(agent, secret=SECRET) as host:
        async with websockets.connect(f"ws://asterisk:{SECRET}@{host}/asterisk/media") as connection:
            await connection.send(PLAIN_START)
            await until(lambda: agent.lines)
        for query in ("", "?token=wrong"):
            with pytest.raises(websockets.InvalidStatus) as caught:
                await connecting(host, query)
            assert caught.value.response.status_code == 403


async def test_a_megabyte_of_text_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    agent = Echo()
    async with serving(agent) as host, connecting(host) as good, connecting(host) as bad:
        await good.send(PLAIN_START)
        await bad.send("x" * 2**20)
        await bad.send(PLAIN_START)
        await bad.send('{"event":"' + "x" * 2**20)
        for connection in (good, bad):
            await connection.send(b"\xff" * 160)
            assert await connection.recv() == b"\xff" * 160
        # Longer than the server reads at all.
        with pytest.raises(websockets.ConnectionClosed):
            await bad.send("x" * 2**22)
            while True:
                await bad.recv()
        await good.send(b"\xff" * 160)
        await until(lambda: len(agent.ends) == 1)
        assert len(agent.lines) == 2
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# Announcements


def client(book: CallBook | None, host: str = "127.0.0.1", **settings: Any) -> TestClient:
    app = FastAPI()
    app.include_router(create_router(AsteriskConfig.of(**settings), Echo(), book=book))
    return TestClient(app, base_url="http://127.0.0.1", client=(host, 40_000))


def test_a_call_is_announced() -> None:
    book = CallBook(60.0, lambda: 0.0)
    web = client(book, secret=SECRET)
    fields = {"uuid": str(NAME), "caller": "+15550100", "Dept": "sales"}
    assert web.post(f"/asterisk/calls?token={SECRET}&called=199", data=fields).status_code == 200
    assert book.redeem(NAME) == {"caller": "+15550100", "dept": "sales", "called": "199"}


def test_the_secret_may_stand_in_the_form_only_as_a_mistake() -> None:
    book = CallBook(60.0, lambda: 0.0)
    web = client(book, secret=SECRET)
    assert web.post("/asterisk/calls", data={"uuid": str(NAME), "token": SECRET}).status_code == 403
    answer = web.post(f"/asterisk/calls?token={SECRET}", data={"uuid": str(NAME), "token": SECRET})
    assert answer.status_code == 200
    assert book.redeem(NAME) == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"uuid=1", 400),
        (b"\xff\xfe", 400),
        (b"a=1&" * 1000, 400),
        (b"uuid=" + b"x" * 100_000, 413),
    ],
)
def test_what_is_no_announcement(body: bytes, status: int) -> None:
    web = client(CallBook(60.0, lambda: 0.0))
    assert web.post("/asterisk/calls", content=body).status_code == status


def test_strangers_announce_nothing() -> None:
    web = client(CallBook(60.0, lambda: 0.0), host="10.0.0.9")
    assert web.post("/asterisk/calls", data={"uuid": str(NAME)}).status_code == 403


def test_without_audiosocket_there_is_nothing_to_announce() -> None:
    assert client(None).post("/asterisk/calls", data={"uuid": str(NAME)}).status_code == 404


async def test_announced_then_called() -> None:
    """As the dialplan does it, with curl."""
    book = CallBook(60.0, asyncio.get_running_loop().time)
    app = FastAPI()
    app.include_router(create_router(AsteriskConfig(), Echo(), book=book))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
        answer = await web.post("/asterisk/calls", content=f"uuid={NAME}&caller=%2B15550100")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert book.redeem(NAME) == {"caller": "+15550100"}


def test_how_a_call_ended() -> None:
    book = CallBook(60.0, lambda: 0.0)
    book.ended("1795333949.3", Ending.FINE)
    web = client(book, secret=SECRET)
    answers = [web.get(f"/asterisk/ending?token={SECRET}&id={name}").text for name in ("1795333949.3", "1.2")]
    assert answers == ["fine\n", "failed\n"]
    assert web.get("/asterisk/ending?id=1795333949.3").status_code == 403
