"""A real `maya serve` in a process of its own, for the demo: signed, on loopback, with its log in a file."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from infra.errors import CommandError

_POLL_S = 0.1
_LOADING_LIMIT_S = 600.0
_STOPPING_LIMIT_S = 20.0


class LocalServer:
    """A running server. `auth_token` signs webhooks and streams as Twilio would."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, auth_token: str, log: Path) -> None:
        self.process = process
        self._log = log
        self.port = port
        self.auth_token = auth_token

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/twilio/media"

    def log_lines(self) -> list[str]:
        with contextlib.suppress(OSError):
            return self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return []

    def wait_until_ready(self, progress: Callable[[str], None], limit_s: float = _LOADING_LIMIT_S) -> None:
        """Return once `/readyz` says so; `progress` gets each log line. Raises `CommandError`."""
        deadline = time.monotonic() + limit_s
        shown = 0
        while True:
            lines = self.log_lines()
            for line in lines[shown:]:
                progress(line)
            shown = len(lines)
            if (status := self.process.poll()) is not None:
                said = "\n  ".join(self.log_lines()[-5:])
                how = (
                    f"was killed by signal {-status}" if status < 0 else f"stopped with exit status {status}"
                )
                raise CommandError(f"the server {how} while it started:\n  {said}\nwhole log: {self._log}")
            if self._ready():
                return
            if time.monotonic() > deadline:
                raise CommandError(f"the server was not ready after {limit_s:.0f} s; its log: {self._log}")
            time.sleep(_POLL_S)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(json.load(answer)["status"] == "ready")
        except (OSError, ValueError, KeyError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOPPING_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def local_server(
    calls_dir: Path, log: Path, options: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Iterator[LocalServer]:
    """Start `maya serve` with a random auth token on a free loopback port; stop it in the end."""
    port = free_port()
    token = secrets.token_urlsafe(32)
    # What the user has set for the real server must not reach this one.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TWILIO_")
        and name not in ("MAYA_PUBLIC_URL", "MAYA_HOST", "MAYA_PORT", "PORT")
    }
    environment |= {**(environ or {}), "TWILIO_AUTH_TOKEN": token}
    command = [sys.executable, "-c", "from infra.cli import main; main()", "serve", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--calls-dir", str(calls_dir), *options]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to handle: it must not reach the server first
        )
    server = LocalServer(process, port, token, log)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
