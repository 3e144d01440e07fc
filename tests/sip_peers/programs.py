"""Other people's SIP programs as child processes: found or skipped, their output shown where a test fails."""

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import string
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
PACKAGES: Final = {
    "sipp": "sip-tester",
    "sipsak": "sipsak",
    "baresip": "baresip-core",
    "kamailio": "kamailio",
}
"""Debian's package for each program."""
_SHOWN_CHARACTERS: Final = 6_000
_PATIENCE_S: Final = 5.0
_NUMBERS: Final = itertools.count(1)


def found(program: str) -> str | None:
    """Its path. Servers stand in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def needs(program: str) -> pytest.MarkDecorator:
    """Mark of tests beside `program`."""
    return pytest.mark.skipif(
        found(program) is None,
        reason=f"NOT TESTED beside {program}: install it by infra/setup/programs.sh or as Debian's package "
        f"{PACKAGES[program]}",
    )


class Program:
    """A running one. `output()` is all that it has printed so far."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def output(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def finished(self, within_s: float) -> int:
        """Its exit status. Raises `TimeoutError`."""
        async with asyncio.timeout(within_s):
            return await self._process.wait()

    async def prints(self, text: str, within_s: float = 10.0, *, times: int = 1) -> None:
        """Wait until it has printed `text` so often. Raises `AssertionError`, at once where it has ended."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: self.output().count(text) >= times or not self.running, within_s)
        assert self.output().count(text) >= times, f"{self.name} never printed {text!r}"

    def type(self, keys: str) -> None:
        """Into its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(keys.encode())

    async def stop(self) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await self.finished(_PATIENCE_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@contextlib.asynccontextmanager
async def running(
    name: str,
    *arguments: str,
    folder: Path,
    typed: bool = False,
    logs: Mapping[str, Path] | None = None,
) -> AsyncIterator[Program]:
    """Run the program in `folder` until the block is left. Where the block raises, the ends of its output and
    of its other `logs` are printed. `typed`: its standard input is ours."""
    path = found(name)
    assert path is not None, f"{name} is not installed"
    log = folder / f"{name}-{next(_NUMBERS)}.out"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE if typed else asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "TERM": "dumb", "LC_ALL": "C"},
        )
    program = Program(name, process, log)
    try:
        yield program
    except BaseException:
        for title, file in {f"{name}'s output": log, **(logs or {})}.items():
            if file.exists():
                print(f"---- {title}\n{file.read_text('utf-8', 'replace')[-_SHOWN_CHARACTERS:]}")
        raise
    finally:
        await program.stop()


async def until(true: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for what has no event of its own. Raises `TimeoutError`."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def free_port(*, together: int = 1) -> int:
    """A port of loopback that is free for UDP and TCP, with as many behind it."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                first = stack.enter_context(_bound(socket.SOCK_DGRAM, 0))
                port: int = first.getsockname()[1]
                if port + together > 65_000:
                    continue
                stack.enter_context(_bound(socket.SOCK_STREAM, port))
                for further in range(port + 1, port + together):
                    stack.enter_context(_bound(socket.SOCK_DGRAM, further))
            except OSError:
                continue
            return port


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


class _Placeholders(string.Template):
    """`@name@`: neither XML nor kamailio's language uses that."""

    delimiter = "@"
    pattern = r"@(?:(?P<escaped>@@)|(?P<named>[a-z][a-z0-9_]*)@|(?P<braced>\b\B)|(?P<invalid>\b\B))"


def filled(template: str, **values: object) -> str:
    """`template` with `@name@` replaced; a value may hold further placeholders. Other @ stay."""
    return _Placeholders(template).safe_substitute(values)
