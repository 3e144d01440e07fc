"""Passing a caller on: the stream ends, Twilio dials, and either somebody takes the caller or the agent has
them back on a new stream, in the same call."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from pipeline.line import (
    AudioReceived,
    Line,
    LineClosed,
    MarkReached,
    TransferFailed,
    TransfersCalls,
)
from telephony.simulator.virtual import MemorySocket
from telephony.twilio.stream import TRANSFER_LIMIT_S
from tests.telephony.test_twilio_live import serving
from tests.telephony.test_twilio_stream import Server, closing, now, virtual
from tests.telephony.twilio_support import AUTH_TOKEN, CALL, Outcome, media, signature, start, stop

CHILD = "CA00000000000000000000000000000000"


class Agent:
    """Speaks a little, passes its caller on at once, and notes what came of it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.outcome: str | None = None
        self.samples = 0
        self.marks: list[MarkReached] = []
        self.end: str | None = None
        self.resumed = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, line: Line) -> Outcome:
        assert isinstance(line, TransfersCalls)
        listening = asyncio.create_task(self._listen(line))
        await line.send_mark("before")
        try:
            await line.transfer(self.target)
            self.outcome = "taken"
        except TransferFailed as failed:
            self.outcome = failed.reason
            self.resumed.set()
        except LineClosed as closed:
            self.outcome = f"closed: {closed.reason}"
        await listening
        self.ended.set()
        return Outcome(True, self.end or "")

    async def _listen(self, line: Line) -> None:
        try:
            async for event in line.events():
                if isinstance(event, AudioReceived):
                    self.samples += len(event.pcm)
                    if self.resumed.is_set():
                        await line.send_audio(event.pcm)
                elif isinstance(event, MarkReached):
                    self.marks.append(event)
        except LineClosed as closed:
            self.end = closed.reason


