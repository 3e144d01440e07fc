"""Calls whose stream was lost: what Twilio is told then, and what becomes of the stream that it opens."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI

from pipeline.line import AudioReceived, Line, LineClosed, LineInfo
from telephony.socket_starlette import StarletteSocket
from telephony.twilio.elsewhere import FORWARDED_HEADER, RESUMED_PARAMETER, Answered, Found, Neighbours
from telephony.twilio.routes import create_router
from tests.telephony.twilio_support import AUTH_TOKEN, CALL, Outcome, config, media, signature, start, stop

INFO = LineInfo(CALL, "twilio", caller="+15550100", called="+15550199")


class Elsewhere:
    """What all front-ends know, as the test has it."""

    def __init__(self, found: Found | None = None) -> None:
        self.found = found
        self.asked: list[str] = []
        self.well = False
        self.used: set[str] = set()
        self.here = ""
        self.others: dict[str, str] = {}

    def address(self, front_end: str) -> str | None:
        return self.others.get(front_end)

    async def find(self, call_id: str) -> Found | None:
        self.asked.append(call_id)
        return self.found

    async def ended_well(self, call_id: str) -> bool:
        return self.well

    async def use_once(self, nonce: str, until_s: float) -> bool:
        first = nonce not in self.used
        self.used.add(nonce)
        return first


class Places:
    """`most` of them; which were given back."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.closing = False
        self.taken: set[str] = set()
        self.free: list[str] = []

    def take(self, call_id: str, *, goes_on: bool = False) -> bool:
        full = len(self.taken) >= self.most or (self.closing and not goes_on)
        if call_id not in self.taken and full:
            return False
        self.taken.add(call_id)
        return True

    def give_back(self, call_id: str) -> None:
        self.taken.discard(call_id)
        self.free.append(call_id)


class Agent:
    """Listens until its line closes. Keeps who was on, and how each call ended."""

    def __init__(self) -> None:
        self.infos: list[LineInfo] = []
        self.ends: list[str] = []
        self.samples = 0

    async def __call__(self, line: Line) -> Outcome:
        self.infos.append(line.info)
        try:
            async for event in line.events():
                if isinstance(event, AudioReceived):
                    self.samples += len(event.pcm)
        except LineClosed as closed:
            self.ends.append(closed.reason)
            return Outcome(True, closed.reason)
        raise AssertionError("a line ends by LineClosed")


class FrontEnd:
    def __init__(self, host: str, agent: Any, public_host: str, server: uvicorn.Server) -> None:
        self.host = host
        self.server = server
        self.agent = agent
        self.public = public_host
        self.web = httpx.AsyncClient(base_url=f"http://{host}")

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> str:
        form = {"CallSid": CALL, "From": "+15550100", "To": "+15550199"} | fields
        signed = {"X-Twilio-Signature": signature(f"http://{self.public}{path}", form, AUTH_TOKEN)}
        response = await self.web.post(path, data=form, headers=signed | (headers or {}))
        assert response.status_code in (200, 204), response.text
        return response.text

    @asynccontextmanager
    async def stream(self, twiml: str, sid: str, call: str = CALL) -> AsyncIterator[Any]:
        parameters = dict(re.findall(r'<Parameter name="(\w+)" value="([^"]+)" />', twiml))
        signed = {"X-Twilio-Signature": signature(f"ws://{self.public}/twilio/media")}
        url = f"ws://{self.host}/twilio/media"
        async with websockets.connect(url, additional_headers=signed) as socket:
            await socket.send(start(call, sid, **parameters))
            yield socket


