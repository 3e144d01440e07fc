"""Our WebSocket in uvicorn itself, with a client of another make, over the loopback interface."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from telephony.socket import SocketClosed
from telephony.socket_starlette import StarletteSocket
from telephony.socket_uvicorn import MediaWebSocket

Handler = Callable[[StarletteSocket], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[ClientConnection]:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await handler(StarletteSocket(websocket))

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/", endpoint)]),
        ws=MediaWebSocket,
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as client:
            yield client
    finally:
        server.should_exit = True
        await serving
        listener.close()


def test_messages_of_every_length_arrive_as_they_were_sent_and_in_order() -> None:
    messages: list[str | bytes] = [
        "a", "é" * 62, "x" * 125, "x" * 126, "x" * 127, "é" * 30_000, "x" * 65_535, "x" * 65_536,
        "x" * 70_000, b"", b"\x00\xff" * 100, b"z" * 70_000,
    ]  # fmt: skip
    at_once: list[bool] = []

    async def handler(line: StarletteSocket) -> None:
        for message in messages:
            at_once.append(line.send_now(message))
            if not at_once[-1]:
                await line.send(message)
        await line.close()

    async def main() -> None:
        async with served(handler) as client:
            client.protocol.max_message_size = None
            got = [await client.recv() for _ in messages]
        assert got == messages

    asyncio.run(main())
    assert at_once[:7] == [True] * 7
    assert not any(at_once[i] for i in (7, 8, 11)), "those are uvicorn's"


@pytest.mark.parametrize("size", [10, 3_000, 30_000])
def test_what_arrives_faster_than_it_is_taken_waits_and_none_is_lost(size: int) -> None:
    count = 500
    waiting: list[int] = []
    begin = asyncio.Event()

    async def handler(line: StarletteSocket) -> None:
        await begin.wait()
        below = line._below
        assert below is not None
        waiting.append(below.queue.qsize())
        for number in range(count):
            assert await line.receive() == f"{number} ".ljust(size, "x")
        line.send_now("all")
        with pytest.raises(SocketClosed):
            await line.receive()

    async def main() -> None:
        async with served(handler) as client:

            async def flood() -> None:
                for number in range(count):
                    await client.send(f"{number} ".ljust(size, "x"))

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0.2)
            begin.set()
            assert await client.recv() == "all"
            await flooding

    asyncio.run(main())
    # One read of the socket may bring some 64 KiB of messages, and no other comes after it.
    assert 1 <= waiting[0] <= 16 + 65_536 * 4 // size


def test_nothing_is_sent_at_once_when_the_socket_is_closed_or_the_peer_takes_nothing() -> None:
    refused = asyncio.Event()
    closed: list[bool] = []

    async def handler(line: StarletteSocket) -> None:
        while line.send_now("x" * 60_000):
            pass
        refused.set()
        sending = asyncio.create_task(line.send("last"))
        await sending
        await line.close(1000, "done")
        closed.append(line.send_now("more"))

    async def main() -> None:
        async with served(handler) as client:
            await refused.wait()
            got = []
            with contextlib.suppress(ConnectionClosed):
                while True:
                    got.append(await client.recv())
            assert got[-1] == "last"
            assert client.close_code == 1000
            assert client.close_reason == "done"

    asyncio.run(main())
    assert closed == [False]


def test_text_that_is_not_utf_8_closes_the_connection() -> None:
    ended: list[SocketClosed] = []

    async def handler(line: StarletteSocket) -> None:
        try:
            while True:
                await line.receive()
        except SocketClosed as closed:
            ended.append(closed)

    async def main() -> None:
        async with served(handler) as client:
            await client.send(b"\xff\xfe", text=True)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1007

    asyncio.run(main())
    assert len(ended) == 1
