"""The `maya serve` process: signals, the Procfile, a broken start."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from infra.errors import CommandError
from infra.loading import load
from infra.local_server import LocalServer, free_port, local_server
from infra.server import bind, serve_on
from infra.settings import Settings
from telephony.simulator import Report, Scenario, simulate
from tests.certificates import certificate
from tests.infra.served import served
from tests.telephony.twilio_support import CALL, dtmf, signature, start

ROOT = Path(__file__).parents[2]


def scenario(*steps: Any) -> Scenario:
    return Scenario.model_validate(
        {"name": "test", "voice": "ruth", "network": {"delay_ms": 5}, "steps": steps}
    )


def outcome(tmp_path: Path, report: Report) -> dict[str, Any]:
    transcript = json.loads((tmp_path / "calls" / report.call_sid / "transcript.json").read_text())
    result: dict[str, Any] = transcript["outcome"]
    return result


async def call(server: LocalServer, tmp_path: Path, *steps: Any) -> Report:
    return await simulate(
        scenario(*steps), url=server.stream_url, auth_token=server.auth_token, calls_dir=tmp_path / "calls"
    )


@pytest.mark.realtime
async def test_a_signed_call_is_answered_and_kept(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        report = await call(server, tmp_path, "listen", {"say": "Hello there."}, "listen", "hang_up")
    assert not report.violations
    assert [turn.gap_ms is not None for turn in report.turns] == [True]
    assert outcome(tmp_path, report)["outcome"] == "completed"
    assert (tmp_path / "calls" / report.call_sid / "recording.wav").stat().st_size > 44


@pytest.mark.realtime
async def test_sigterm_lets_a_live_call_end(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        calling = asyncio.create_task(
            call(server, tmp_path, "listen", {"wait": 1}, {"say": "Hello there."}, "listen", "hang_up")
        )
        await asyncio.sleep(2.5)
        server.process.send_signal(signal.SIGTERM)
        report = await calling
        assert server.process.wait(10) == 0
    assert [turn.gap_ms is not None for turn in report.turns] == [True]
    assert outcome(tmp_path, report)["reason"] == "caller hung up"


@pytest.mark.realtime
async def test_a_call_that_outlasts_the_drain_hears_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAYA_DRAIN_S", "0.5")
    with served(tmp_path) as server:
        calling = asyncio.create_task(call(server, tmp_path, "listen", {"wait": 60}))
        await asyncio.sleep(3.0)
        server.process.send_signal(signal.SIGTERM)
        report = await calling
        assert server.process.wait(10) == 0
    assert report.ending == "agent hung up"
    assert "<Hangup" in (report.after_twiml or "")
    assert outcome(tmp_path, report)["outcome"] == "completed"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        local_server(tmp_path, tmp_path / "server.log", ["--persona", "none.toml"]) as server,
        pytest.raises(CommandError, match=r"none\.toml"),
    ):
        server.wait_until_ready(lambda line: None, limit_s=60)
    assert "Traceback" not in "\n".join(server.log_lines())


@contextmanager
def honcho(tmp_path: Path, port: int) -> Iterator[LocalServer]:
    """The Procfile's `web`, started as a developer would, on `port`."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TWILIO_AUTH_TOKEN": "honcho-token",
        "MAYA_PROFILE": "scripted",
        "MAYA_CALLS_DIR": str(tmp_path / "calls"),
    }
    command = [sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "-d", str(tmp_path)]
    command += ["start", "-p", str(port), "web"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield LocalServer(process, port, "honcho-token", tmp_path / "server.log")
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.realtime
async def test_the_procfile_starts_a_server_that_takes_a_call(tmp_path: Path) -> None:
    with honcho(tmp_path, free_port()) as server:
        await asyncio.to_thread(server.wait_until_ready, lambda line: None, 60)
        report = await call(server, tmp_path, "listen", {"say": "Hello there."}, "listen", "hang_up")
    assert [turn.gap_ms is not None for turn in report.turns] == [True]
    assert outcome(tmp_path, report)["outcome"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_in_the_moment_before_it_serves_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr("infra.server.spare_what_is_loaded", lambda: signal.raise_signal(number))
    settings = Settings(insecure=True, profile="scripted", calls_dir=tmp_path / "calls")
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with bind("127.0.0.1", 0) as listener:
            async with asyncio.timeout(30):
                await serve_on(settings, listener, lambda: load(settings))
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


# A new process beside the old one, on one socket

TOKEN = "handed-over-token"
DESK = """
name = "Desk"
greeting = "Hello."
system = "You help."
[tools]
built_in = ["transfer"]
[transfer.targets]
reception = "+12025550101"
[keys]
longest = 1
menu = { 0 = "transfer:reception" }
"""


class Instances:
    """As systemd has them: processes that are given one listening socket. `tls`: they speak it themselves."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        (folder / "desk.toml").write_text(DESK)
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0))
        host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url, self._socket_url = f"http://{host}", f"ws://{host}"
        self._environ = {"TWILIO_AUTH_TOKEN": TOKEN}
        self._trusting: ssl.SSLContext | None = None
        if tls:
            self.url, self._socket_url = f"https://{host}", f"wss://{host}"
            chain, key = certificate(folder, "public")
            self._trusting = ssl.create_default_context(cafile=str(chain))
            self._environ |= {"MAYA_ACCESS_TLS_CERTIFICATE": str(chain), "MAYA_ACCESS_TLS_KEY": str(key)}
            self._environ["MAYA_ACCESS_TLS_AUTHORITY"] = str(chain)
        self._environ["MAYA_PUBLIC_URL"] = self.url
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """Returns once it is ready."""
        address = self._folder / f"{name}.notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(address))
            notify.settimeout(60)
            environ = {**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(address), **self._environ}
            script = 'exec 3<&"$0"; export LISTEN_PID=$$; exec "$@"'
            command = ["bash", "-c", script, str(self._listener.fileno())]
            command += [sys.executable, "-c", "from infra.cli import main; main()", "serve"]
            command += ["--profile", "scripted", "--persona", str(self._folder / "desk.toml")]
            command += ["--calls-dir", str(self._folder / "calls")]
            with (self._folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    command, env=environ, stdout=log, stderr=log, pass_fds=[self._listener.fileno()]
                )
            self.processes.append(process)
            assert notify.recv(64) == b"READY=1"
        return process

    def end(self) -> None:
        self._listener.close()
        for process in self.processes:
            process.kill()
            process.wait()

    async def until_logged(self, name: str, words: str) -> None:
        async with asyncio.timeout(20):
            while words not in (self._folder / f"{name}.log").read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def post(self, path: str, **fields: str) -> str:
        form = {"CallSid": CALL, "From": "+15550100", "To": "+15550199"} | fields
        signed = {"X-Twilio-Signature": signature(f"{self.url}{path}", form, TOKEN)}
        async with httpx.AsyncClient(verify=self._trusting or False) as web:
            answer = await web.post(f"{self.url}{path}", data=form, headers=signed, timeout=20)
        assert answer.status_code in (200, 204), answer.text
        return answer.text

    @asynccontextmanager
    async def stream(self, twiml: str) -> AsyncIterator[Any]:
        parameters = dict(re.findall(r'<Parameter name="(\w+)" value="([^"]+)" />', twiml))
        url = f"{self._socket_url}/twilio/media"
        signed = {"X-Twilio-Signature": signature(url, token=TOKEN)}
        async with websockets.connect(url, additional_headers=signed, ssl=self._trusting) as stream:
            await stream.send(start(**parameters))
            yield stream


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def instances(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Instances]:
    instances = Instances(tmp_path, tls=request.param)
    yield instances
    instances.end()


async def passed_on(instances: Instances, stream: Any) -> None:
    """The caller presses the key for it: the stream closes, and Twilio is told whom to dial."""
    await stream.send(dtmf("0"))
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await stream.recv()
    twiml = await instances.post("/twilio/after")
    assert "<Dial" in twiml
    assert "+12025550101" in twiml


async def test_a_transfer_on_a_server_that_drains_is_dialled_and_comes_back(
    instances: Instances,
) -> None:
    """Twilio asks the new process, which has the socket, about the old one's call."""
    old = await asyncio.to_thread(instances.start, "old")
    async with instances.stream(await instances.post("/twilio/voice")) as first:
        await first.recv()
        await asyncio.to_thread(instances.start, "new")
        old.send_signal(signal.SIGTERM)
        await instances.until_logged("old", "waiting up to")  # it has let go of the socket
        old.send_signal(signal.SIGTERM)  # said twice is not said louder: who wants it at once sends SIGINT
        await passed_on(instances, first)
    back = await instances.post("/twilio/dialled", DialCallStatus="busy", CallStatus="in-progress")
    async with instances.stream(back) as second:
        while json.loads(await second.recv())["event"] != "media":
            pass
        await instances.until_logged("new", "is carried to")
        await passed_on(instances, second)
    answered = {"ParentCallSid": CALL, "CallSid": "CA" + "0" * 32, "CallStatus": "in-progress"}
    await instances.post("/twilio/transfer", **answered)
    assert await asyncio.to_thread(old.wait, 20) == 0, "its last call is over"
    assert "<Hangup" in await instances.post("/twilio/dialled", DialCallStatus="completed")
