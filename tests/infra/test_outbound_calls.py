"""Calls that we make, as a whole: `maya dial` orders one from a real `maya serve`, which asks a carrier on
this machine to place it. That carrier then plays Twilio's part, or is a SIP trunk."""

import asyncio
import json
import os
import queue
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from infra.access.keys import new_key
from infra.local_server import LocalServer, local_server
from infra.outbound.ledger import DoNotCall
from pipeline.line import LINE_RATE_HZ, Line, Pcm
from telephony.answer import WhileAccepting
from telephony.simulator.dial import Account
from telephony.simulator.realtime import TEST_ACCOUNT_SID
from telephony.simulator.voices import speak
from telephony.sip.server import SipServer
from tests.ways_in import (
    Outcome,
    SipCaller,
    StreamCaller,
    on_the_line,
    over_twilio,
    phone_config,
    twilio_account,
)

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(180)]

KEY, HASH = new_key()
OURS = "+12025550199"
ALWAYS = 'weekdays = "00:00-24:00"\nsaturday = "00:00-24:00"\nsunday = "00:00-24:00"'
NEVER = 'weekdays = ""'
PERSONA = """
name = "Greenfield Clinic"
greeting = "Greenfield Clinic, this is Maya. How can I help you?"
system = "You are Maya, the receptionist of Greenfield Clinic, on the phone. Reply with one short sentence."

[outbound]
message = "Your appointment is on Thursday at ten."
"""
DISCLOSURE = "Hello, this is an automated call. I am the AI assistant of Greenfield Clinic."
MESSAGE = "This is an automated message from Greenfield Clinic. Your appointment is on Thursday at ten."


# The server and whoever orders from it


