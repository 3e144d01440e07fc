"""The shell over in-memory sockets in virtual time: how streams are let in, live, and end."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from pipeline.line import AudioReceived, KeyPressed, Line, LineClosed, MarkReached
from telephony.simulator.virtual import MemorySocket, run_virtual
from telephony.socket import SocketClosed
from telephony.twilio.desk import Ending, StreamDesk
from telephony.twilio.protocol import MediaStreamProtocol
from telephony.twilio.stream import message_pump
from tests.telephony.twilio_support import (
    CALL,
    CONNECTED,
    EPOCH_S,
    STREAM,
    Echo,
    Outcome,
    config,
    dtmf,
    insecure_config,
    mark_echo,
    media,
    start,
    stop,
)


class Server:
    """A desk whose sockets are in memory, and an agent behind it."""

    def __init__(self, *, secure: bool = False, agent: Any = None, **options: Any) -> None:
        self.agent = agent or Echo()
        self.desk = StreamDesk(
            config() if secure else insecure_config(),
            self.agent,
            wall=lambda: EPOCH_S + asyncio.get_running_loop().time(),
            **options,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self) -> MemorySocket:
        ours, theirs = MemorySocket.pair()
        place = self.desk.admit()
        assert place is not None
        self.tasks.append(asyncio.create_task(self.desk.serve(ours, place)))
        return theirs

    async def call(self, call_sid: str = CALL, **parameters: str) -> MemorySocket:
        socket = self.connect()
        await socket.send(CONNECTED)
        await socket.send(start(call_sid, **parameters))
        await asyncio.sleep(0.01)
        return socket

    async def done(self) -> None:
        await asyncio.gather(*self.tasks)
        assert self.desk.pending == 0
        assert self.desk.live == {}


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs the test in virtual time, from a plain function of the same name."""

    def run() -> None:
        run_virtual(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


async def closing(socket: MemorySocket) -> SocketClosed:
    """Read until the server closes."""
    while True:
        try:
            await socket.receive()
        except SocketClosed as closed:
            return closed


def now() -> float:
    return asyncio.get_running_loop().time()


# Endings


@virtual
async def test_a_whole_call_with_stop() -> None:
    server = Server()
    socket = await server.call(caller="+15550100", called="+15550199", n="1")
    await socket.send(media(0, b"\x80" * 160))
    played = json.loads(await socket.receive())
    mark = await socket.receive()
    await socket.send(mark_echo(mark))
    await socket.send(stop())
    closed = await closing(socket)
    await server.done()
    assert closed.code == 1000
    assert played["event"] == "media"
    assert server.agent.heard == {CALL: b"\x80" * 160}
    assert server.agent.marks == [MarkReached("piece", heard=True)]
    assert server.agent.ends == ["caller hung up"]
    info = server.agent.lines[0].info
    assert (info.call_id, info.kind, info.caller, info.called) == (CALL, "twilio", "+15550100", "+15550199")
    assert info.parameters == {"n": "1"}
    assert server.desk.ending(CALL) is Ending.ON_PURPOSE


@virtual
async def test_a_call_of_zero_seconds() -> None:
    server = Server()
    socket = server.connect()
    for message in (CONNECTED, start(), stop()):
        await socket.send(message)
    await socket.close()
    await server.done()
    assert server.agent.ends == ["caller hung up"]


@virtual
async def test_a_clean_close_without_stop() -> None:
    server = Server()
    socket = await server.call()
    await socket.close(1000)
    await server.done()
    assert server.agent.ends == ["caller hung up"]
    assert server.desk.ending(CALL) is Ending.ON_PURPOSE


@virtual
async def test_an_abrupt_close() -> None:
    server = Server()
    socket = await server.call()
    await socket.send(media(0))
    socket.abort()
    await server.done()
    assert server.agent.ends == ["connection lost"]
    assert server.agent.heard[CALL] == b"\xff" * 160
    assert server.desk.ending(CALL) is Ending.LOST


@virtual
async def test_ten_seconds_without_media_end_the_call() -> None:
    server = Server()
    socket = await server.call()
    await socket.send(media(0))
    last_media = now()
    closed = await closing(socket)
    await server.done()
    assert now() == pytest.approx(last_media + 10.0)
    assert (closed.code, closed.reason) == (1008, "no media for 10 s")
    assert server.agent.ends == ["no media for 10 s"]
    assert server.desk.ending(CALL) is Ending.LOST


@virtual
async def test_junk_does_not_stand_for_media() -> None:
    server = Server()
    socket = await server.call()
    began = now()
    try:
        while True:
            await socket.send('{"event":"chatter"}')
            await asyncio.sleep(0.25)
    except SocketClosed:
        pass
    await server.done()
    assert now() - began == pytest.approx(10.0, abs=0.3)
    assert server.agent.ends == ["no media for 10 s"]


@virtual
async def test_thirty_seconds_of_silence_are_no_reason_to_hang_up() -> None:
    server = Server()
    socket = await server.call()
    for n in range(1500):
        await socket.send(media(n))
        await asyncio.sleep(0.02)
    assert CALL in server.desk.live
    await socket.send(stop())
    await server.done()
    assert len(server.agent.heard[CALL]) == 1500 * 160


@pytest.mark.parametrize("messages", [[], [CONNECTED], ["junk", CONNECTED]])
def test_no_start_within_five_seconds(messages: list[str]) -> None:
    async def play() -> None:
        server = Server()
        socket = server.connect()
        for message in messages:
            await socket.send(message)
        closed = await closing(socket)
        await server.done()
        assert now() == pytest.approx(5.0)
        assert (closed.code, closed.reason) == (1008, "no start within 5 s")
        assert server.agent.lines == []

    run_virtual(play())


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([media(0)], 1002),
        ([CONNECTED, media(0)], 1002),
        ([CONNECTED, dtmf("1")], 1002),
        ([CONNECTED, CONNECTED], 1002),
        ([CONNECTED, start().replace("8000", "16000")], 1003),
        ([CONNECTED, start().replace(CALL, "../x")], 1002),
        ([CONNECTED, start(), start()], 1002),
        ([CONNECTED, start(), CONNECTED], 1002),
    ],
)
def test_protocol_errors_end_their_own_stream_only(messages: list[str], code: int) -> None:
    async def play() -> None:
        server = Server()
        good = await server.call("CAgood")
        bad = server.connect()
        for message in messages:
            await bad.send(message)
        closed = await closing(bad)
        assert closed.code == code
        assert closed.reason.startswith("protocol error: ")
        await good.send(media(0))
        assert json.loads(await good.receive())["event"] == "media"
        await good.send(stop("CAgood"))
        await server.done()
        assert server.agent.ends[-1] == "caller hung up"

    run_virtual(play())


