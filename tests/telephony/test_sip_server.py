"""Two servers on loopback sockets: they call each other over UDP and TCP, with RTP and all."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.line import (
    AudioReceived,
    KeyPressed,
    Line,
    LineClosed,
    MarkReached,
    SendsKeys,
    TransferFailed,
    TransfersCalls,
)
from telephony.rtp.ports import RtpPorts
from telephony.sip.config import SipConfig, sip_config
from telephony.sip.errors import DialFailed, SipConfigError
from telephony.sip.line import SipLine
from telephony.sip.server import SipServer

ALIVE = (
    "OPTIONS sip:maya@127.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/{over} 127.0.0.1:{port};branch=z9hG4bKalive;rport\r\n"
    "From: <sip:ann@127.0.0.1>;tag=a\r\nTo: <sip:maya@127.0.0.1>\r\nCall-ID: alive\r\nCSeq: 1 OPTIONS\r\n"
    "Content-Length: 0\r\n\r\n"
)


@dataclass
class Outcome:
    completed: bool = True
    reason: str = "done"


Answer = Callable[[Line], Awaitable[Outcome]]


class Echo:
    """Says back what it hears, until the line closes; keeps what else happened."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.keys: list[str] = []
        self.ended: list[str] = []
        self.up = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, line: Line) -> Outcome:
        self.lines.append(line)
        self.up.set()
        try:
            async for event in line.events():
                if isinstance(event, AudioReceived):
                    await line.send_audio(event.pcm)
                elif isinstance(event, KeyPressed):
                    self.keys.append(event.digit)
        except LineClosed as closed:
            self.ended.append(closed.reason)
            self.over.set()
        return Outcome()


def loopback(first_port: int, **settings: object) -> SipConfig:
    return sip_config(
        **{
            "port": 0,
            "insecure": True,
            "rtp_first_port": first_port,
            "rtp_last_port": first_port + 99,
            **settings,
        }
    )


async def nobody(line: Line) -> Outcome:
    raise AssertionError("nobody calls here")


def address(server: SipServer, over: str = "udp") -> str:
    return f"sip:maya@127.0.0.1:{server.port};transport={over}"


async def heard(line: Line, wanted: Callable[[object], bool]) -> object:
    """The first event of the line that is `wanted`."""
    async with asyncio.timeout(10):
        async for event in line.events():
            if wanted(event):
                return event
    raise AssertionError("the line ended in silence")


def is_loud(event: object) -> bool:
    return isinstance(event, AudioReceived) and bool(abs(event.pcm).max() > 7_000)


@pytest.mark.parametrize("over", ["udp", "tcp"])
async def test_a_call_is_dialled_answered_heard_and_ended(over: str) -> None:
    echo = Echo()
    async with SipServer(loopback(41_000), echo) as callee, SipServer(loopback(41_200), nobody) as caller:
        line = await caller.dial(address(callee, over), caller="+15550100123", headers={"X-Account": "7"})
        assert isinstance(line, TransfersCalls)
        assert isinstance(line, SendsKeys)
        assert line.lead_s <= 0.06
        await line.send_audio(np.full(1_600, 8_000, np.int16))
        await line.send_mark("said")
        got = await heard(line, is_loud)
        assert isinstance(got, AudioReceived)
        # mu-law there and back: within one step of it.
        assert abs(int(got.pcm.max()) - 8_000) < 300
        info = echo.lines[0].info
        assert (info.kind, info.caller, info.called) == ("sip", "+15550100123", "maya")
        assert info.parameters["sip_header_x_account"] == "7"
        await line.hang_up("goodbye")
        await line.hang_up("goodbye")
        async with asyncio.timeout(10):
            await echo.over.wait()
        assert echo.ended == ["caller hung up"]
        with pytest.raises(LineClosed, match="we hung up: goodbye"):
            await line.send_audio(np.zeros(160, np.int16))
        assert callee.live == caller.live == 0


