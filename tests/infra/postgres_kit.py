"""A PostgreSQL of the test's own: made in a folder, on a free port, killed for sure in the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_PATIENCE_S = 30.0


def programs() -> Path | None:
    """Where initdb and postgres are."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    def __init__(self, binaries: Path, folder: Path, certificate: tuple[Path, Path] | None = None) -> None:
        """`certificate`: a chain and its key, with which it speaks TLS."""
        self._binaries = binaries
        self._certificate = certificate
        self._folder = folder
        self.port = free_port()
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            user = next(name for name in ("postgres", "nobody") if _known(name))
            self._user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
            os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        self._call("initdb", "-D", str(folder / "data"), "-U", "maya", "-A", "trust", "-N", "-E", "UTF8")
        for file, name in zip(certificate or (), ("server.crt", "server.key"), strict=False):
            own = folder / "data" / name
            shutil.copyfile(file, own)
            own.chmod(0o600)
            if self._user:
                os.chown(own, pwd.getpwnam(str(self._user["user"])).pw_uid, -1)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self._folder,
            timeout=_PATIENCE_S,
            **self._user,  # type: ignore[call-overload]
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def backends(self) -> list[int]:
        """Processes that serve it, one for each connection among them."""
        done = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in done.stdout.split()]

    def start(self) -> None:
        options = ["-D", "data", "-k", str(self._folder), "-h", "127.0.0.1", "-p", str(self.port)]
        options += ["-c", "fsync=off", "-c", "shared_buffers=16MB"]
        options += ["-c", "ssl=on"] if self._certificate is not None else []
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self._binaries / "postgres"), *options],
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                    **self._user,  # type: ignore[call-overload]
                )
            # After a kill its children may still hold its shared memory: then it gives up.
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    psycopg.connect(self.url("postgres", driver=False), connect_timeout=2).close()
                    return
                except psycopg.OperationalError:
                    time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: immediate; SIGKILL: none."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10.0)
            self._process = None

    def new_database(self) -> str:
        """The URL of an empty one, as settings take it."""
        self._databases += 1
        name = f"maya{self._databases}"
        with psycopg.connect(self.url("postgres", driver=False), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url(name)

    def url(self, database: str, *, driver: bool = True) -> str:
        return f"postgresql://maya:{'wrong' if driver else ''}@127.0.0.1:{self.port}/{database}"


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def running_postgres(certificate: tuple[Path, Path] | None = None) -> Iterator[Postgres]:
    """Skips where it is not installed (infra/setup/programs.sh)."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: infra/setup/programs.sh")
    # Not in tmp_path: whom it runs as could not enter root's.
    folder = Path(tempfile.mkdtemp(prefix="maya-postgres-"))
    try:
        server = Postgres(binaries, folder, certificate)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
