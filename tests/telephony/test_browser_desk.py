"""Calls from the page over in-memory sockets in virtual time: how they begin, live and end."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.events import CallStarted, KeyReceived
from pipeline.line import LineInfo, MarkReached
from telephony.browser.desk import BrowserDesk
from telephony.simulator.virtual_loop import MemorySocket, run_virtual
from telephony.socket import SocketClosed
from tests.telephony.browser_support import START, STOP, key, local_config, mark_return, media
from tests.telephony.twilio_support import Echo, Outcome


class Server:
    """A desk whose sockets are in memory, and an agent behind it."""

    def __init__(self, agent: Any = None, *, accepting: bool = True, **changes: Any) -> None:
        self.agent = agent or Echo()
        self.desk = BrowserDesk(local_config(**changes), self.agent, accepting=lambda: accepting)
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> MemorySocket:
        ours, theirs = MemorySocket.pair()
        self.tasks.append(asyncio.create_task(self.desk.serve(ours)))
        return theirs

    async def call(self) -> MemorySocket:
        socket = self.connect()
        await socket.send(START)
        await asyncio.sleep(0.01)
        return socket

    async def done(self) -> None:
        await asyncio.gather(*self.tasks)
        assert self.desk.live == {}
        assert not self.desk.crowded


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs the test in virtual time, from a plain function of the same name."""

    def run() -> None:
        run_virtual(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def to_the_end(socket: MemorySocket) -> tuple[list[str | bytes], SocketClosed]:
    """Everything that the server still sends, and how it closed."""
    messages = []
    while True:
        try:
            messages.append(await socket.receive())
        except SocketClosed as closed:
            return messages, closed


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_whole_call() -> None:
    server = Server()
    socket = await server.call()
    mulaw = b"\x10\x90" * 80
    await socket.send(media(0, mulaw))
    assert await socket.receive() == mulaw
    await socket.send(mark_return(await socket.receive()))
    await socket.send(STOP)
    _, closed = await to_the_end(socket)
    await server.done()
    assert closed.code == 1000
    assert server.agent.marks == [MarkReached("piece", heard=True)]
    assert server.agent.ends == ["caller hung up"]
    (line,) = server.agent.lines
    assert line.info.kind == "browser"
    assert line.info.call_id.startswith("web-")
    assert server.agent.heard == {line.info.call_id: mulaw}


@virtual
async def test_calls_have_names_of_their_own_and_their_own_audio() -> None:
    server = Server()
    first, second = await server.call(), await server.call()
    await first.send(media(0, b"\x10" * 160))
    await second.send(media(0, b"\x20" * 160))
    assert await first.receive() == b"\x10" * 160
    assert await second.receive() == b"\x20" * 160
    for socket in (first, second):
        await socket.send(STOP)
    await server.done()
    assert len({line.info.call_id for line in server.agent.lines}) == 2


@virtual
async def test_a_call_of_zero_seconds() -> None:
    server = Server()
    socket = server.connect()
    await socket.send(START)
    await socket.send(STOP)
    await server.done()
    assert server.agent.ends == ["caller hung up"]


@virtual
async def test_a_page_that_leaves_before_its_call() -> None:
    server = Server()
    socket = server.connect()
    await socket.close(1001)
    await server.done()
    assert server.agent.lines == []


@virtual
async def test_a_page_that_never_starts() -> None:
    server = Server()
    _, closed = await to_the_end(server.connect())
    assert now() == pytest.approx(10.0)
    assert (closed.code, closed.reason) == (1008, "no start within 10 s")
    await server.done()
    assert server.agent.lines == []


@virtual
async def test_an_abrupt_loss() -> None:
    server = Server()
    socket = await server.call()
    await socket.send(media(0))
    socket.abort()
    await server.done()
    assert server.agent.ends == ["connection lost"]


@virtual
async def test_a_closed_tab_is_a_caller_who_hung_up() -> None:
    server = Server()
    socket = await server.call()
    await socket.close(1001)
    await server.done()
    assert server.agent.ends == ["caller hung up"]


@virtual
async def test_ten_seconds_without_media_end_the_call_and_the_page_is_told() -> None:
    server = Server()
    socket = await server.call()
    await socket.send(media(0))
    began = now()
    messages, closed = await to_the_end(socket)
    await server.done()
    assert now() - began == pytest.approx(10.0)
    assert json.loads(messages[-1]) == {"event": "ended", "reason": "no media for 10 s"}
    assert (closed.code, closed.reason) == (1008, "no media for 10 s")


@virtual
async def test_a_protocol_error_ends_its_own_call_only() -> None:
    server = Server()
    good, bad = await server.call(), await server.call()
    await bad.send(START)
    messages, closed = await to_the_end(bad)
    assert json.loads(messages[-1])["reason"] == "protocol error: start in state 'talking'"
    assert closed.code == 1002
    await good.send(media(0))
    assert await good.receive() == b"\xff" * 160
    await good.send(STOP)
    await server.done()


# How we hang up


@pytest.mark.parametrize(("digit", "reason"), [("#", "goodbye"), ("0", "failed")])
def test_the_page_is_told_why_we_hang_up(digit: str, reason: str) -> None:
    class Honest(Echo):
        async def __call__(self, line: Any) -> Outcome:
            outcome = await super().__call__(line)
            return Outcome(line.hung_up != "apology", outcome.reason)

    async def play() -> None:
        server = Server(Honest())
        socket = await server.call()
        await socket.send(key(digit))
        messages, closed = await to_the_end(socket)
        await server.done()
        assert [json.loads(message) for message in messages] == [{"event": "ended", "reason": reason}]
        assert (closed.code, closed.reason) == (1000, reason)

    run_virtual(play())


@virtual
async def test_a_full_house_says_busy() -> None:
    async def agent(line: Any) -> Outcome:
        await line.hang_up("apology")
        return Outcome(False, "busy")

    server = Server(agent)
    messages, _ = await to_the_end(await server.call())
    await server.done()
    assert json.loads(messages[-1]) == {"event": "ended", "reason": "busy"}


@virtual
async def test_a_house_that_takes_no_calls_says_busy() -> None:
    server = Server(accepting=False)
    messages, closed = await to_the_end(await server.call())
    await server.done()
    assert [json.loads(message) for message in messages] == [{"event": "ended", "reason": "busy"}]
    assert closed.code == 1013
    assert server.agent.lines == []


@virtual
async def test_calls_through_the_page_are_capped() -> None:
    server = Server(max_calls=1)
    first = await server.call()
    messages, _ = await to_the_end(await server.call())
    assert json.loads(messages[-1])["reason"] == "busy"
    await first.send(STOP)
    await server.tasks[0]
    third = await server.call()
    await third.send(media(0))
    assert await third.receive() == b"\xff" * 160
    await third.send(STOP)
    await server.done()


@virtual
async def test_sockets_that_wait_for_their_start_are_capped() -> None:
    server = Server(max_pending_sockets=2)
    sockets = [server.connect() for _ in range(2)]
    await asyncio.sleep(0)
    assert server.desk.crowded
    await sockets[0].send(START)
    await asyncio.sleep(0.01)
    assert not server.desk.crowded
    for socket in sockets:
        await socket.send(STOP)
    await server.done()


@virtual
async def test_an_agent_that_breaks_takes_only_its_own_call_down() -> None:
    server = Server()
    good, bad = await server.call(), await server.call()
    await bad.send(key("9"))
    messages, closed = await to_the_end(bad)
    assert json.loads(messages[-1]) == {"event": "ended", "reason": "failed"}
    assert closed.code == 1011
    await good.send(STOP)
    await server.done()


@virtual
async def test_cancelling_the_server_closes_the_socket() -> None:
    server = Server()
    socket = await server.call()
    server.tasks[0].cancel()
    _, closed = await to_the_end(socket)
    assert closed.code == 1011
    with pytest.raises(asyncio.CancelledError):
        await server.tasks[0]
    assert server.desk.live == {}


@virtual
async def test_a_page_that_reads_nothing_does_not_hold_the_call_for_ever() -> None:
    ours, theirs = MemorySocket.pair()

    class Deaf:
        """Takes what comes, and never lets a message out."""

        async def receive(self) -> str | bytes:
            return await ours.receive()

        async def send(self, message: str | bytes) -> None:
            await asyncio.sleep(3600)

        async def close(self, code: int = 1000, reason: str = "") -> None:
            await ours.close(code, reason)

    agent = Echo()
    desk = BrowserDesk(local_config(media_timeout_s=100), agent)
    serving = asyncio.create_task(desk.serve(Deaf()))
    await theirs.send(START)
    await theirs.send(media(0))
    await serving
    assert agent.ends == ["connection lost: the peer takes nothing more"]
    assert now() == pytest.approx(12.0)


# What the page is told


@virtual
async def test_the_calls_events_reach_its_own_page_only() -> None:
    server = Server()
    first, second = await server.call(), await server.call()
    infos = [line.info for line in server.agent.lines]
    observers = [server.desk.observer(info) for info in infos]
    assert observers[0] is not None
    assert observers[1] is not None
    observers[0].observe(CallStarted(0.0, infos[0], "Clinic"))
    observers[1].observe(KeyReceived(0.0, "7"))
    assert json.loads(await first.receive()) == {"event": "ready", "persona": "Clinic"}
    assert json.loads(await second.receive()) == {"event": "key", "digit": "7"}
    for socket in (first, second):
        await socket.send(STOP)
    await server.done()
    assert server.desk.observer(infos[0]) is None


@virtual
async def test_calls_of_other_lines_have_no_page() -> None:
    server = Server()
    assert server.desk.observer(LineInfo("CA1", "twilio")) is None
    assert server.desk.observer(LineInfo("web-unknown", "browser")) is None


@virtual
async def test_what_happened_last_is_told_before_the_end() -> None:
    server = Server()
    socket = await server.call()
    info = server.agent.lines[0].info
    observer = server.desk.observer(info)
    assert observer is not None
    observer.observe(KeyReceived(0.0, "1"))
    await socket.send(key("#"))
    messages, _ = await to_the_end(socket)
    await server.done()
    assert [json.loads(message)["event"] for message in messages] == ["key", "ended"]
