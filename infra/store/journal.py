"""Rows that wait on disk while the database is away: a file that only grows, one for each process.

A line is a checksum and JSON. A line that was cut off by a crash or a full disk is passed over. Whoever
writes a journal holds its lock (flock(2)), so that one of a process that was killed is taken over by
whichever process looks next.
"""

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from infra.store.account import Key, Row, Rows

log = logging.getLogger(__name__)

FOLDER: Final = "store-journal"
_SUFFIX: Final = ".journal"
_ROWS_A_LINE: Final = 200


class JournalFull(OSError):
    """The journal has reached its limit."""


class Journal:
    """This process's. Made when there is something to write. Every method may raise `OSError`; not from
    several threads."""

    def __init__(self, folder: Path, name: str, limit_bytes: int) -> None:
        self._folder = folder
        self._name = name
        self._limit = limit_bytes
        self._file: BinaryIO | None = None
        self.path: Path | None = None
        self.size = 0

    def append(self, rows: Mapping[Key, Row]) -> None:
        """On disk when it returns; of what fails nothing stays."""
        data = b"".join(_lines(rows))
        if self.size + len(data) > self._limit:
            raise JournalFull(f"the journal {self.path} holds {self.size} bytes, as many as it may")
        file = self._file if self._file is not None else self._create()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), self.size)
            file.seek(self.size)
            raise
        self.size += len(data)

    def clear(self) -> None:
        """All of it is in the database."""
        if self._file is not None:
            os.ftruncate(self._file.fileno(), 0)
            self._file.seek(0)
        self.size = 0

    def close(self) -> None:
        """An empty one is removed."""
        if self._file is not None and self.path is not None:
            if not self.size:
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _create(self) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for attempt in range(1000):
            path = self._folder / f"{self._name}{f'-{attempt}' if attempt else ''}{_SUFFIX}"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            file = os.fdopen(descriptor, "rb+", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()  # somebody took it for one that was left behind
                continue
            self._file, self.path, self.size = file, path, 0
            return file
        raise FileExistsError(f"{self._folder / self._name} and its 999 successors exist")


def read(path: Path, start: int = 0, end: int | None = None) -> Iterator[Rows]:
    """The rows from byte `start`, where a line begins, up to byte `end`, line by line. Raises `OSError`."""
    with path.open("rb") as file:
        file.seek(start)
        at = start
        for line in file:
            at += len(line)
            if end is not None and at > end:
                return
            rows = _rows(line)
            if rows is not None:
                yield rows
            elif line.strip(b"\n"):
                log.warning("%s: a line was cut off and is left out", path)


@contextmanager
def left_behind(path: Path) -> Iterator[bool]:
    """Whether the journal at `path` is of a process that is gone; then it is ours for so long."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Somebody may have emptied and removed it since it was opened.
        try:
            same = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            same = False
        yield same


def journals(folder: Path) -> list[Path]:
    """All that are there. Raises `OSError`."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []


def _lines(rows: Mapping[Key, Row]) -> Iterator[bytes]:
    items = [[table, list(key), row] for (table, key), row in rows.items()]
    for begin in range(0, len(items), _ROWS_A_LINE):
        data = json.dumps(items[begin : begin + _ROWS_A_LINE], ensure_ascii=False).encode()
        yield b"%08x %s\n" % (zlib.crc32(data), data)


def _rows(line: bytes) -> Rows | None:
    checksum, _, data = line.rstrip(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(data):
            return None
        items: list[Any] = json.loads(data)
        return {(table, tuple(key)): row for table, key, row in items}
    except (ValueError, TypeError):
        return None
