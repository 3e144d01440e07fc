"""The `maya serve` process: signals, the Procfile, a broken start."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.errors import CommandError
from infra.local_server import LocalServer, free_port, local_server
from telephony.simulator import Report, Scenario, simulate
from tests.infra.served import served

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
