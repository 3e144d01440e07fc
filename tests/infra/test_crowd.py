"""Five hundred calls at once on a server with room for a few: these lose nothing, all others hear that it is
busy. A real `maya serve` with stand-in models; callers as Twilio, SIP, Asterisk and pages bring them."""

import asyncio
import json
import socket
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.media_load import LoadCaller, Pacer
from bench.short_calls import TwilioDouble, heard
from infra.local_server import LocalServer, free_port, local_server
from telephony.browser.protocol import VERSION
from telephony.simulator.dial import Account
from telephony.socket_client import ClientSocket

pytestmark = pytest.mark.realtime

ROOM = 8
CROWD = 500


@contextmanager
def house(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    told = {"MAYA_CAPACITY_CALLS": str(ROOM), "MAYA_DRAIN_S": "0", **(environ or {})}
    options = ["--profile", "scripted", "--no-record"]
    with local_server(folder / "calls", folder / "server.log", options, told) as server:
        server.wait_until_ready(lambda line: None, limit_s=60)
        yield server


def places(server: LocalServer) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=10) as answer:
        told: dict[str, int] = json.load(answer)
        return told


async def test_webhooks_answer_busy_and_live_calls_lose_nothing(tmp_path: Path) -> None:
    with house(tmp_path) as server:
        double = TwilioDouble(server.port, server.auth_token)
        pacer = Pacer()
        live: list[LoadCaller] = []
        for number in range(ROOM // 2):
            account, twiml = await double.ring(number)
            live.append(await double.connect(number, account, twiml, (), cycle=1_000))
        pacer.callers.extend(live)
        pacing = asyncio.create_task(pacer.run())
        assert all([await heard(caller, 15.0) for caller in live])

        async def ring(number: int) -> tuple[Account, str]:
            await asyncio.sleep(number % 50 / 100)  # as fast as one machine connects
            return await double.ring(number)

        answers = await asyncio.gather(*(ring(1_000 + number) for number in range(CROWD)))
        taken = [(account, twiml) for account, twiml in answers if "<Stream" in twiml]
        assert len(taken) == ROOM - len(live)
        assert sum("busy" in twiml for _, twiml in answers) == CROWD - len(taken)
        told = await asyncio.to_thread(places, server)
        assert told["in_use"] == told["of"] == ROOM
        # Who was let in finds the place that was kept.
        account, twiml = taken[0]
        late = await double.connect(0, account, twiml, (), cycle=1_000)
        pacer.callers.append(late)
        assert await heard(late, 15.0)
        assert not any(caller.closed or caller.starved for caller in [*live, late])
        for caller in [*live, late]:
            caller.hang_up()
        pacing.cancel()
        await asyncio.gather(pacing, return_exceptions=True)


def invite(number: int, port: int, own_port: int) -> bytes:
    body = (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {30_000 + 2 * number} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    head = (
        f"INVITE sip:maya@127.0.0.1:{port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{own_port};branch=z9hG4bK{number:06d}\r\nMax-Forwards: 70\r\n"
        f"From: <sip:{number}@127.0.0.1>;tag=t{number}\r\nTo: <sip:maya@127.0.0.1>\r\n"
        f"Call-ID: crowd-{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:x@127.0.0.1:{own_port}>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def test_sip_phones_hear_busy_before_the_call_is_taken(tmp_path: Path) -> None:
    sip = free_port()
    environ = {"MAYA_SIP_HOST": "127.0.0.1", "MAYA_SIP_PORT": str(sip), "MAYA_SIP_ALLOW": "127.0.0.0/8"}
    # Their own limits are another matter.
    environ |= {"MAYA_SIP_INVITES_PER_S": "1000", "MAYA_SIP_MAX_CALLS": "1000"}
    environ |= {"MAYA_SIP_MAX_CALLS_PER_SOURCE": "1000"}
    with house(tmp_path, environ), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(5.0)
        own_port = phone.getsockname()[1]
        final: dict[str, tuple[int, str]] = {}
        for number in range(CROWD):
            phone.sendto(invite(number, sip, own_port), ("127.0.0.1", sip))
            if number % 50 == 49:
                _collect(phone, final, number + 1)
        _collect(phone, final, CROWD)
        statuses = [status for status, _ in final.values()]
        assert statuses.count(200) == ROOM
        assert statuses.count(486) == CROWD - ROOM
        assert all("retry-after: 5" in text.lower() for status, text in final.values() if status == 486)


def _collect(phone: socket.socket, final: dict[str, tuple[int, str]], wanted: int) -> None:
    """Final answers by Call-ID, until there are so many."""
    while len(final) < wanted:
        text = phone.recv(65_536).decode()
        status = int(text.split(" ", 2)[1])
        if status >= 200:
            call_id = next(line for line in text.splitlines() if line.lower().startswith("call-id"))
            final[call_id] = status, text


async def test_audiosocket_channels_are_hung_up_on(tmp_path: Path) -> None:
    port = free_port()
    environ = {"MAYA_ASTERISK_AUDIOSOCKET_PORT": str(port)}
    with house(tmp_path, environ) as server:
        held: list[asyncio.StreamWriter] = []

        async def call() -> tuple[str, str]:
            name = uuid.uuid4()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            held.append(writer)
            writer.write(b"\x01\x00\x10" + name.bytes)
            head = await reader.readexactly(3)
            if head[0]:
                return "taken", ""
            writer.close()
            url = f"http://127.0.0.1:{server.port}/asterisk/ending?id={name}"
            return "hung up", url

        results = await asyncio.gather(*(call() for _ in range(CROWD)))
        assert [what for what, _ in results].count("taken") == ROOM
        assert [what for what, _ in results].count("hung up") == CROWD - ROOM
        # What the dialplan asks then.
        url = next(url for what, url in results if what == "hung up")
        assert await asyncio.to_thread(_fetch, url) == b"busy\n"
        for writer in held:
            writer.close()


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  (this machine's)
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize("crowd", [100])
async def test_pages_are_told(tmp_path: Path, crowd: int) -> None:
    from websockets.asyncio.client import connect

    with house(tmp_path, {"MAYA_TALK": "true"}) as server:
        origin = f"http://127.0.0.1:{server.port}"

        async def call() -> str:
            url = f"ws://127.0.0.1:{server.port}/talk/media"
            async with connect(url, additional_headers={"Origin": origin}, compression=None) as connection:
                page = ClientSocket(connection)
                await page.send(json.dumps({"event": "start", "version": VERSION}))
                while True:
                    message = await page.receive()
                    if isinstance(message, bytes):
                        await over.wait()
                        return "taken"
                    told = json.loads(message)
                    if told.get("event") == "ended":
                        return str(told["reason"])

        over = asyncio.Event()
        calls = [asyncio.create_task(call()) for _ in range(crowd)]
        async with asyncio.timeout(20):
            while sum(each.done() for each in calls) < crowd - ROOM:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        over.set()
        results = await asyncio.gather(*calls)
        assert (results.count("taken"), results.count("busy")) == (ROOM, crowd - ROOM)
