"""The files of one call as they are written: readable ones, or encrypted ones. All methods block on the disk
and may raise `OSError`; one file that fails leaves the others alone."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from infra.records.folder import (
    EVENTS,
    PART_SUFFIX,
    RECORDING,
    SEALED_EVENTS,
    SEALED_RECORDING,
    SEALED_TRANSCRIPT,
    TRANSCRIPT,
)
from infra.records.keys import RecordingKey
from infra.records.sealed import FILE_ID_BYTES, Content, RandomBytes, SealedWriter, write_all
from infra.records.sound import SealedSound, Sound, TwoChannelWav


class Storage(Protocol):
    def open_sound(self) -> Sound:
        """Call it once."""
        ...

    def append_event(self, line: str) -> None:
        """`line` is one JSON document, without its newline."""
        ...

    def replace_transcript(self, text: str) -> None:
        """Readers see the old or the new one, never half of it."""
        ...

    def close(self) -> None: ...


class PlainStorage:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: BinaryIO | None = None

    def open_sound(self) -> Sound:
        return TwoChannelWav(_create(self._folder / RECORDING))

    def append_event(self, line: str) -> None:
        if self._events is None:
            self._events = _create(self._folder / EVENTS)
        write_all(self._events, line.encode("utf-8") + b"\n")

    def replace_transcript(self, text: str) -> None:
        _replace(self._folder / TRANSCRIPT, lambda file: write_all(file, text.encode("utf-8")))

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


class SealedStorage:
    def __init__(self, folder: Path, key: RecordingKey, random: RandomBytes = secrets.token_bytes) -> None:
        self._folder = folder
        self._key = key
        self._random = random
        self._call_id = random(FILE_ID_BYTES)
        self._events: SealedWriter | None = None

    def open_sound(self) -> Sound:
        return SealedSound(self._writer(_create(self._folder / SEALED_RECORDING), Content.AUDIO))

    def append_event(self, line: str) -> None:
        if self._events is None:
            self._events = self._writer(_create(self._folder / SEALED_EVENTS), Content.EVENTS)
        self._events.append(line.encode("utf-8") + b"\n")

    def replace_transcript(self, text: str) -> None:
        def write(file: BinaryIO) -> None:
            self._writer(file, Content.TRANSCRIPT).append(text.encode("utf-8"), final=True)

        _replace(self._folder / SEALED_TRANSCRIPT, write)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()

    def _writer(self, file: BinaryIO, content: Content) -> SealedWriter:
        return SealedWriter(file, content, self._key, self._call_id, self._random)


def _create(path: Path) -> BinaryIO:
    """A new file that only its owner reads, unbuffered."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "rb+", buffering=0)


def _replace(path: Path, write: Callable[[BinaryIO], None]) -> None:
    part = path.with_name(path.name + PART_SUFFIX)
    part.unlink(missing_ok=True)  # of a write that failed
    with _create(part) as file:
        write(file)
    part.replace(path)