async def test_marks_come_back_and_keys_arrive() -> None:
    echo = Echo()
    async with SipServer(loopback(41_000), echo) as callee, SipServer(loopback(41_200), nobody) as caller:
        line = await caller.dial(address(callee))
        await line.send_audio(np.ones(320, np.int16))
        await line.send_mark("here")
        reached = await heard(line, lambda event: isinstance(event, MarkReached))
        assert reached == MarkReached("here", heard=True)
        await line.send_keys("12#")
        async with asyncio.timeout(10):
            while echo.keys != ["1", "2", "#"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_server_that_takes_no_more_calls_sends_callers_elsewhere() -> None:
    async with (
        SipServer(loopback(41_000), nobody, accepting=lambda: False) as callee,
        SipServer(loopback(41_200), nobody) as caller,
    ):
        with pytest.raises(DialFailed) as failed:
            await caller.dial(address(callee))
        assert failed.value.code == 503
        assert caller.live == 0


async def test_no_port_free_is_503() -> None:
    ports = RtpPorts("127.0.0.1", 41_000, 41_000)
    echo = Echo()
    async with (
        SipServer(loopback(41_000), echo, ports=ports) as callee,
        SipServer(loopback(41_200), nobody) as caller,
    ):
        await caller.dial(address(callee))
        with pytest.raises(DialFailed) as failed:
            await caller.dial(address(callee))
        assert failed.value.code == 503
        # The first one is untouched.
        assert len(echo.lines) == 1
        assert echo.ended == []


async def test_a_full_server_does_not_dial_and_keeps_no_port() -> None:
    echo, ports = Echo(), RtpPorts("127.0.0.1", 41_200, 41_210)
    async with (
        SipServer(loopback(41_000), echo) as callee,
        SipServer(loopback(41_200, max_calls=1), nobody, ports=ports) as caller,
    ):
        line = await caller.dial(address(callee))
        with pytest.raises(DialFailed, match="every line is taken"):
            await caller.dial(address(callee))
        assert ports.in_use == 1
        await line.hang_up("goodbye")
        assert ports.in_use == 0


async def test_one_call_that_fails_leaves_the_others() -> None:
    echo = Echo()

    async def answer(line: Line) -> Outcome:
        if line.info.parameters.get("sip_header_x_fail"):
            raise RuntimeError("on purpose")
        return await echo(line)

    async with SipServer(loopback(41_000), answer) as callee, SipServer(loopback(41_200), nobody) as caller:
        good = await caller.dial(address(callee))
        bad = await caller.dial(address(callee), headers={"X-Fail": "yes"})
        with pytest.raises(LineClosed, match="caller hung up"):
            await heard(bad, lambda event: False)
        await good.send_audio(np.full(1_600, 8_000, np.int16))
        await heard(good, is_loud)
        assert callee.live == 1


async def test_an_answer_that_returns_hangs_up() -> None:
    async def brief(line: Line) -> Outcome:
        return Outcome()

    async with SipServer(loopback(41_000), brief) as callee, SipServer(loopback(41_200), nobody) as caller:
        line = await caller.dial(address(callee))
        with pytest.raises(LineClosed, match="caller hung up"):
            await heard(line, lambda event: False)


async def test_closing_the_server_ends_its_calls() -> None:
    echo = Echo()
    async with SipServer(loopback(41_200), nobody) as caller:
        async with SipServer(loopback(41_000), echo) as callee:
            line = await caller.dial(address(callee))
            await echo.up.wait()
        with pytest.raises(LineClosed, match="caller hung up"):
            await heard(line, lambda event: False)
        assert echo.ended == ["we hung up: shutdown"]


async def test_a_dialling_that_is_cancelled_leaves_nothing() -> None:
    ringing = asyncio.Event()

    async def answer(line: Line) -> Outcome:
        return Outcome()

    async with SipServer(loopback(41_200), nobody) as caller:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            silent.setblocking(False)
            port = silent.getsockname()[1]
            dialling = asyncio.create_task(caller.dial(f"sip:bob@127.0.0.1:{port}"))
            data = await asyncio.get_running_loop().sock_recv(silent, 9_000)
            assert data.startswith(b"INVITE ")
            ringing.set()
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
        assert caller.live == 0


async def test_a_transfer_that_is_declined_leaves_the_caller_on_the_line() -> None:
    """The far end is a server of ours, which declines every REFER."""
    echo = Echo()
    async with SipServer(loopback(41_000), echo) as callee, SipServer(loopback(41_200), nobody) as caller:
        line = await caller.dial(address(callee))
        with pytest.raises(TransferFailed, match="declined"):
            await line.transfer("+15550100199")
        with pytest.raises(TransferFailed, match="not allowed"):
            await line.transfer("911")
        with pytest.raises(TransferFailed, match="not allowed"):
            await line.transfer("sip:9%31%31@127.0.0.1")
        with pytest.raises(TransferFailed, match="wrong number"):
            await line.transfer("sip:bob@127.0.0.1>\r\nX: y")
        await line.send_audio(np.full(1_600, 8_000, np.int16))
        await heard(line, is_loud)


class ScriptedPhone:
    """A phone on a socket of its own, that answers a call and does as the test says."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.peer = ("127.0.0.1", 0)

    async def expect(self, method: str) -> list[str]:
        """The lines of the next request `method`; whatever else comes is passed over."""
        async with asyncio.timeout(10):
            while True:
                data, self.peer = await asyncio.get_running_loop().sock_recvfrom(self.socket, 9_000)
                if data.startswith(method.encode()):
                    return data.decode().split("\r\n")

    def answer(self, request: list[str], status: int, body: str = "") -> None:
        kept = [line for line in request if line.split(":")[0] in ("Via", "From", "Call-ID", "CSeq")]
        to = next(line for line in request if line.startswith("To: "))
        if ";tag=" not in to:
            to += ";tag=bob"
        lines = [f"SIP/2.0 {status} Whatever", *kept, to, f"Contact: <sip:bob@127.0.0.1:{self.port}>"]
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [f"Content-Length: {len(body)}", "", body]
        self.socket.sendto("\r\n".join(lines).encode(), self.peer)

    def notify(self, refer: list[str], fragment: str, cseq: int) -> None:
        head = {line.split(": ")[0]: line.split(": ", 1)[1] for line in refer[1:] if ": " in line}
        contact = head["Contact"].strip("<>")
        self.socket.sendto(
            (
                f"NOTIFY {contact} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{cseq};rport\r\n"
                f"From: {head['To']}\r\nTo: {head['From']}\r\n"
                f"Call-ID: {head['Call-ID']}\r\nCSeq: {cseq} NOTIFY\r\n"
                f"Event: refer\r\nSubscription-State: active\r\nContent-Type: message/sipfrag\r\n"
                f"Content-Length: {len(fragment)}\r\n\r\n{fragment}"
            ).encode(),
            self.peer,
        )

    def sdp(self, port: int = 45_000) -> str:
        head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        return f"{head}m=audio {port} RTP/AVP 8\r\n"


async def test_a_transfer_to_somebody_busy_and_then_to_somebody_who_answers() -> None:
    phone = ScriptedPhone()
    async with SipServer(loopback(41_200), nobody) as server:
        dialling = asyncio.create_task(server.dial(f"sip:bob@127.0.0.1:{phone.port}"))
        phone.answer(await phone.expect("INVITE"), 200, phone.sdp())
        line = await dialling
        assert isinstance(line, SipLine)
        busy = asyncio.create_task(line.transfer("+15550100199"))
        refer = await phone.expect("REFER")
        assert "Refer-To: <sip:+15550100199@127.0.0.1>" in refer
        phone.answer(refer, 202)
        phone.notify(refer, "SIP/2.0 100 Trying\r\n", 1)
        phone.notify(refer, "SIP/2.0 486 Busy Here\r\n", 2)
        with pytest.raises(TransferFailed, match="busy"):
            await busy
        assert line.over is None
        taken = asyncio.create_task(line.transfer("+15550100198"))
        refer = await phone.expect("REFER")
        phone.answer(refer, 202)
        phone.notify(refer, "SIP/2.0 200 OK\r\n", 3)
        await taken
        assert line.over == "transferred"
        phone.answer(await phone.expect("BYE"), 200)


async def test_what_is_never_dialled() -> None:
    async with SipServer(loopback(41_200), nobody) as server:
        for target, code in {
            "+15550100123": 404,  # no trunk
            "sip:bob@phone.example.com": 404,
            "sip:112@127.0.0.1": 403,
            "sip:%39%31%31@127.0.0.1": 403,
            "sip:+19005550100@127.0.0.1": 403,
            "sips:bob@127.0.0.1": 416,
            "sip:bob@127.0.0.1?Replaces=x": 416,
            "sip:bob@127.0.0.1\r\nX: y": 404,
            "bob": 404,
        }.items():
            with pytest.raises(DialFailed) as failed:
                await server.dial(target)
            assert failed.value.code == code, target
        with pytest.raises(ValueError, match="X- headers"):
            await server.dial("sip:bob@127.0.0.1:1", headers={"Route": "<sip:evil>"})
        with pytest.raises(ValueError, match="one line"):
            await server.dial("sip:bob@127.0.0.1:1", headers={"X-A": "b\r\nRoute: c"})
        with pytest.raises(ValueError, match="call from"):
            await server.dial("sip:bob@127.0.0.1:1", caller="bob@evil>")
        assert server.live == 0


async def test_a_stream_in_pieces_and_one_that_is_garbage() -> None:
    async with SipServer(loopback(41_000), nobody) as server:
        whole = ALIVE.format(over="TCP", port=5060).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for at in range(0, len(whole), 7):
            writer.write(whole[at : at + 7])
            await writer.drain()
        # Two messages at once, a keep-alive between them.
        writer.write(b"\r\n\r\n" + whole.replace(b"alive;", b"two;") + whole.replace(b"alive;", b"three;"))
        async with asyncio.timeout(10):
            answers = b""
            while answers.count(b"SIP/2.0 200 OK") < 3:
                answers += await reader.read(9_000)
        for garbage in (
            b"\0" * 20_000,
            whole.replace(b"Content-Length: 0", b"Content-Length: 99999"),
            b"x\r\n\r\n",
        ):
            bad_reader, bad = await asyncio.open_connection("127.0.0.1", server.port)
            bad.write(garbage)
            async with asyncio.timeout(10):
                assert await bad_reader.read(9_000) == b""
            bad.close()
        writer.write(whole.replace(b"alive;", b"four;"))
        async with asyncio.timeout(10):
            assert b"200 OK" in await reader.read(9_000)
        writer.close()


async def test_a_port_that_is_taken_is_told_to_the_operator() -> None:
    async with SipServer(loopback(41_000), nobody) as server:
        with pytest.raises(SipConfigError, match="cannot bind"):
            async with SipServer(loopback(41_200, port=server.port), nobody):
                pass


async def test_an_open_port_is_one_that_is_free_for_udp_and_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    create, asked = loop.create_server, list[int]()

    async def taken_twice(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Server:
        asked.append(port)
        if len(asked) > 2:
            return await create(factory, host, port)
        raise OSError(errno.EADDRINUSE, "address already in use")

    monkeypatch.setattr(loop, "create_server", taken_twice)
    async with SipServer(loopback(41_000), nobody) as server:
        assert server.port == asked[2]
        assert len(set(asked)) == 3