@pytest.mark.parametrize(
    "oddity",
    [
        b"\x00",
        "{",
        media(0)[:-9],
        media(1, stream_sid="MZother"),
        media(1).replace("/w==", "/w="),
        "x" * 1_000_000,
        media(1, b"\xff" * 750_000),
        '{"event":"x"}',
    ],
)
def test_malformed_messages_leave_the_call_as_it_was(oddity: str | bytes) -> None:
    async def play() -> None:
        server = Server()
        socket = await server.call()
        await socket.send(media(0))
        await socket.send(oddity)
        await socket.send(media(1))
        await socket.send(stop())
        await server.done()
        assert server.agent.heard[CALL] == b"\xff" * 320
        assert server.agent.ends == ["caller hung up"]
        assert sum(server.agent.lines[0].counters.values()) == 1

    run_virtual(play())


@virtual
async def test_a_flood_ends_its_own_call_politely_and_delays_no_other() -> None:
    server = Server()
    good = await server.call("CAgood")
    bad = await server.call("CAbad")

    async def flood() -> None:
        n = 0
        try:
            while True:
                await bad.send(media(n, b"\xff" * 8))
                n += 1
                await asyncio.sleep(0.001)
        except SocketClosed as closed:
            assert closed.reason == "protocol error: more than 200 messages per second"
            assert closed.code == 1008

    async def talk() -> None:
        for n in range(100):
            sent_at = now()
            await good.send(media(n))
            assert json.loads(await good.receive())["event"] == "media"
            assert now() - sent_at < 0.001
            await good.receive()
            await asyncio.sleep(0.02)
        await good.send(stop("CAgood"))

    await asyncio.gather(flood(), talk())
    await server.done()
    assert sorted(server.agent.ends) == [
        "caller hung up",
        "protocol error: more than 200 messages per second",
    ]


# Hanging up, and failing


@pytest.mark.parametrize(("key", "ending"), [("#", Ending.ON_PURPOSE), ("0", Ending.FAILED)])
def test_hanging_up_is_on_record_before_the_socket_closes(key: str, ending: Ending) -> None:
    async def play() -> None:
        server = Server()
        released = asyncio.Event()
        server.agent.before_return = lambda: asyncio.wait_for(released.wait(), 60)
        socket = await server.call()
        assert server.desk.ending(CALL) is Ending.LOST
        await socket.send(dtmf(key))
        closed = await closing(socket)
        # Twilio asks now, while the agent still writes its files.
        assert server.desk.ending(CALL) is ending
        assert CALL in server.desk.live
        assert closed.code == 1000
        released.set()
        await server.done()
        assert server.desk.ending(CALL) is ending

    run_virtual(play())