@asynccontextmanager
async def front_end(
    elsewhere: Elsewhere | None,
    public_host: str = "",
    *,
    agent: Any = None,
    certificate: tuple[Path, Path] | None = None,
    **more: Any,
) -> AsyncIterator[FrontEnd]:
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    agent = agent or Agent()
    app = FastAPI()
    settings = config(public_url=f"http://{public_host or host}")
    app.include_router(create_router(settings, agent, elsewhere=elsewhere, **more))
    server = uvicorn.Server(
        uvicorn.Config(
            app, ws="websockets-sansio", ws_ping_interval=None, lifespan="off", log_config=None,
            timeout_graceful_shutdown=2,
            ssl_certfile=certificate and certificate[0], ssl_keyfile=certificate and certificate[1],
        )
    )  # fmt: skip
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110  (uvicorn offers no event)
        await asyncio.sleep(0.005)
    front = FrontEnd(host, agent, public_host or host, server)
    try:
        async with front.web, asyncio.timeout(20):
            yield front
    finally:
        server.should_exit = True
        await running


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_call_of_a_front_end_that_is_gone_goes_on_here() -> None:
    async with front_end(Elsewhere(Found(INFO))) as here:
        twiml = await here.post("/twilio/after")
        assert "<Connect><Stream" in twiml
        assert "<Redirect" in twiml, "a second loss is no end either"
        async with here.stream(twiml, "MZ2") as socket:
            await socket.send(media(0, stream_sid="MZ2"))
            await until(lambda: here.agent.samples)
            await socket.send(stop(stream_sid="MZ2"))
        (info,) = here.agent.infos
        assert (info.call_id, info.caller, info.called) == (CALL, "+15550100", "+15550199")
        assert info.parameters == {RESUMED_PARAMETER: "inbound"}


async def test_of_a_call_that_we_placed_the_far_end_stays_the_caller() -> None:
    async with front_end(Elsewhere(Found(INFO))) as here:
        fields = {"From": "+15550199", "To": "+15550100", "Direction": "outbound-api"}
        twiml = await here.post("/twilio/after", **fields)
        assert 'name="caller" value="+15550100"' in twiml
        assert f'name="{RESUMED_PARAMETER}" value="outbound"' in twiml


@pytest.mark.parametrize("elsewhere", [None, Elsewhere(None)])
async def test_where_nothing_is_known_the_caller_hears_an_apology(elsewhere: Elsewhere | None) -> None:
    async with front_end(elsewhere) as here:
        twiml = await here.post("/twilio/after")
        assert "sorry" in twiml
        assert "<Hangup" in twiml


async def test_after_a_goodbye_at_a_front_end_that_has_left_nobody_says_sorry() -> None:
    elsewhere = Elsewhere(None)
    elsewhere.well = True
    async with front_end(elsewhere) as here:
        twiml = await here.post("/twilio/after")
        assert "<Hangup" in twiml
        assert "<Say" not in twiml


async def test_a_call_that_ended_on_purpose_is_not_even_asked_about() -> None:
    elsewhere = Elsewhere(Found(INFO))
    async with front_end(elsewhere) as here:
        async with here.stream(await here.post("/twilio/voice"), "MZ1") as socket:
            await socket.send(stop(stream_sid="MZ1"))
            await until(lambda: here.agent.ends)
        twiml = await here.post("/twilio/after")
        assert "<Hangup" in twiml
        assert "<Say" not in twiml
        assert elsewhere.asked == []


async def test_a_line_that_broke_goes_on_in_the_process_that_had_it() -> None:
    elsewhere = Elsewhere()
    async with front_end(elsewhere) as here:
        async with here.stream(await here.post("/twilio/voice"), "MZ1") as socket:
            await until(lambda: here.agent.infos)
            socket.transport.abort()
        await until(lambda: here.agent.ends)
        assert here.agent.ends == ["connection lost"]
        elsewhere.found = Found(INFO)
        async with here.stream(await here.post("/twilio/after"), "MZ2"):
            await until(lambda: len(here.agent.infos) == 2)


