"""Rivals side by side: each in a process of its own, asked in turns, so that noise hits all alike."""

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


class WorkerFailed(Exception):
    """A worker died; the message holds the end of what it wrote on standard error."""


class Worker:
    """A process that prints one JSON object when it is ready and one for each JSON list it is sent."""

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerFailed(f"{name} has no pipes")
        self._to, self._from = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def wait_ready(self) -> dict[str, Any]:
        return self._answer()

    def ask(self, *request: object) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # its last words say why
            self._to.write(json.dumps(request) + "\n")
            self._to.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self._from:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        status = self._process.wait()
        self._errors.seek(0)
        raise WorkerFailed(f"{self.name} ended with status {status}: {self._errors.read()[-2000:]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@dataclass
class Series:
    """What one piece of work cost, each time it was asked for."""

    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any]) -> None:
        self.cpu_ms.append(float(answer["cpu_ms"]))
        self.wall_ms.append(float(answer["wall_ms"]))

    @property
    def cpu(self) -> float:
        """Median CPU time, ms, all threads together."""
        return statistics.median(self.cpu_ms)

    @property
    def wall(self) -> float:
        return statistics.median(self.wall_ms)


def interleave(
    work: Mapping[str, tuple[Worker, Sequence[object]]], rounds: int, *, warm_up: int = 1
) -> dict[str, Series]:
    """Ask for every piece of work once a round, in turns; the first `warm_up` rounds do not count."""
    series = {name: Series() for name in work}
    for number in range(-warm_up, rounds):
        for name, (worker, request) in work.items():
            answer = worker.ask(*request)
            if number >= 0:
                series[name].add(answer)
    return series


def start(workers: Sequence[Worker], stack: ExitStack) -> None:
    """Enter the workers and wait until all are loaded."""
    for worker in workers:
        stack.enter_context(worker)
    for worker in workers:
        worker.wait_ready()