@contextmanager
def serving(
    folder: Path,
    profile: str = "scripted",
    *,
    hours: str = ALWAYS,
    trunk: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[LocalServer]:
    """A server that may call numbers in Washington, through Twilio or the SIP trunk at port `trunk`."""
    folder.mkdir(exist_ok=True)
    (folder / "reminder.toml").write_text(PERSONA, encoding="utf-8")
    settings = [
        f'profile = "{profile}"',
        'persona = "reminder.toml"',
        "[outbound]",
        'allowed_prefixes = ["+1202"]',
        f'caller_id = "{OURS}"',
        f'via = "{"twilio" if trunk is None else "sip"}"',
        'do_not_call = "do-not-call.txt"',
        "calls_per_s = 50",
        "ring_s = 5",
        f'api_keys = ["{HASH}"]',
        "[outbound.hours]",
        'timezone = "UTC"',
        hours,
    ]
    if trunk is not None:
        settings += ["[sip]", "port = 0", "[sip.trunk]", 'host = "127.0.0.1"', f"port = {trunk}"]
        settings += ["register_calls = false"]
    path = folder / "maya.toml"
    path.write_text("\n".join(settings), encoding="utf-8")
    told = {"TWILIO_ACCOUNT_SID": TEST_ACCOUNT_SID, **(environ or {})}
    with local_server(folder / "calls", folder / "server.log", ["--config", str(path)], told) as server:
        server.wait_until_ready(lambda line: None, limit_s=100)
        yield server


class Dial:
    """`maya dial` in a process of its own; `lines` are what it has said so far, errors included."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[str] = []
        self.process = process
        self._reading = asyncio.create_task(self._read(), name="maya dial")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(20):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def dialling(server: LocalServer, number: str, *options: str, key: str = KEY) -> AsyncIterator[Dial]:
    environment = os.environ | {"MAYA_API_KEY": key, "MAYA_SERVER": f"http://127.0.0.1:{server.port}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from infra.cli import main; main()", "dial", number, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        yield Dial(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def refused(server: LocalServer, number: str, *options: str, key: str = KEY) -> str:
    """What `maya dial` says of an order that is not taken."""
    async with dialling(server, number, *options, key=key) as dial:
        assert await dial.ended() == 2
        return "\n".join(dial.lines)


def turns_of(folder: Path, call_id: str) -> list[dict[str, Any]]:
    document = json.loads((folder / "calls" / call_id / "transcript.json").read_text())
    assert document["faults"] == []
    turns: list[dict[str, Any]] = document["turns"]
    return turns


# Twilio


class Twilio:
    """Takes orders as api.twilio.com does, in the thread of the HTTP server, and hands them to the test."""

    def __init__(self, server: HTTPServer) -> None:
        self.placed: queue.Queue[dict[str, str]] = queue.Queue()
        path = f"/2010-04-01/Accounts/{TEST_ACCOUNT_SID}/Calls.json"
        server.expect_request(path, method="POST").respond_with_handler(self._take)
        self._serial = 0

    def _take(self, request: Request) -> Response:
        self._serial += 1
        form = dict(parse_qsl(request.get_data(as_text=True)))
        form["CallSid"] = f"CA{self._serial:032x}"
        self.placed.put(form)
        taken = {"sid": form["CallSid"], "status": "queued"}
        return Response(json.dumps(taken), 201, content_type="application/json")

    async def next(self, server: LocalServer) -> "Leg":
        return Leg(await asyncio.to_thread(self.placed.get, timeout=15), server)


class Leg:
    """One call that Twilio was asked to make."""

    def __init__(self, form: Mapping[str, str], server: LocalServer) -> None:
        self.form = form
        account = twilio_account(server.auth_token, caller=form["From"], called=form["To"])
        self.account = Account(
            **{name: getattr(account, name) for name in account.__slots__} | {"call_sid": form["CallSid"]}
        )

    async def report(self, status: str) -> None:
        """To the order's status callback, signed."""
        url, form = self.form["StatusCallback"], self.account.form(status)
        async with httpx.AsyncClient() as web:
            answer = await web.post(url, data=form, headers=self.account.signature(url, form))
        assert answer.status_code == 204

    @asynccontextmanager
    async def answered(self) -> AsyncIterator[StreamCaller]:
        """Somebody or something has picked up, and is connected to what our TwiML says."""
        await self.report("ringing")
        async with over_twilio(self.form["Url"], self.account) as caller:
            yield caller
        await self.report("completed")


@pytest.fixture(scope="module")
def scripted(
    tmp_path_factory: pytest.TempPathFactory, make_httpserver: HTTPServer
) -> Iterator[tuple[LocalServer, Path]]:
    """One server for what needs no models; each test dials numbers of its own."""
    folder = tmp_path_factory.mktemp("scripted")
    with serving(folder, environ={"MAYA_TWILIO_API": make_httpserver.url_for("")}) as server:
        yield server, folder


async def test_somebody_who_answers_is_told_at_once_that_a_machine_calls(
    scripted: tuple[LocalServer, Path], httpserver: HTTPServer
) -> None:
    server, folder = scripted
    twilio, number = Twilio(httpserver), "+12025550101"
    async with dialling(server, number, "--persona", "reminder") as dial:
        leg = await twilio.next(server)
        assert (leg.form["From"], leg.form["To"]) == (OURS, number)
        async with leg.answered() as caller:
            await caller.say(tone(0.5))  # the stand-in for hearing takes it for "Hello there."
            await caller.until(sounding=True)
            await caller.until(sounding=False, for_s=1.0)
        assert await dial.ended() == 0
    states = [line.removeprefix(f"{number}: ") for line in dial.lines]
    assert states[0] == "waiting"
    assert states[-2:] == ["answered", "over (caller hung up)"]
    assert set(states[1:-2]) <= {"dialling", "ringing"}
    greeting = turns_of(folder, leg.account.call_sid)[0]
    assert greeting["agent"].startswith(DISCLOSURE)


@pytest.mark.parametrize(
    ("status", "word", "number"),
    [
        ("busy", "busy", "+12025550111"),
        ("no-answer", "no answer", "+12025550112"),
        ("failed", "failed", "+12025550113"),
    ],
)
async def test_a_phone_that_nobody_answers_fails_with_the_reason(
    scripted: tuple[LocalServer, Path], httpserver: HTTPServer, status: str, word: str, number: str
) -> None:
    server, _ = scripted
    twilio = Twilio(httpserver)
    async with dialling(server, number) as dial:
        leg = await twilio.next(server)
        await leg.report("ringing")
        await leg.report(status)
        assert await dial.ended() == 1
    assert dial.lines[-1] == f"{number}: failed ({word})"


async def test_who_is_gone_before_the_stream_began_was_not_talked_to(
    scripted: tuple[LocalServer, Path], httpserver: HTTPServer
) -> None:
    server, _ = scripted
    twilio, number = Twilio(httpserver), "+12025550120"
    async with dialling(server, number) as dial:
        leg = await twilio.next(server)
        await leg.report("completed")
        assert await dial.ended() == 1
    assert dial.lines[-1] == f"{number}: failed (hung up before the call began)"


async def test_what_twilio_refuses_is_passed_on(
    scripted: tuple[LocalServer, Path], httpserver: HTTPServer
) -> None:
    server, _ = scripted
    path = f"/2010-04-01/Accounts/{TEST_ACCOUNT_SID}/Calls.json"
    told = {"code": 21219, "message": "The number is unverified.", "status": 400}
    httpserver.expect_request(path).respond_with_json(told, status=400)
    async with dialling(server, "+12025550121") as dial:
        assert await dial.ended() == 1
    assert "The number is unverified." in dial.lines[-1]


async def test_orders_that_are_not_taken_say_why(scripted: tuple[LocalServer, Path]) -> None:
    server, _ = scripted
    assert "a key is needed" in await refused(server, "+12025550122", key="wrong")
    assert "no persona is named 'nobody'" in await refused(server, "+12025550122", "--persona", "nobody")
    assert "allowed_prefixes" in await refused(server, "+12125551234")
    assert "emergency" in await refused(server, "911")


async def test_outside_the_hours_nobody_is_called(tmp_path: Path, httpserver: HTTPServer) -> None:
    twilio = Twilio(httpserver)
    with serving(tmp_path, hours=NEVER, environ={"MAYA_TWILIO_API": httpserver.url_for("")}) as server:
        assert "outside the calling hours (UTC)" in await refused(server, "+12025550123")
    assert twilio.placed.empty()


# A SIP trunk


class Trunk:
    """Whoever is called through it says hello, listens, and hangs up."""

    def __init__(self) -> None:
        self.calls: list[SipCaller] = []
        self.free = True
        self.picks_up = asyncio.Event()

    async def __call__(self, line: Line) -> Outcome:
        caller = SipCaller(line)
        self.calls.append(caller)
        async with on_the_line(caller):
            await caller.say(tone(0.5))
            await caller.until(sounding=True)
            await caller.until(sounding=False, for_s=1.0)
        return Outcome()


async def test_calls_go_through_a_trunk(tmp_path: Path) -> None:
    trunk = Trunk()
    async with SipServer(phone_config(), trunk, lines=WhileAccepting(lambda: trunk.free)) as provider:
        with serving(tmp_path, trunk=provider.port) as server:
            async with dialling(server, "+12025550124") as dial:
                assert await dial.ended() == 0
            assert dial.lines[-2:] == [
                "+12025550124: answered",
                "+12025550124: over (caller hung up)",
            ]
            (caller,) = trunk.calls
            assert (caller.line.info.called, caller.line.info.caller) == ("+12025550124", OURS)
            (call,) = (tmp_path / "calls").glob("*/transcript.json")
            assert turns_of(tmp_path, call.parent.name)[0]["agent"].startswith(DISCLOSURE)

            trunk.free = False
            async with dialling(server, "+12025550125") as dial:
                assert await dial.ended() == 1
            assert dial.lines[-1] == "+12025550125: failed (busy)"


async def test_a_trunk_that_says_nothing_is_no_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with serving(tmp_path, trunk=silent.getsockname()[1]) as server:
            async with dialling(server, "+12025550126") as dial:
                assert await dial.ended() == 1
    assert dial.lines[-1] == "+12025550126: failed (no answer)"


def tone(seconds: float) -> Pcm:
    """Something that sounds, for stand-ins that hear no words."""
    at = np.arange(round(seconds * LINE_RATE_HZ)) / LINE_RATE_HZ
    return (8_000 * np.sin(2 * np.pi * 200 * at)).astype(np.int16)


# With real models


def beep() -> Pcm:
    at = np.arange(round(0.5 * LINE_RATE_HZ)) / LINE_RATE_HZ
    return (6_000 * np.sin(2 * np.pi * 1_000 * at)).astype(np.int16)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * LINE_RATE_HZ), np.int16)


