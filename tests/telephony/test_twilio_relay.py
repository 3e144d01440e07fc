"""Several front-ends behind one public URL: what belongs to one of them finds it, wherever it comes in."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets

from pipeline.line import AudioReceived, Line
from telephony.twilio.elsewhere import FRONT_END_PARAMETER, Neighbours, NeighbourTls
from telephony.twilio.protocol import StreamStarted
from telephony.twilio.relay import reach
from telephony.twilio.routes import ANSWERED, ORDER_PARAMETER, STATUS, STREAM_STATUS
from tests.certificates import certificate
from tests.telephony.test_twilio_resuming import Agent, Elsewhere, FrontEnd, Places, front_end, until
from tests.telephony.test_twilio_transfer import Agent as TransferringAgent
from tests.telephony.twilio_support import CALL, media, stop

NAME = "maya.example.com"
ORDER = f"{ORDER_PARAMETER}=order-1"


@asynccontextmanager
async def pair(**here: object) -> AsyncIterator[tuple[FrontEnd, FrontEnd]]:
    """The front-end "a", and "b" beside it, behind a's URL."""
    first, second = Elsewhere(), Elsewhere()
    first.here, second.here = "a", "b"
    async with front_end(first, **here) as one, front_end(second, one.host) as two:
        second.others["a"] = f"http://{one.host}"
        first.others["b"] = f"http://{two.host}"
        yield one, two


async def test_a_call_that_we_placed_is_answered_where_its_order_is() -> None:
    async with pair() as (one, two):
        twiml = await two.post(f"{ANSWERED}?{ORDER}&{FRONT_END_PARAMETER}=a", From="+1202", To="+1203")
        assert f'name="{FRONT_END_PARAMETER}" value="a"' in twiml
        async with two.stream(twiml, "MZ1") as socket:
            await socket.send(media(0, stream_sid="MZ1"))
            await until(lambda: one.agent.samples)
            (info,) = one.agent.infos
            assert (info.caller, info.called) == ("+1203", "+1202")
            assert info.parameters == {ORDER_PARAMETER: "order-1"}
            await socket.send(stop(stream_sid="MZ1"))
            await until(lambda: one.agent.ends)
        assert one.agent.ends == ["caller hung up"]
        assert two.agent.infos == []


async def test_what_we_say_and_that_we_hang_up_comes_through() -> None:
    class Speaks(Agent):
        async def __call__(self, line: Line) -> object:  # type: ignore[override]
            async for event in line.events():
                if isinstance(event, AudioReceived):
                    await line.send_audio(event.pcm)
                    await line.hang_up("goodbye")
                    break
            return await super().__call__(line)

    async with pair(agent=Speaks()) as (_, two):
        twiml = await two.post(f"{ANSWERED}?{ORDER}&{FRONT_END_PARAMETER}=a")
        async with two.stream(twiml, "MZ1") as socket:
            await socket.send(media(0, stream_sid="MZ1"))
            heard = json.loads(await socket.recv())
            assert (heard["event"], heard["streamSid"]) == ("media", "MZ1")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


async def test_a_line_that_is_lost_is_lost_there_too() -> None:
    async with pair() as (one, two):
        twiml = await two.post(f"{ANSWERED}?{ORDER}&{FRONT_END_PARAMETER}=a")
        async with two.stream(twiml, "MZ1") as socket:
            await until(lambda: one.agent.infos)
            socket.transport.abort()
        await until(lambda: one.agent.ends)
        assert one.agent.ends == ["connection lost"]


async def test_a_front_end_that_dies_under_a_stream_closes_it() -> None:
    elsewhere = Elsewhere()
    async with front_end(None) as gone, front_end(elsewhere, gone.host) as here:
        elsewhere.others["a"] = f"http://{gone.host}"
        twiml = await gone.post(f"{ANSWERED}?{ORDER}")
        twiml = twiml.replace("</Stream>", f'<Parameter name="{FRONT_END_PARAMETER}" value="a" /></Stream>')
        async with here.stream(twiml, "MZ1") as socket:
            await until(lambda: gone.agent.infos)
            gone.server.should_exit = True
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1011, 1012)