class Carrier:
    """Twilio's side over real sockets."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.web = httpx.AsyncClient(base_url=f"http://{host}")

    async def post(self, path: str, **fields: str) -> str:
        form = {"CallSid": CALL, "From": "+15550100", "To": "+15550199"} | fields
        signed = signature(f"http://{self.host}{path}", form, AUTH_TOKEN)
        response = await self.web.post(path, data=form, headers={"X-Twilio-Signature": signed})
        assert response.status_code in (200, 204), response.text
        return response.text

    @asynccontextmanager
    async def stream(self, twiml: str, sid: str) -> AsyncIterator[Any]:
        parameters = dict(re.findall(r'<Parameter name="(\w+)" value="([^"]+)" />', twiml))
        url = f"ws://{self.host}/twilio/media"
        signed = {"X-Twilio-Signature": signature(url)}
        async with websockets.connect(url, additional_headers=signed) as socket:
            await socket.send(start(stream_sid=sid, **parameters))
            yield socket


@asynccontextmanager
async def transferring(agent: Agent) -> AsyncIterator[tuple[Carrier, str]]:
    """The carrier, and the TwiML that it got when the agent had closed its stream."""
    async with serving(agent) as host:
        carrier = Carrier(host)
        async with carrier.web, asyncio.timeout(20):
            async with carrier.stream(await carrier.post("/twilio/voice"), "MZ1") as first:
                with pytest.raises(websockets.ConnectionClosedOK):
                    while True:
                        await first.recv()
            yield carrier, await carrier.post("/twilio/after")


async def test_somebody_takes_the_caller() -> None:
    agent = Agent("+15550123")
    async with transferring(agent) as (carrier, twiml):
        assert re.search(r'<Dial action="http://[^"]+/twilio/dialled"[^>]*>', twiml)
        assert re.search(r"<Number [^>]*/twilio/transfer[^>]*>\+15550123</Number>", twiml)
        await carrier.post("/twilio/transfer", CallSid=CHILD, ParentCallSid=CALL, CallStatus="in-progress")
        await agent.ended.wait()
        assert (agent.outcome, agent.end) == ("taken", "transferred")
        assert "<Hangup" in await carrier.post("/twilio/dialled", DialCallStatus="completed")


@pytest.mark.parametrize(("status", "reason"), [("busy", "busy"), ("no-answer", "no answer")])
async def test_nobody_does_and_the_agent_has_the_caller_back(status: str, reason: str) -> None:
    agent = Agent("sip:desk@example.com")
    async with transferring(agent) as (carrier, twiml):
        assert re.search(r"<Sip [^>]*>sip:desk@example\.com</Sip>", twiml)
        await asyncio.sleep(0.3)
        again = await carrier.post("/twilio/dialled", DialCallStatus=status)
        async with carrier.stream(again, "MZ2") as second:
            await agent.resumed.wait()
            assert agent.outcome == reason
            # The caller's samples went on meanwhile, as silence, so that clocks stay right.
            assert agent.samples >= 0.25 * 8000
            assert agent.marks == [MarkReached("before", heard=False)]
            await second.send(media(0, b"\x80" * 160, stream_sid="MZ2"))
            assert '"media"' in await second.recv()
            await second.send(stop(stream_sid="MZ2"))
            await agent.ended.wait()
        assert agent.end == "caller hung up"
        assert "<Hangup" in await carrier.post("/twilio/after")


async def test_the_caller_hangs_up_while_it_rings() -> None:
    agent = Agent("+15550123")
    async with transferring(agent) as (carrier, _):
        await carrier.post("/twilio/status", CallStatus="completed", CallDuration="12")
        await agent.ended.wait()
        assert (agent.outcome, agent.end) == ("closed: caller hung up", "caller hung up")
        # Too late for a new stream: nobody is there to talk.
        assert "<Hangup" in await carrier.post("/twilio/dialled", DialCallStatus="busy")


async def test_the_caller_hangs_up_while_it_rings_and_only_the_dialling_tells() -> None:
    agent = Agent("+15550123")
    async with transferring(agent) as (carrier, _):
        told = await carrier.post("/twilio/dialled", DialCallStatus="no-answer", CallStatus="completed")
        assert "<Hangup" in told
        await agent.ended.wait()
        assert (agent.outcome, agent.end) == ("closed: caller hung up", "caller hung up")


async def test_nobody_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telephony.twilio.stream.TRANSFER_LIMIT_S", 0.2)
    agent = Agent("+15550123")
    async with transferring(agent):
        await agent.ended.wait()
        assert (agent.outcome, agent.end) == ("closed: lost in a transfer", "lost in a transfer")


async def test_a_stranger_cannot_take_the_callers_place() -> None:
    agent = Agent("+15550123")
    async with transferring(agent) as (carrier, _), carrier.stream("", "MZ2") as forged:
        with pytest.raises(websockets.ConnectionClosedError, match="token refused"):
            await forged.recv()
        assert agent.outcome is None
        await carrier.post("/twilio/transfer", CallSid=CHILD, ParentCallSid=CALL)
        await agent.ended.wait()
        assert agent.outcome == "taken"


# In virtual time, without web server


async def back_again(server: Server) -> MemorySocket:
    """The caller's next stream."""
    socket = server.connect()
    await socket.send(start(stream_sid="MZ2"))
    return socket


@virtual
async def test_the_clock_loses_nothing_while_the_caller_is_away() -> None:
    agent = Agent("+15550123")
    server = Server(agent=agent)
    await server.call()
    began = now()
    await asyncio.sleep(7.654)
    server.desk.not_passed_on(CALL, "busy")
    socket = await back_again(server)
    await agent.resumed.wait()
    away_s = now() - began
    await asyncio.sleep(0.001)
    assert agent.samples / 8000 == pytest.approx(away_s, abs=0.011)  # a call begins within 0.01 s here
    await socket.send(stop(stream_sid="MZ2"))
    await server.done()


@virtual
async def test_a_call_that_ends_as_its_caller_comes_back_closes_the_new_stream() -> None:
    agent = Agent("+15550123")
    server = Server(agent=agent)
    await server.call()
    line = server.desk.live[CALL]
    assert line._absence is not None
    line._absence.settled.add_done_callback(lambda _: line.end("the call is over"))
    socket = await back_again(server)
    async with asyncio.timeout(5):
        assert (await closing(socket)).code == 1000
        await server.done()


@virtual
async def test_a_transfer_that_is_given_up_does_not_leave_silence_for_ever() -> None:
    class Impatient(Agent):
        async def __call__(self, line: Line) -> Outcome:
            assert isinstance(line, TransfersCalls)
            transfer = asyncio.create_task(line.transfer(self.target))
            await asyncio.sleep(0.1)
            transfer.cancel()
            await self._listen(line)
            return Outcome(True, self.end or "")

    agent = Impatient("+15550123")
    server = Server(agent=agent)
    await server.call()
    began = now()
    await server.done()
    assert agent.end == "lost in a transfer"
    assert now() - began < TRANSFER_LIMIT_S + 1
