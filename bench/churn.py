"""`maya bench churn`: ten thousand short calls in a row, and a restart under a hundred live ones.

**Short calls.** The server (`bench.churn_server`) is all of `maya serve` over stand-in models, recordings and
every other observer on. Each caller comes as Twilio's do, through a signed webhook and a stream with its
token, hears the agent begin, and hangs up; `at_once` of them are on at any time, without pauses. After
`warm_up` calls:

- `kib_slope_per_call`: slope of the server's resident memory over the number of calls (least squares).
- `leaked_slots`, `leaked_handles`, `leaked_tasks`: places still taken, descriptors and asyncio tasks more
  than after the warm-up, each time once the server is quiet; `leaked` is their sum.

**Restart.** `maya serve` on a socket that this bench holds and hands to it as systemd would (LISTEN_FDS).
With `live` calls on, and `per_s` new ones coming in all the time, a second `maya serve` starts on the same
socket; once it says that it is ready (NOTIFY_SOCKET) the first one gets SIGTERM. Most callers hang up within
the drain's time, the others hear a goodbye.

- `dropped`: calls that ended in any other way than by their caller or by that goodbye, calls whose caller is
  told sorry behind it (Twilio asks `/twilio/after` once the stream is closed; the new process answers), and
  calls that came in and were not served within `PATIENCE_S`.
- `restart_s`: from SIGTERM to the old process's end.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.media import _rss_kib
from bench.media_load import LoadCaller, Pacer
from bench.report import Report
from bench.short_calls import TwilioDouble, heard
from infra.local_server import free_port
from telephony.simulator.caller import Speech
from telephony.simulator.dial import Account
from telephony.simulator.errors import CannotCall
from telephony.simulator.voices import speak
from telephony.twilio.routes import AFTER

PATIENCE_S = 10.0
"""A caller who hears nothing for so long was not served."""
_START_LIMIT_S = 60.0
_QUIET_LIMIT_S = 30.0
_SAMPLE_EVERY = 100
_MEDIA_MESSAGES = 5
_DRAIN_S = 12.0
_FAREWELL_S = 12.0
"""How long a goodbye may take beyond the drain."""
_LINE = "Sorry, what about the day after tomorrow?"
_PERSONA = """name = "bench"
greeting = "We are open on weekdays from nine in the morning until five in the afternoon. How can I help you?"
system = "You talk."
goodbye = "Goodbye."
"""

Progress = Callable[[str], None]


def run(
    *,
    calls: int = 10_000,
    warm_up: int = 1_000,
    at_once: int = 40,
    live: int = 100,
    per_s: float = 3.0,
    progress: Progress = lambda line: None,
) -> Report:
    """About four minutes. `calls` 0 leaves out the short ones, `live` 0 the restart. Raises `CannotCall`
    when a server does not start."""
    figures: dict[str, object] = {}
    details: dict[str, object] = {}
    if calls:
        figures |= _short_calls(calls, warm_up, at_once, details, progress)
    if live:
        figures |= _loop(_restart(live, per_s, details, progress))
    return Report(
        figures=figures, notes=["stand-in models; recording and all other observers on"], details=details
    )


def _loop(main: object) -> dict[str, object]:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result: dict[str, object] = runner.run(main)  # type: ignore[arg-type]
        return result


# Ten thousand short calls


def _short_calls(
    calls: int, warm_up: int, at_once: int, details: dict[str, object], progress: Progress
) -> dict[str, object]:
    token = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="maya-churn-") as folder:
        port, control = free_port(), Path(folder) / "inside"
        command = [sys.executable, "-m", "bench.churn_server", "--port", str(port), "--control", str(control)]
        environ = {**_clean_environ(), "TWILIO_AUTH_TOKEN": token}
        process = subprocess.Popen(command, start_new_session=True, env=environ)
        try:
            _wait_ready(process, port)
            churn = _Churn(process.pid, port, control, token, at_once, progress)
            figures = _loop(churn.measure(calls, warm_up))
            details["samples"] = churn.samples
            return figures
        finally:
            _end(process)


class _Churn:
    def __init__(
        self, pid: int, port: int, control: Path, token: str, at_once: int, progress: Progress
    ) -> None:
        self.samples: list[tuple[int, int]] = []
        """(calls so far, resident KiB)."""
        self._pid = pid
        self._double = TwilioDouble(port, token)
        self._control = control
        self._at_once = at_once
        self._progress = progress
        self._done = self._unserved = 0

    async def measure(self, calls: int, warm_up: int) -> dict[str, object]:
        await self._call(warm_up)
        before = await self._quiet()
        self.samples.clear()
        began = time.monotonic()
        await self._call(calls)
        took_s = time.monotonic() - began
        after = await self._quiet()
        done, kib = np.array(self.samples, np.float64).T
        slope = float(np.polyfit(done, kib, 1)[0])
        leaked = {
            "slots": int(after["in_use"]),
            "handles": int(after["handles"]) - int(before["handles"]),
            "tasks": int(after["tasks"]) - int(before["tasks"]),
        }
        return {
            "calls": calls,
            "calls_per_s": round(calls / took_s, 1),
            "kib_slope_per_call": round(slope, 2),
            "leaked": sum(max(0, more) for more in leaked.values()),
            **{f"leaked_{what}": more for what, more in leaked.items()},
            "unserved": self._unserved,
        }

    async def _call(self, calls: int) -> None:
        left = iter(range(calls))

        async def one_after_another() -> None:
            for number in left:
                await self._one(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(one_after_another())

    async def _one(self, number: int) -> None:
        try:
            account, twiml = await self._double.ring(number)
            caller = await self._double.connect(number, account, twiml, (), cycle=1)
        except (CannotCall, ConnectionError) as error:
            self._unserved += 1
            self._progress(f"a call was not served: {error}")
            return
        for _ in range(_MEDIA_MESSAGES):
            caller.tick()
        self._unserved += not await heard(caller, PATIENCE_S)
        caller.hang_up()
        await caller.ended.wait()
        self._done += 1
        if self._done % _SAMPLE_EVERY == 0:
            self.samples.append((self._done, _rss_kib(self._pid)))
        if self._done % 1_000 == 0:
            self._progress(f"{self._done} calls, {self.samples[-1][1] / 1024:.0f} MiB")

    async def _quiet(self) -> dict[str, int]:
        """What the server holds once no call is on and it holds no less any more."""
        deadline = time.monotonic() + _QUIET_LIMIT_S
        seen: dict[str, int] = {}
        while time.monotonic() < deadline:
            now = await self._inside()
            if now == seen and not now["in_use"]:
                break
            seen = now
            await asyncio.sleep(2.0)
        self._progress(f"quiet: {seen}")
        return seen

    async def _inside(self) -> dict[str, int]:
        reader, writer = await asyncio.open_unix_connection(self._control)
        told = json.loads(await reader.read())
        writer.close()
        ready = await asyncio.to_thread(_readiness, self._double.port)
        return {
            "in_use": int(ready["in_use"]),
            **{what: int(told[what]) for what in ("tasks", "handles", "threads")},
        }


# A restart


@dataclass(slots=True)
class _Tally:
    """How calls ended."""

    hung_up: int = 0
    goodbye: int = 0
    dropped: int = 0
    unserved: int = 0


async def _restart(
    live: int, per_s: float, details: dict[str, object], progress: Progress
) -> dict[str, object]:
    token = secrets.token_urlsafe(32)
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix="maya-restart-") as name, _listener() as listener:
        folder, port = Path(name), listener.getsockname()[1]
        (folder / "persona.toml").write_text(_PERSONA)
        old = await _started(folder, "old", listener, token)
        pacer = Pacer()
        pacing = asyncio.create_task(pacer.run(), name="pacer")
        restart = _Restart(TwilioDouble(port, token), pacer, tally, time.monotonic())
        new: subprocess.Popen[bytes] | None = None
        try:
            # Three in ten stay until they are told goodbye.
            patient = [number % 10 < 3 for number in range(live)]
            calls = [
                asyncio.create_task(restart.call(number, stays=patient[number])) for number in range(live)
            ]
            await restart.all_on(live)
            progress(f"{live} calls are on")
            coming = asyncio.create_task(restart.keep_coming(per_s))
            new = await _started(folder, "new", listener, token)
            before = restart.came
            old.send_signal(signal.SIGTERM)
            restart.told_at = asked = time.monotonic()
            progress(f"the old server is told to stop with {len(restart.on)} calls on")
            at_signal = len(restart.on)
            await asyncio.to_thread(old.wait, _DRAIN_S + _FAREWELL_S + 20.0)
            took_s = time.monotonic() - asked
            await asyncio.gather(*calls)
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            await restart.everybody_leaves()
            during = restart.came - before
        finally:
            pacing.cancel()
            for process in filter(None, (old, new)):
                await asyncio.to_thread(_end, process)
            await asyncio.gather(pacing, return_exceptions=True)
    details["restart"] = {name: getattr(tally, name) for name in tally.__slots__}
    return {
        "dropped": tally.dropped + tally.unserved,
        "live_at_sigterm": at_signal,
        "goodbyes": tally.goodbye,
        "hung_up": tally.hung_up,
        "calls_in_while_draining": during,
        "restart_s": round(took_s, 1),
    }


class _Restart:
    def __init__(self, double: TwilioDouble, pacer: Pacer, tally: _Tally, began: float) -> None:
        self.on: set[LoadCaller] = set()
        self.came = 0
        self.told_at: float | None = None
        """When the old server got its signal."""
        self._double = double
        self._pacer = pacer
        self._tally = tally
        self._line = Speech.of(_LINE, speak(_LINE, "ruth")).audio_frames
        self._late: list[asyncio.Task[None]] = []

    async def call(self, number: int, *, stays: bool, lasts_s: float | None = None) -> None:
        """One caller, who speaks now and then, and hangs up some time after the signal, unless they stay."""
        try:
            account, twiml = await self._double.ring(number)
            caller = await self._double.connect(
                number, account, twiml, self._line, cycle=1_000, offset=100 + (number * 37) % 800
            )
        except (CannotCall, ConnectionError):
            self._tally.unserved += 1
            return
        self._pacer.callers.append(caller)
        try:
            if not await heard(caller, PATIENCE_S):
                self._tally.unserved += 1
                return
            self.came += 1
            self.on.add(caller)
            await self._talk(caller, account, number, stays, lasts_s)
        finally:
            self.on.discard(caller)
            self._pacer.callers.remove(caller)
            caller.hang_up()

    async def _talk(
        self, caller: LoadCaller, account: Account, number: int, stays: bool, lasts_s: float | None
    ) -> None:
        leaving = asyncio.create_task(self._leave(number, stays, lasts_s))
        ended = asyncio.create_task(caller.ended.wait())
        await asyncio.wait((leaving, ended), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        ended.cancel()
        if not caller.ended.is_set():
            self._tally.hung_up += 1
            return
        told = self.told_at
        said = caller.close_code == 1000 and told is not None and time.monotonic() - told >= _DRAIN_S - 0.5
        if said and stays and await self._goes_quietly(account):
            self._tally.goodbye += 1
        else:
            self._tally.dropped += 1

    async def _goes_quietly(self, account: Account) -> bool:
        """What Twilio is told to do behind the closed stream: to hang up, and to say nothing."""
        try:
            twiml = await self._double.post(AFTER, account)
        except CannotCall:
            return False
        return "<Hangup" in twiml and "<Say" not in twiml

    async def _leave(self, number: int, stays: bool, lasts_s: float | None) -> None:
        if lasts_s is not None:
            await asyncio.sleep(lasts_s)
            return
        while self.told_at is None or stays:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep((number * 37) % 100 / 100 * (_DRAIN_S - 2.0))

    async def all_on(self, live: int) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while len(self.on) < live:
            if self._tally.unserved or time.monotonic() > deadline:
                raise CannotCall(f"only {len(self.on)} of {live} calls could be set up")
            await asyncio.sleep(0.1)

    async def keep_coming(self, per_s: float) -> None:
        number = 10_000
        while True:
            number += 1
            task = asyncio.create_task(self.call(number, stays=False, lasts_s=4.0))
            self._late.append(task)
            await asyncio.sleep(1 / per_s)

    async def everybody_leaves(self) -> None:
        await asyncio.gather(*self._late)


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(socket.SOMAXCONN)
        yield listener


async def _started(folder: Path, name: str, listener: socket.socket, token: str) -> "subprocess.Popen[bytes]":
    """A `maya serve` that says that it is ready."""
    address = folder / f"{name}.notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.settimeout(_START_LIMIT_S)
        process = _serve(folder, name, listener, token, address)
        try:
            said = await asyncio.to_thread(notify.recv, 256)
        except TimeoutError:
            _end(process)
            raise CannotCall(f"the {name} server did not get ready: {folder / name}.log") from None
        if said != b"READY=1":
            _end(process)
            raise CannotCall(f"the {name} server said {said!r}")
        return process


def _serve(
    folder: Path, name: str, listener: socket.socket, token: str, notify: Path
) -> "subprocess.Popen[bytes]":
    """With the listening socket as descriptor 3, which is what systemd does."""
    options = ["--profile", "scripted", "--persona", str(folder / "persona.toml"), "--log-level", "warning"]
    options += ["--calls-dir", str(folder / "calls")]  # as in a deployment, one store for both
    main = "from infra.cli import main; main()"
    # The shell becomes the server, so that its number is known to it before it begins.
    script = 'exec 3<&"$0"; export LISTEN_PID=$$; exec "$@"'
    handed = str(listener.fileno())
    command = ["bash", "-c", script, handed, sys.executable, "-c", main, "serve", *options]
    environ = {
        **_clean_environ(),
        "LISTEN_FDS": "1",
        "NOTIFY_SOCKET": str(notify),
        "TWILIO_AUTH_TOKEN": token,
        "MAYA_CAPACITY_CALLS": "400",
        "MAYA_DRAIN_S": str(_DRAIN_S),
    }
    return subprocess.Popen(command, start_new_session=True, pass_fds=[listener.fileno()], env=environ)


def _clean_environ() -> dict[str, str]:
    """Without what the user has set for the real server."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TWILIO_", "MAYA_", "LISTEN_"))
    }


def _readiness(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        told: dict[str, int] = json.load(answer)
        return told


def _wait_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        if process.poll() is not None:
            raise CannotCall("the server under test did not start; its own words stand above")
        with contextlib.suppress(OSError):
            _readiness(port)
            return
        if time.monotonic() > deadline:
            raise CannotCall(f"the server under test took more than {_START_LIMIT_S:.0f} s to start")
        time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_DRAIN_S + _FAREWELL_S + 10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