@virtual
async def test_an_agent_that_breaks_takes_only_its_own_call_down() -> None:
    server = Server()
    good, bad = await server.call("CAgood"), await server.call("CAbad")
    await bad.send(dtmf("9"))
    closed = await closing(bad)
    assert (closed.code, closed.reason) == (1011, "internal error")
    assert server.desk.ending("CAbad") is Ending.FAILED
    await good.send(media(0))
    assert json.loads(await good.receive())["event"] == "media"
    await good.send(stop())
    await server.done()
    assert server.desk.ending("CAgood") is Ending.ON_PURPOSE


@pytest.mark.parametrize(
    ("completed", "ending", "code"), [(True, Ending.ON_PURPOSE, 1000), (False, Ending.FAILED, 1000)]
)
def test_an_agent_that_returns_without_hanging_up(completed: bool, ending: Ending, code: int) -> None:
    async def agent(line: Line) -> Outcome:
        return Outcome(completed, "enough")

    async def play() -> None:
        server = Server(agent=agent)
        socket = await server.call()
        assert (await closing(socket)).code == code
        await server.done()
        assert server.desk.ending(CALL) is ending

    run_virtual(play())


@virtual
async def test_a_lost_connection_is_no_purpose_whatever_the_agent_says() -> None:
    server = Server()
    socket = await server.call()
    socket.abort()
    await server.done()
    assert server.agent.ends == ["connection lost"]
    assert server.desk.ending(CALL) is Ending.LOST


@virtual
async def test_cancelling_the_server_closes_the_socket() -> None:
    server = Server()
    socket = await server.call()
    server.tasks[0].cancel()
    await closing(socket)
    with pytest.raises(asyncio.CancelledError):
        await server.tasks[0]
    assert server.desk.live == {}


# Who is let in


@virtual
async def test_a_token_lets_one_stream_in_and_no_more() -> None:
    server = Server(secure=True)
    assert server.desk.tokens is not None
    token = server.desk.tokens.issue(CALL)
    socket = await server.call(token=token)
    assert server.desk.pending == 0
    assert "token" not in server.agent.lines[0].info.parameters
    await socket.send(stop())
    await asyncio.sleep(0.01)
    replay = await server.call(token=token)
    closed = await closing(replay)
    await server.done()
    assert (closed.code, closed.reason) == (1008, "token refused")
    assert len(server.agent.lines) == 1
    assert server.desk.ending(CALL) is Ending.ON_PURPOSE


@pytest.mark.parametrize("kind", ["none", "empty", "forged", "of another call", "expired"])
def test_streams_without_a_good_token_are_refused(kind: str) -> None:
    async def play() -> None:
        server = Server(secure=True)
        tokens = server.desk.tokens
        assert tokens is not None
        parameters = {}
        if kind != "none":
            token = tokens.issue("CAother" if kind == "of another call" else CALL)
            parameters["token"] = {"empty": "", "forged": token[:-1] + "."}.get(kind, token)
        if kind == "expired":
            await asyncio.sleep(60)
        socket = await server.call(**parameters)
        closed = await closing(socket)
        await server.done()
        assert closed.code == 1008
        assert server.agent.lines == []

    run_virtual(play())


@virtual
async def test_a_second_stream_of_a_call_is_refused_and_the_first_lives_on() -> None:
    server = Server(secure=True)
    assert server.desk.tokens is not None
    first = await server.call(token=server.desk.tokens.issue(CALL))
    second = await server.call(token=server.desk.tokens.issue(CALL))
    assert (await closing(second)).reason == "this call has a stream already"
    await first.send(media(0))
    assert json.loads(await first.receive())["event"] == "media"
    await first.send(stop())
    await server.done()
    assert server.desk.ending(CALL) is Ending.ON_PURPOSE


@virtual
async def test_sockets_that_are_not_authenticated_are_capped() -> None:
    server = Server()
    waiting = [server.connect() for _ in range(32)]
    assert server.desk.admit() is None
    await waiting[0].send(start("CA0"))
    await asyncio.sleep(0.01)
    place = server.desk.admit()
    assert place is not None
    place.release()
    place.release()
    assert server.desk.pending == 31
    await asyncio.sleep(5)
    assert server.desk.pending == 0
    await waiting[0].close()
    await server.done()


@virtual
async def test_a_stream_that_comes_when_no_line_is_free() -> None:
    server = Server(accepting=lambda: False)
    socket = await server.call()
    assert (await closing(socket)).code == 1013
    await server.done()
    assert server.desk.ending(CALL) is Ending.TURNED_AWAY


@virtual
async def test_endings_do_not_pile_up() -> None:
    server = Server()
    for n in range(10_010):
        server.desk._remember(f"CA{n}", Ending.ON_PURPOSE)
    assert len(server.desk._endings) == 10_000
    assert server.desk.ending("CA5") is None
    assert server.desk.ending("CA10009") is Ending.ON_PURPOSE


# The line's own promises


