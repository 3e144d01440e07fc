"""When it is we who connect: Asterisk's own web server, as a double, with channels that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import numpy as np
import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.typing import Subprotocol

from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import AsteriskConfigError, CannotJoin
from telephony.asterisk.joining import ChannelJoiner, ClientSocket
from tests.telephony.asterisk_double import MediaChannel
from tests.telephony.twilio_support import Echo

WAITING = "32966726-4388-456b-a333-fdf5dbecc60d"
TAKEN = "7d6b8d0c-7e6c-4a2e-9d0b-6d8f7f6f1a11"


class WebServer:
    """`/media/<connection id>`: 404 for an unknown one, 409 for one that is taken, 101 once."""

    def __init__(self) -> None:
        self.channels: list[MediaChannel] = []
        self.taken = {TAKEN}

    async def check(self, connection: ServerConnection, request: Request) -> Response | None:
        name = request.path.removeprefix("/media/")
        if name in self.taken:
            return connection.respond(HTTPStatus.CONFLICT, "taken\n")
        if name != WAITING:
            return connection.respond(HTTPStatus.NOT_FOUND, "not found\n")
        self.taken.add(name)
        return None

    async def talk(self, connection: ServerConnection) -> None:
        assert connection.subprotocol == "media"
        channel = MediaChannel(ClientSocket(connection), as_json=True, connection_id=WAITING)  # type: ignore[arg-type]
        self.channels.append(channel)
        await channel.run()


@asynccontextmanager
async def asterisk() -> AsyncIterator[tuple[WebServer, AsteriskConfig]]:
    double = WebServer()
    async with serve(
        double.talk,
        "127.0.0.1",
        0,
        process_request=double.check,
        subprotocols=[Subprotocol("media")],
        compression=None,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield double, AsteriskConfig(asterisk_url=f"http://127.0.0.1:{port}/")


async def test_a_whole_call() -> None:
    agent = Echo()
    async with asterisk() as (double, config):
        joiner = ChannelJoiner(config, agent)
        joined = asyncio.create_task(joiner.join(WAITING, {"caller": "+15550100"}))
        async with asyncio.timeout(10):
            while not joiner.live:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        (channel,) = double.channels
        await channel.say((8000 * np.sin(np.arange(800) / 5)).astype(np.int16))
        async with asyncio.timeout(10):
            while np.abs(channel.audio).max() < 7000:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await channel.press("#")
        outcome = await joined
        assert outcome is not None and outcome.completed
        assert channel.hung_up_by_us
        assert channel.complaints == []
    assert agent.lines[0].info.caller == "+15550100"
    assert agent.lines[0].info.parameters["connection_id"] == WAITING


@pytest.mark.parametrize(
    ("name", "status", "advice"),
    [
        ("0" * 36, 404, "No channel waits"),
        (TAKEN, 409, "is taken"),
        ("../ari/channels", 0, "is no MEDIA_WEBSOCKET_CONNECTION_ID"),
        ("", 0, "is no MEDIA_WEBSOCKET_CONNECTION_ID"),
    ],
)
async def test_channels_that_cannot_be_joined(name: str, status: int, advice: str) -> None:
    async with asterisk() as (_, config):
        with pytest.raises(CannotJoin, match=advice) as caught:
            await ChannelJoiner(config, Echo()).join(name)
        assert caught.value.status == status


async def test_asterisk_is_not_there() -> None:
    async with asterisk() as (_, config):
        pass
    with pytest.raises(CannotJoin, match=r"http\.conf"):
        await ChannelJoiner(config, Echo()).join(WAITING)


def test_where_asterisk_is_must_be_known() -> None:
    with pytest.raises(AsteriskConfigError, match="asterisk_url"):
        ChannelJoiner(AsteriskConfig(), Echo())