@pytest.mark.parametrize("drains", [False, True])
async def test_who_was_lost_in_a_full_house_finds_the_place_again(
    drains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, elsewhere = Places(most=1), Elsewhere()
    close = StarletteSocket.close

    async def close_later(socket: StarletteSocket, code: int = 1000, reason: str = "") -> None:
        await asyncio.sleep(0.3)
        await close(socket, code, reason)

    monkeypatch.setattr(StarletteSocket, "close", close_later)

    class Lets(Agent):
        """Its house has the place back when the call is over."""

        async def __call__(self, line: Line) -> Outcome:
            try:
                return await super().__call__(line)
            finally:
                places.give_back(line.info.call_id)

    async with front_end(elsewhere, agent=Lets(), lines=places) as here:
        async with here.stream(await here.post("/twilio/voice"), "MZ1") as socket:
            await until(lambda: here.agent.infos)
            places.closing = drains
            socket.transport.abort()
        await until(lambda: CALL in places.free)
        assert places.taken, "whoever asks now is another"
        elsewhere.found = Found(INFO)
        again = await here.post("/twilio/after")
        assert "busy" in await here.post("/twilio/voice", CallSid="CAother")
        async with here.stream(again, "MZ2") as socket:
            await until(lambda: len(here.agent.infos) == 2)
            await socket.send(stop(stream_sid="MZ2"))
            await until(lambda: len(here.agent.ends) == 2)
        assert places.taken == set(), "who has hung up needs none"


async def test_twilio_may_know_before_us_that_a_stream_is_gone() -> None:
    """The old socket still stands: the new stream ends the old call, then goes on with it."""
    async with (
        front_end(Elsewhere(Found(INFO))) as here,
        here.stream(await here.post("/twilio/voice"), "MZ1"),
    ):
        await until(lambda: here.agent.infos)
        async with here.stream(await here.post("/twilio/after"), "MZ2") as second:
            await until(lambda: len(here.agent.infos) == 2)
            assert here.agent.ends == ["connection lost"]
            await second.send(media(0, stream_sid="MZ2"))
            await until(lambda: here.agent.samples)


async def test_a_stream_that_never_comes_about_is_not_asked_for_for_ever() -> None:
    async with front_end(Elsewhere(Found(INFO))) as here:
        told = ["<Connect>" in await here.post("/twilio/after") for _ in range(5)]
        assert told == [True, True, True, False, False]


async def test_a_token_is_good_once_at_all_front_ends_together() -> None:
    shared = Elsewhere()
    async with front_end(shared) as first, front_end(shared, first.host) as second:
        twiml = await first.post("/twilio/voice")
        async with second.stream(twiml, "MZ1"):
            await until(lambda: second.agent.infos)
            async with first.stream(twiml, "MZ2") as replayed:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await replayed.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert first.agent.infos == []


class SlowStore(Elsewhere):
    """Answers about tokens when it is told to."""

    def __init__(self, found: Found | None = None) -> None:
        super().__init__(found)
        self.answers: list[asyncio.Future[bool]] = []

    async def use_once(self, nonce: str, until_s: float) -> bool:
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


async def test_nobody_waits_for_a_database_that_hangs_but_those_who_come_first() -> None:
    store = SlowStore()
    async with front_end(store) as here, AsyncExitStack() as streams:
        for number in range(3):
            sid = f"CA{number:032}"
            twiml = await here.post("/twilio/voice", CallSid=sid)
            stream = here.stream(twiml, f"MZ{number}", sid)
            await streams.enter_async_context(stream)
            await until(lambda number=number: len(here.agent.infos) == number + 1)
        assert not any(answer.done() for answer in store.answers)
        for answer in store.answers:
            answer.set_result(True)
        assert here.agent.ends == []


async def test_a_token_that_proves_used_ends_the_call_that_has_begun() -> None:
    elsewhere = SlowStore(Found(INFO))
    async with front_end(elsewhere) as here:
        async with here.stream(await here.post("/twilio/voice"), "MZ1") as stream:
            await until(lambda: here.agent.infos)
            elsewhere.answers[0].set_result(False)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await stream.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        await until(lambda: here.agent.ends)
        assert "<Connect>" in await here.post("/twilio/after"), "the call itself is asked for where it is"
        assert elsewhere.asked == [CALL]


async def test_a_database_that_is_well_again_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore()
    async with front_end(store) as here:
        sids = [f"CA{number:032}" for number in range(3)]
        async with here.stream(await here.post("/twilio/voice", CallSid=sids[0]), "MZ0", sids[0]):
            await until(lambda: here.agent.infos)
            store.answers[0].set_result(True)
        monkeypatch.setattr("telephony.twilio.desk._TOKEN_PATIENCE_S", 10.0)  # however slow this machine is
        async with here.stream(await here.post("/twilio/voice", CallSid=sids[1]), "MZ1", sids[1]):
            await until(lambda: len(store.answers) == 2)
            store.answers[1].set_result(True)
            await until(lambda: len(here.agent.infos) == 2)
        async with here.stream(await here.post("/twilio/voice", CallSid=sids[2]), "MZ2", sids[2]) as stream:
            await until(lambda: len(store.answers) == 3)
            store.answers[2].set_result(False)
            with pytest.raises(websockets.ConnectionClosed):
                await stream.recv()
        assert len(here.agent.infos) == 2, "refused before the call began"


# Front-ends beside each other


async def test_what_twilio_asks_about_a_neighbours_call_goes_to_the_neighbour() -> None:
    async with front_end(None) as holder:
        elsewhere = Elsewhere(Found(INFO, f"http://{holder.host}"))
        async with front_end(elsewhere, holder.host) as other:
            async with holder.stream(await holder.post("/twilio/voice"), "MZ1") as socket:
                await socket.send(stop(stream_sid="MZ1"))
                await until(lambda: holder.agent.ends)
            twiml = await other.post("/twilio/after")
            assert "<Hangup" in twiml
            assert "<Connect" not in twiml


async def test_a_neighbour_that_is_gone_is_stood_in_for() -> None:
    async with front_end(None) as gone:
        url = f"http://{gone.host}"
    async with front_end(Elsewhere(Found(INFO, url))) as here:
        assert "<Connect><Stream" in await here.post("/twilio/after")
        assert "<Connect><Stream" in await here.post("/twilio/dialled", DialCallStatus="busy")
        assert await here.post("/twilio/status", CallStatus="completed") == ""


async def test_nothing_is_passed_on_twice() -> None:
    async with front_end(None) as holder:
        elsewhere = Elsewhere(Found(INFO, f"http://{holder.host}"))
        async with front_end(elsewhere, holder.host) as other:
            twiml = await other.post("/twilio/after", {FORWARDED_HEADER: "1"})
            assert "<Connect><Stream" in twiml


async def test_passing_on_keeps_signature_and_body() -> None:
    async with front_end(None) as holder:
        form = {"CallSid": CALL}
        signed = {"x-twilio-signature": signature(f"http://{holder.host}/twilio/after", form, AUTH_TOKEN)}
        headers = signed | {"content-type": "application/x-www-form-urlencoded", "host": "elsewhere"}
        body = f"CallSid={CALL}".encode()
        pass_on = Neighbours().pass_on
        answered = await pass_on(f"http://{holder.host}", "/twilio/after", "", headers, body)
        assert isinstance(answered, Answered)
        assert b"<Say>" in answered.body
        assert await pass_on(f"http://{holder.host}", "/twilio/after", "", {}, body) is None
        assert await pass_on("file:///etc", "/hostname", "", {}, b"") is None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[str, list[int]]]:
    """The URL of a front-end that hangs: it takes connections and answers nothing. And how often it was
    asked."""
    asked: list[int] = []
    over = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(len(asked))
        await over.wait()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        over.set()
        server.close()


