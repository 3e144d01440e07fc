"""The writing side of the database, on a thread of its own: a database that hangs holds up nobody else."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine

from infra.store.account import Row, Rows
from infra.store.applying import apply
from infra.store.journal import journals, left_behind, read
from infra.store.migrate import migrate

log = logging.getLogger(__name__)

_REPLAYED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be committed: first a journal from one byte up to another, then rows."""

    rows: Rows
    journal: Path | None = None
    journal_start: int = 0
    journal_end: int = 0
    left_behind: bool = False
    """Also journals of processes that are gone."""


@dataclass(frozen=True, slots=True)
class Done:
    job: Job
    error: Exception | None = None
    refused: int = 0
    """Rows that the database never takes."""
    adopted: int = 0
    """Journals of other processes that were taken over."""


@dataclass(slots=True)
class Database:
    """One job at a time: `start(job)`, and `done(Done)` is called from the thread. `beat` is told each
    transaction's connection."""

    engine: Engine
    journals: Path
    beat: Callable[[Connection], None]
    done: Callable[[Done], None]
    migrated: bool = False
    _jobs: "queue.SimpleQueue[Job | None]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def open(self) -> None:
        self._thread = threading.Thread(target=self._run, name="store-database", daemon=True)
        self._thread.start()

    def start(self, job: Job) -> None:
        self._jobs.put(job)

    def close(self, timeout_s: float) -> None:
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._thread is None or not self._thread.is_alive():
            self.engine.dispose()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            refused = adopted = 0
            error: Exception | None = None
            try:
                if not self.migrated:
                    migrate(self.engine)
                    self.migrated = True
                if job.journal is not None:
                    refused += self._replay(job.journal, job.journal_start, job.journal_end)
                refused += apply(self.engine, job.rows, self.beat)
                if job.left_behind:
                    more, adopted = self.adopt()
                    refused += more
            except Exception as problem:  # whatever it is, the rows are kept and tried again
                error = problem
            self.done(Done(job, error, refused, adopted))

    def _replay(self, path: Path, start: int = 0, end: int | None = None) -> int:
        refused = 0
        gathered: dict[Any, Row] = {}
        for rows in read(path, start, end):
            gathered |= rows
            if len(gathered) >= _REPLAYED_AT_ONCE:
                refused += apply(self.engine, gathered)
                gathered = {}
        return refused + (apply(self.engine, gathered) if gathered else 0)

    def adopt(self) -> tuple[int, int]:
        """Rows refused, journals of processes that are gone taken over. For `_run`, or where nothing runs."""
        refused = adopted = 0
        for path in journals(self.journals):
            with left_behind(path) as ours:
                if ours:
                    refused += self._replay(path)
                    path.unlink(missing_ok=True)
                    adopted += 1
        return refused, adopted


def adopt(engine: Engine, folder: Path) -> int:
    """Commit what processes that are gone have left, now. Raises what SQLAlchemy raises, and `OSError`."""
    return Database(engine, folder, lambda _: None, lambda _: None).adopt()[1]


def size_of(rows: Mapping[Any, Row]) -> int:
    """Bytes in memory, roughly."""
    return sum(
        300 + sum(len(value) for value in row.values() if isinstance(value, str)) for row in rows.values()
    )