async def test_where_the_other_is_gone_already_the_call_is_taken_here() -> None:
    elsewhere = Elsewhere()
    elsewhere.others["a"] = "http://127.0.0.1:1"
    async with front_end(elsewhere) as here:
        assert "<Hangup" in await here.post(f"{ANSWERED}?{ORDER}&{FRONT_END_PARAMETER}=a")
        twiml = await here.post(f"{ANSWERED}?{ORDER}")
        twiml = twiml.replace("</Stream>", f'<Parameter name="{FRONT_END_PARAMETER}" value="a" /></Stream>')
        async with here.stream(twiml, "MZ1"):
            await until(lambda: here.agent.infos)
        assert here.agent.infos[0].parameters == {ORDER_PARAMETER: "order-1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates: for the public name, for another one, and of nobody that we know."""
    folder = tmp_path_factory.mktemp("tls")
    for name, host in (("public", NAME), ("other", "elsewhere.example.com"), ("strange", NAME)):
        certificate(folder, name, f"DNS:{host}")
    return folder


def shown_by(made: Path, name: str) -> tuple[Path, Path]:
    return made / f"{name}.pem", made / f"{name}.key"


def trusting(made: Path) -> NeighbourTls:
    context = ssl.create_default_context()
    for name in ("public", "other"):
        context.load_verify_locations(made / f"{name}.pem")
    return NeighbourTls(context, NAME)


async def test_a_stream_and_a_webhook_go_to_a_front_end_that_has_tls(made: Path) -> None:
    tls = trusting(made)
    elsewhere = Elsewhere()
    async with (
        front_end(None, certificate=shown_by(made, "public")) as there,
        front_end(elsewhere, there.host, neighbour_tls=tls) as here,
    ):
        elsewhere.others["a"] = f"https://{there.host}"
        twiml = await here.post(f"{ANSWERED}?{ORDER}&{FRONT_END_PARAMETER}=a", From="+1202", To="+1203")
        twiml = twiml.replace("</Stream>", f'<Parameter name="{FRONT_END_PARAMETER}" value="a" /></Stream>')
        async with here.stream(twiml, "MZ1") as socket:
            await socket.send(media(0, stream_sid="MZ1"))
            await until(lambda: there.agent.samples)
            await socket.send(stop(stream_sid="MZ1"))
            await until(lambda: there.agent.ends)
        assert here.agent.infos == []


@pytest.mark.parametrize(
    ("name", "said"), [("other", "mismatch"), ("strange", "self-signed certificate"), ("", "takes no stream")]
)
async def test_who_is_not_the_public_name_is_told_nothing(
    made: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    """It shows a certificate of another name, one of nobody's, or has no TLS at all."""
    told = await told_to(made, name, trusting(made))
    assert said in caplog.text
    assert CALL.encode() not in told
    assert b"secret-signature" not in told


async def test_who_knows_no_tls_asks_nobody_that_has_it(made: Path) -> None:
    assert await told_to(made, "public", None) == b""


async def told_to(made: Path, name: str, tls: NeighbourTls | None) -> bytes:
    """What somebody hears at a front-end's address who shows this certificate; "": who has none."""
    told: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            told.append(await reader.read(65_536))
        writer.close()

    context: ssl.SSLContext | None = None
    if name:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*shown_by(made, name))
    async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        signed = {"x-twilio-signature": "secret-signature"}
        begun = StreamStarted("MZ1", CALL, "AC1")
        assert await reach(url, "/twilio/media", signed, begun, tls) is None
        assert await Neighbours(tls).pass_on(url, "/twilio/after", "", signed, b"CallSid=1") is None
    return b"".join(told)


async def test_reports_about_an_order_go_to_who_gave_it() -> None:
    over: list[tuple[str, str]] = []
    async with pair(on_order_over=lambda order, detail: over.append((order, detail))) as (_, two):
        await two.post(f"{STATUS}?{ORDER}&{FRONT_END_PARAMETER}=a", CallStatus="no-answer")
        assert over == [("order-1", "no-answer")]


async def test_after_a_transfer_that_failed_the_caller_is_back_with_the_agent_that_waits() -> None:
    agent = TransferringAgent("+12025550101")
    async with pair(agent=agent) as (one, two):
        async with one.stream(await one.post("/twilio/voice"), "MZ1") as first:
            with pytest.raises(websockets.ConnectionClosedOK):
                while True:
                    await first.recv()
        assert "<Dial" in await one.post("/twilio/after")
        twiml = await one.post("/twilio/dialled", DialCallStatus="busy", CallStatus="in-progress")
        async with two.stream(twiml, "MZ2") as second:
            await asyncio.wait_for(agent.resumed.wait(), 5)
            assert agent.outcome == "busy"
            await second.send(stop(stream_sid="MZ2"))
            await asyncio.wait_for(agent.ended.wait(), 5)
        assert two.agent.infos == []


async def test_a_place_is_free_once_the_call_is_on_at_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhook came to one, the stream to another, what Twilio tells of the stream to either."""
    monkeypatch.setattr("telephony.twilio.routes._ARRIVES_WITHIN_S", 0.0)
    places = Places()
    async with pair(lines=places) as (one, two):
        twiml = await one.post("/twilio/voice")
        assert f"{STREAM_STATUS}?{FRONT_END_PARAMETER}=a" in twiml
        async with two.stream(twiml, "MZ1"):
            await until(lambda: two.agent.infos)
            await two.post(f"{STREAM_STATUS}?{FRONT_END_PARAMETER}=a", StreamEvent="stream-started")
            await until(lambda: places.free)
            assert places.free == [CALL]
        mine = await one.post("/twilio/voice", CallSid="CAmine")
        async with one.stream(mine, "MZ2", "CAmine"):
            await until(lambda: one.agent.infos)
            query = f"?{FRONT_END_PARAMETER}=a"
            await two.post(STREAM_STATUS + query, CallSid="CAmine", StreamEvent="stream-started")
            await asyncio.sleep(0.05)
            assert places.free == [CALL], "this one is on here"


async def test_what_is_no_front_end_takes_no_stream() -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await reach(url, "/twilio/media", {}, StreamStarted("MZ1", CALL, "AC1")) is None


async def test_a_stream_without_twilios_signature_is_refused_there() -> None:
    async with front_end(None) as one:
        there = f"http://{one.host}"
        assert await reach(there, "/twilio/media", {}, StreamStarted("MZ1", CALL, "AC1")) is None
        assert one.agent.infos == []