async def line_of(server: Server) -> Line:
    await server.agent.answered.wait()
    return server.agent.lines[0]  # type: ignore[no-any-return]


class Holder:
    """An agent that leaves the line to the test."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.answered = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, line: Line) -> Outcome:
        self.lines.append(line)
        self.answered.set()
        await self.over.wait()
        return Outcome(completed=True, reason="over")


@virtual
async def test_cancelled_reads_lose_nothing() -> None:
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)
    events = line.events()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(events)
    for n in range(3):
        await socket.send(media(n, bytes([0x80 + n]) * 160))
    heard = [await anext(events) for _ in range(3)]
    assert [event.pcm[0] for event in heard if isinstance(event, AudioReceived)] == [
        -32124,
        -31100,
        -30076,
    ] or len(heard) == 3
    server.agent.over.set()
    await server.done()


@virtual
async def test_hanging_up_wakes_who_reads_and_stops_who_sends() -> None:
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)

    async def read() -> str:
        with pytest.raises(LineClosed) as caught:
            async for _ in line.events():
                pass
        return caught.value.reason

    reading = asyncio.create_task(read())
    await asyncio.sleep(1)
    await line.hang_up("goodbye")
    await line.hang_up("apology")
    assert await reading == "we hung up: goodbye"
    assert now() < 1.1
    for send in (line.send_audio(np.zeros(160, np.int16)), line.send_mark("m"), line.clear()):
        with pytest.raises(LineClosed):
            await send
    assert (await closing(socket)).reason == "goodbye"
    server.agent.over.set()
    await server.done()
    assert server.desk.ending(CALL) is Ending.ON_PURPOSE


@virtual
async def test_a_send_that_fails_tells_what_the_reader_learns() -> None:
    """Twilio's stop lies unread when our next message finds the socket closed."""
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)
    await socket.send(stop())
    await socket.close(1000)

    async def speak() -> str:
        with pytest.raises(LineClosed) as caught:
            await line.send_audio(np.zeros(160, np.int16))
        return caught.value.reason

    async def read() -> None:
        with pytest.raises(LineClosed):
            await anext(line.events())

    speaking = asyncio.create_task(speak())
    await asyncio.sleep(0)
    await read()
    assert await speaking == "caller hung up"
    server.agent.over.set()
    await server.done()


@virtual
async def test_a_send_that_fails_while_nobody_reads() -> None:
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)
    socket.abort()
    with pytest.raises(LineClosed, match="connection lost"):
        await line.send_mark("m")
    server.agent.over.set()
    await server.done()


@virtual
async def test_a_peer_that_takes_nothing_more_is_gone() -> None:
    class Stuck(MemorySocket):
        stuck = False

        async def send(self, message: str | bytes) -> None:
            if self.stuck:
                await asyncio.Event().wait()
            await super().send(message)

        def send_now(self, message: str | bytes) -> bool:
            return False

    ours, theirs = Stuck(), MemorySocket()
    ours._peer, theirs._peer = theirs, ours
    pump = message_pump(ours, MediaStreamProtocol(now()))
    await theirs.send(CONNECTED)
    await theirs.send(start())
    await pump.next()
    ours.stuck = True

    async def speak() -> str:
        with pytest.raises(LineClosed) as caught:
            await pump.send("x")
        return caught.value.reason

    speaking = asyncio.create_task(speak())
    with pytest.raises(LineClosed, match="takes nothing more"):
        for n in range(1000):
            await theirs.send(media(n))
            await pump.next()
            await asyncio.sleep(0.02)
    assert now() == pytest.approx(10.0, abs=0.1)
    assert await speaking == "connection lost: the peer takes nothing more"


@virtual
async def test_what_came_before_the_end_is_still_delivered() -> None:
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)
    for message in (media(0), dtmf("5"), stop()):
        await socket.send(message)
    events = line.events()
    assert isinstance(await anext(events), AudioReceived)
    assert await anext(events) == KeyPressed("5")
    with pytest.raises(LineClosed):
        await anext(events)
    server.agent.over.set()
    await server.done()


@virtual
async def test_marks_come_back_unheard_after_a_clear_and_empty_audio_is_not_sent() -> None:
    server = Server(agent=Holder())
    socket = await server.call()
    line = await line_of(server)
    await line.send_audio(np.zeros(0, np.int16))
    await line.send_audio(np.zeros(160, np.int16))
    await line.send_mark("m")
    await line.clear()
    audio, mark, clear = [await socket.receive() for _ in range(3)]
    assert [json.loads(message)["event"] for message in (audio, mark, clear)] == ["media", "mark", "clear"]
    assert {json.loads(message)["streamSid"] for message in (audio, mark, clear)} == {STREAM}
    await socket.send(mark_echo(mark))
    assert await anext(line.events()) == MarkReached("m", heard=False)
    server.agent.over.set()
    await server.done()
