"""AudioSocket over real TCP: calls, strangers, torn and oversized input, closing down."""

import asyncio
import logging
import socket
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from telephony.asterisk.book import CallBook
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import AsteriskConfigError
from telephony.asterisk.server import AudioSocketServer, TcpSocket
from tests.telephony.asterisk_double import AudioSocketCall
from tests.telephony.test_asterisk_audiosocket import AUDIO, UUID, message
from tests.telephony.twilio_support import Echo


@asynccontextmanager
async def serving(agent: Any, **settings: Any) -> AsyncIterator[AudioSocketServer]:
    config = AsteriskConfig.of(audiosocket_port=0, **settings)
    async with AudioSocketServer(config, agent) as server:
        yield server


async def dialled(server: AudioSocketServer, name: uuid.UUID | None = None) -> AudioSocketCall:
    reader, writer = await asyncio.open_connection(*server.address)
    return AudioSocketCall(TcpSocket(reader, writer), name)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def answer_to(server: AudioSocketServer, data: bytes) -> bytes:
    """What a stranger gets who sends `data` and waits."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(data)
    async with asyncio.timeout(10):
        try:
            got = await reader.read()
        except ConnectionError:
            got = b""
    writer.close()
    return got


async def test_a_whole_call() -> None:
    agent = Echo()
    tone = (8000 * np.sin(np.arange(800) / 5)).astype(np.int16)
    async with serving(agent) as server:
        phone = await dialled(server)
        running = asyncio.create_task(phone.run())
        await phone.say(tone)
        for digit in "1234":
            await phone.press(digit)
        await until(lambda: np.abs(phone.audio).max(initial=0) > 7000)
        await phone.press("#")
        await running
        await until(lambda: not server.live)
    assert phone.complaints == []
    assert phone.hung_up_by_us
    assert agent.ends == ["we hung up: goodbye"]
    assert agent.lines[0].info.parameters == {"uuid": str(phone.uuid)}


async def test_calls_at_once() -> None:
    agent = Echo()
    async with serving(agent) as server:
        phones = [await dialled(server, uuid.UUID(int=n)) for n in range(10)]
        running = [asyncio.create_task(phone.run()) for phone in phones]
        await until(lambda: len(server.live) == 10 and all(len(phone.heard) > 5 for phone in phones))
        for phone in phones:
            await phone.hang_up()
        await asyncio.gather(*running)
        await until(lambda: not server.live)
    assert agent.ends == ["caller hung up"] * 10


async def test_bad_company_hurts_no_call(caplog: pytest.LogCaptureFixture) -> None:
    agent = Echo()
    async with serving(agent) as server:
        good = await dialled(server)
        running = asyncio.create_task(good.run())
        await until(lambda: server.live)
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x00\xff" + bytes(300),
            struct.pack(">BH", 0x01, 0),
            struct.pack(">BH", 0x10, 65_535) + bytes(65_535),
        ):
            assert await answer_to(server, data) == b""
        for data in (
            struct.pack(">BH", 0x10, 65_535) + bytes(65_535),
            struct.pack(">BH", 0x10, 0) * 1000,
            message(0x12, bytes(640)),
            UUID,
            bytes(1_000_000),
        ):
            got = await answer_to(server, UUID + data)
            assert set(got) <= {0x00, 0x01, 0x10, 0x40}
        heard = len(good.heard)
        await until(lambda: len(good.heard) > heard + 5)
        assert len(server.live) == 1
        await good.hang_up()
        await running
        await until(lambda: not server.live)
    failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(failures) == 1
    assert "c(slin)" in failures[0]


async def test_one_byte_at_a_time() -> None:
    agent = Echo()
    async with serving(agent) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        for byte in UUID + AUDIO + message(0x03, b"#"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert (await reader.read())[-3:] == b"\x00\x00\x00"
        writer.close()
        await until(lambda: not server.live)
    assert agent.ends == ["we hung up: goodbye"]


async def test_strangers_are_refused_and_the_log_stays_short(caplog: pytest.LogCaptureFixture) -> None:
    agent = Echo()
    async with serving(agent, allowed=("10.0.0.5",), secret="x" * 32) as server:
        for _ in range(5):
            assert await answer_to(server, UUID + AUDIO) == b""
        assert server.refused == 5
    assert agent.lines == []
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "127.0.0.1 is not in `allowed`" in told[0]


async def test_those_who_wait_are_counted_and_sent_away() -> None:
    async with serving(Echo(), max_pending_sockets=1, start_timeout_s=0.3) as server:
        waiting = asyncio.create_task(answer_to(server, b""))
        await asyncio.sleep(0.1)
        assert await answer_to(server, UUID) == b""
        assert server.refused == 1
        assert await waiting == b""
        good = await dialled(server)
        running = asyncio.create_task(good.run())
        await until(lambda: server.live)
        await good.hang_up()
        await running


async def test_leaving_ends_the_calls_and_those_who_wait() -> None:
    agent = Echo()
    async with serving(agent) as server:
        phone = await dialled(server)
        running = asyncio.create_task(phone.run())
        waiting = asyncio.create_task(answer_to(server, b""))
        await until(lambda: server.live)
        await asyncio.sleep(0.05)
    await running
    assert await waiting == b""
    assert phone.hung_up_by_us
    assert agent.ends == ["server shut down"]


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = AsteriskConfig(audiosocket_port=taken.getsockname()[1])
        with pytest.raises(AsteriskConfigError, match="set audiosocket_port"):
            async with AudioSocketServer(config, Echo()):
                pass


def test_announced_only_without_announcements_is_told() -> None:
    config = AsteriskConfig(announced_only=True)
    with pytest.raises(AsteriskConfigError, match="CallBook"):
        AudioSocketServer(config, Echo())
    AudioSocketServer(config, Echo(), book=CallBook(60.0, lambda: 0.0))
