"""Faults of the store, for `maya bench faults`: the database down for half a minute, and a full disk.

Stand-in calls tell their turns to a real store, ten times as often as people talk. Every turn that was over
is looked for in the database when all is well again: `turns_lost` counts those that are not there as they
were told. `stalled_ms` is the longest that telling an event took, on the side of the call.

PostgreSQL is one of the bench's own, killed with SIGKILL; the full disk is a memory disk of 4 MiB, which
needs root. What is not possible on this machine is said (`skipped`) and not counted.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.small_disk import NoSmallDisk, fill, small_disk
from infra.store.rows import CallQuery
from infra.store.settings import StoreSettings
from infra.store.store import CallStore, StoreObserver
from pipeline.events import AgentClause, AgentTurn, CallEnded, CallerTurn, CallStarted, TurnTimes
from pipeline.line import LineInfo

_BACK_S: Final = 30.0
"""How long what waited may take to be stored."""
_TURN_EVERY_S: Final = 0.5
"""Of each call: ten times as often as people talk."""


@dataclass(frozen=True, slots=True)
class StoreFault:
    """`seconds`: how long the fault lasted; `recovered_s`: until everything was in the database."""

    fault: str
    calls: int
    turns: int
    turns_lost: int
    seconds: float
    recovered_s: float
    stalled_ms: float
    skipped: str = ""


def measure(*, down_s: float = 30.0, full_s: float = 10.0, calls: int = 20) -> list[StoreFault]:
    """Blocks for about a minute. Starts and ends processes of its own, and mounts a disk where it may."""
    return [database_down(down_s, calls), disk_full(full_s, calls)]


def as_json(faults: list[StoreFault]) -> dict[str, Any]:
    """`turns_lost` over all faults that could be made."""
    made = [fault for fault in faults if not fault.skipped]
    return {
        "turns_lost": sum(fault.turns_lost for fault in made) if made else None,
        "faults": [asdict(fault) for fault in faults],
    }


def database_down(seconds: float, calls: int) -> StoreFault:
    """PostgreSQL is killed in mid-call and started again after `seconds`."""
    binaries = _postgres_programs()
    if binaries is None:
        return _skipped("database down", "PostgreSQL is not installed (infra/setup/programs.sh)")
    with tempfile.TemporaryDirectory(prefix="maya-bench-") as folder, _postgres(binaries) as server:
        store = CallStore.open(StoreSettings(url=server.url), Path(folder))
        try:
            return _through("database down", store, calls, seconds, server.kill, server.start)
        finally:
            store.close()


def disk_full(seconds: float, calls: int) -> StoreFault:
    """SQLite and the journal are on a disk that has no byte left for `seconds`."""
    with tempfile.TemporaryDirectory(prefix="maya-bench-") as name:
        folder = Path(name)
        filler = folder / "filler"
        try:
            with small_disk(folder):
                store = CallStore.open(StoreSettings(), folder)
                try:
                    return _through("disk full", store, calls, seconds, lambda: fill(filler), filler.unlink)
                finally:
                    store.close()
        except NoSmallDisk as none:
            return _skipped("disk full", str(none))


class _Talk:
    """Calls that go on whatever happens."""

    def __init__(self, store: CallStore, calls: int) -> None:
        infos = [LineInfo(f"bench-{number}", "simulated", f"+1202555{number:04}") for number in range(calls)]
        self._observers = [(info, store.observer(info)) for info in infos]
        self.told = 0
        self.stalled_s = 0.0
        for info, observer in self._observers:
            self._tell(observer, CallStarted(0.0, info, "bench"))

    def turn(self) -> None:
        """One more of each call."""
        self.told += 1
        number, at_s = self.told, 5.0 * self.told
        for info, observer in self._observers:
            said = f"{info.call_id} says {number}"
            self._tell(observer, CallerTurn(at_s, number, said))
            self._tell(observer, AgentClause(at_s + 1, number, f"answer {number}"))
            answer = AgentTurn(
                at_s + 3, number, f"answer {number}", f"answer {number}", False, TurnTimes(number)
            )
            self._tell(observer, answer)

    def end(self) -> None:
        for _, observer in self._observers:
            self._tell(observer, CallEnded(5.0 * self.told + 5, "goodbye", "completed"))

    def for_(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()
            time.sleep(_TURN_EVERY_S)

    def lost(self, store: CallStore) -> int:
        """Turns that are not in the database as they were told."""
        missing = 0
        for info, _ in self._observers:
            found = store.call(info.call_id)
            there = {} if found is None else {turn.turn: turn for turn in found.turns}
            for number in range(1, self.told + 1):
                turn = there.get(number)
                whole = turn is not None and turn.state == "done" and turn.heard == f"answer {number}"
                if not whole or turn is None or turn.caller != f"{info.call_id} says {number}":
                    missing += 1
        return missing

    def _tell(self, observer: StoreObserver, event: Any) -> None:
        began = time.perf_counter()
        observer.observe(event)
        self.stalled_s = max(self.stalled_s, time.perf_counter() - began)


def _through(
    fault: str,
    store: CallStore,
    calls: int,
    seconds: float,
    begin: Callable[[], None],
    end: Callable[[], None],
) -> StoreFault:
    talk = _Talk(store, calls)
    talk.for_(2.0)
    store.flush()
    began = time.monotonic()
    begin()
    talk.for_(max(0.0, seconds - (time.monotonic() - began)))
    lasted_s = time.monotonic() - began
    end()
    back_at = time.monotonic()
    talk.for_(1.0)
    talk.end()
    store.flush(_BACK_S)
    recovered_s = time.monotonic() - back_at
    ended = len(store.calls(CallQuery(state="ended", limit=calls)))
    lost = talk.lost(store) + (calls - ended)
    return StoreFault(
        fault,
        calls,
        talk.told * calls,
        lost,
        round(lasted_s, 1),
        round(recovered_s, 2),
        round(1000 * talk.stalled_s, 2),
    )


def _skipped(fault: str, why: str) -> StoreFault:
    return StoreFault(fault, 0, 0, 0, 0.0, 0.0, 0.0, why)


# PostgreSQL


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


class _Postgres:
    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.url = f"postgresql://maya@127.0.0.1:{self._port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("nobody")
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        making = ["-D", str(folder / "data"), "-U", "maya", "-A", "trust", "-E", "UTF8", "-N"]
        subprocess.run(
            [str(binaries / "initdb"), *making], cwd=folder, check=True, capture_output=True, **self._user
        )

    def start(self) -> None:
        """Returns when it answers. After a kill it repairs itself first."""
        import psycopg

        options = ["-D", "data", "-k", str(self._folder), "-h", "127.0.0.1", "-p", str(self._port)]
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *options],
                cwd=self._folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **self._user,
            )
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    psycopg.connect(self.url, connect_timeout=2).close()
                except psycopg.OperationalError:
                    time.sleep(0.05)
                else:
                    return
            time.sleep(0.1)  # its killed children still hold its memory
        raise TimeoutError("PostgreSQL does not start")

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(30.0)


@contextmanager
def _postgres(binaries: Path) -> Iterator[_Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="maya-postgres-"))
    try:
        server = _Postgres(binaries, folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