async def test_a_neighbour_that_hangs_takes_no_thread_that_calls_need() -> None:
    neighbours = Neighbours()
    async with silent() as (url, asked):
        waiting = [asyncio.create_task(neighbours.pass_on(url, "/", "", {}, b"")) for _ in range(100)]
        await until(lambda: len(asked) == 100)
        async with asyncio.timeout(1):
            await asyncio.to_thread(int)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_neighbour_that_hangs_is_asked_by_one_caller_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telephony.twilio.elsewhere._ANSWER_LIMIT_S", 0.1)
    clock = Clock()
    neighbours = Neighbours(clock=clock)
    async with silent() as (url, asked), front_end(None) as alive:
        for expected in (1, 1, 1):
            assert await neighbours.pass_on(url, "/", "", {}, b"") is None
            assert len(asked) == expected
        signed = {"x-twilio-signature": signature(f"http://{alive.host}/twilio/after", {}, AUTH_TOKEN)}
        answered = await neighbours.pass_on(f"http://{alive.host}", "/twilio/after", "", signed, b"")
        assert answered is not None, "the others are asked as ever"
        clock.now += 6.0
        seeing = [neighbours.pass_on(url, "/", "", {}, b"") for _ in range(10)]
        assert await asyncio.gather(*seeing) == [None] * 10
        assert len(asked) == 2, "one has seen whether it is back"


async def test_a_neighbour_that_is_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telephony.twilio.elsewhere._ANSWER_LIMIT_S", 0.1)
    clock = Clock()
    neighbours = Neighbours(clock=clock)
    async with silent() as (url, _):
        assert await neighbours.pass_on(url, "/", "", {}, b"") is None
    port = int(url.rpartition(":")[2])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    monkeypatch.setattr("telephony.twilio.elsewhere._ANSWER_LIMIT_S", 5.0)
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        clock.now += 6.0
        for _ in range(2):
            answered = await neighbours.pass_on(url, "/", "", {}, b"")
            assert answered is not None
            assert answered.body == b"hi"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + bytes(70_000),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
async def test_what_a_stranger_answers_at_a_neighbours_address_is_no_answer(answer: bytes) -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await Neighbours().pass_on(f"http://127.0.0.1:{port}", "/twilio/after", "", {}, b"") is None