@pytest.mark.models
async def test_machines_get_a_message_and_people_their_way(tmp_path: Path, httpserver: HTTPServer) -> None:
    twilio = Twilio(httpserver)
    greeting = speak(
        "You have reached the voicemail of Ruth. Please leave a message after the tone.", "martin"
    )
    with serving(tmp_path, "tiny", environ={"MAYA_TWILIO_API": httpserver.url_for("")}) as server:
        async with dialling(server, "+12025550131") as dial:
            leg = await twilio.next(server)
            async with leg.answered() as machine:
                await machine.say(np.concatenate([greeting, silence(0.6), beep()]))
                assert not any(np.abs(piece).max() > 300 for piece in machine.heard)
                await machine.until(sounding=True)
                await until_over(machine)
            assert await dial.ended() == 0
        assert dial.lines[-1] == "+12025550131: over (message left)"
        assert turns_of(tmp_path, leg.account.call_sid)[-1]["heard"] == MESSAGE

        number = "+12025550132"
        async with dialling(server, number) as dial:
            leg = await twilio.next(server)
            async with leg.answered() as caller:
                await caller.say(speak("Hello?", "ruth"))
                await caller.until(sounding=True)
                await caller.until(sounding=False, for_s=1.0)
                await caller.say(speak("Please do not call me again.", "ruth"))
                await until_listed(tmp_path / "do-not-call.txt", number)
            assert await dial.ended() == 0
        assert f"{number} is on the do-not-call list" in await refused(server, number)


async def until_over(caller: StreamCaller) -> None:
    async with asyncio.timeout(30):
        while not caller.over:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_listed(path: Path, number: str) -> None:
    unwanted = DoNotCall(path)
    async with asyncio.timeout(15):
        while number not in unwanted.numbers():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
