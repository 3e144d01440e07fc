"""Reads calls that were written readable or encrypted; nobody else opens a call's files.

A call whose process was killed is read as far as it was written, and says that it ended early.
"""

import io
import json
import os
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from infra.records.folder import (
    EVENTS,
    RECORD_FILES,
    RECORDING,
    SEALED_EVENTS,
    SEALED_FILES,
    SEALED_RECORDING,
    SEALED_TRANSCRIPT,
    TRANSCRIPT,
    FolderLock,
)
from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.sealed import Content, SealedFileError, SealedReader, State
from infra.records.sound import CHANNELS, Placed, TwoChannelWav
from pipeline.line import LINE_RATE_HZ

Both = NDArray[np.int16]
"""Two channels at 8 kHz, (n, 2) int16: the caller, the agent."""
_PLAIN_OF = dict(zip(SEALED_FILES, (RECORDING, TRANSCRIPT, EVENTS), strict=True))


class RecordingError(Exception):
    """A call's folder cannot be read; the message says which file, and why."""


@dataclass(frozen=True, slots=True)
class FileState:
    """`name` is the file's; `state` whether it is all there; `detail` says what is wrong."""

    name: str
    state: State
    size_bytes: int
    detail: str = ""


class CallFolder:
    """One call's folder. `keys` are asked only when something in it is encrypted.

    Every method blocks on the disk, and raises `RecordingError` for what is missing or damaged and
    `RecordingKeyError` for a key that is not at hand.
    """

    def __init__(self, path: Path, keys: KeyRing | None = None) -> None:
        self.path = path
        self._keys = keys or KeyRing()

    @property
    def encrypted(self) -> bool:
        return any((self.path / name).exists() for name in SEALED_FILES)

    @property
    def is_call(self) -> bool:
        """Something was recorded here."""
        return any((self.path / name).is_file() for name in RECORD_FILES)

    @property
    def live(self) -> bool:
        """Somebody is writing to it."""
        try:
            FolderLock(self.path).release()
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def transcript(self) -> dict[str, Any]:
        """The document that `infra.records.notes` made."""
        name = SEALED_TRANSCRIPT if self._sealed(SEALED_TRANSCRIPT) else TRANSCRIPT
        try:
            if name == TRANSCRIPT:
                data = (self.path / name).read_bytes()
            else:
                data, reader = self._all_of(name, Content.TRANSCRIPT)
                if reader.state != "whole":
                    raise RecordingError(f"{self.path / name}: {reader.fault or reader.state}")
            document = json.loads(data)
        except (OSError, ValueError) as error:
            raise RecordingError(f"{self.path / name}: {error}") from error
        if not isinstance(document, dict):
            raise RecordingError(f"{self.path / name}: no transcript")
        return document

    def events(self) -> list[dict[str, Any]]:
        """All events but sound, in order, as far as they were written."""
        with EventTail(self.path, self._keys) as tail:
            return list(tail)

    def audio(self) -> Both:
        """Both voices, as far as they were written. In memory: 115 MB an hour."""
        if self._sealed(SEALED_RECORDING):
            file = io.BytesIO()
            self._lay_out(TwoChannelWav(file))
            file.seek(0)
            return _samples(file, self.path / SEALED_RECORDING)
        path = self.path / RECORDING
        try:
            with path.open("rb") as plain:
                return _samples(plain, path)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from error

    def export(self, target: Path) -> list[FileState]:
        """Write readable copies of all files into `target`, which is made, and return what was found of each.
        Raises `FileExistsError` rather than replace anything, and `OSError`."""
        target.mkdir(parents=True, exist_ok=True)
        found = []
        for name in RECORD_FILES:
            source = self.path / name
            if not source.is_file():
                continue
            copy = target / _PLAIN_OF.get(name, name)
            if name == SEALED_RECORDING:
                with copy.open("xb+", buffering=0) as file:
                    found.append(self._lay_out(TwoChannelWav(file)))
            elif name in SEALED_FILES:
                data, reader = self._all_of(name, _CONTENT[name])
                with copy.open("xb") as file:
                    file.write(data)
                found.append(_state_of(source, reader))
            else:
                with copy.open("xb") as file, source.open("rb") as plain:
                    while piece := plain.read(2**20):
                        file.write(piece)
                found.append(self._plain_state(name))
        if not found:
            raise RecordingError(f"{self.path} holds no call")
        return found

    def verify(self) -> list[FileState]:
        """Read every byte of every file."""
        calls: dict[bytes, str] = {}
        return [
            self._sealed_state(name, calls) if name in SEALED_FILES else self._plain_state(name)
            for name in RECORD_FILES
            if (self.path / name).is_file()
        ]

    def _sealed(self, name: str) -> bool:
        return (self.path / name).exists()

    def _all_of(self, name: str, content: Content) -> tuple[bytes, SealedReader]:
        path = self.path / name
        try:
            with path.open("rb") as file:
                reader = SealedReader(file, self._keys, content)
                return b"".join(reader), reader
        except (OSError, SealedFileError) as error:
            raise RecordingError(f"{path}: {error}") from error

    def _lay_out(self, wav: TwoChannelWav) -> FileState:
        """Place all chunks of the encrypted recording."""
        path = self.path / SEALED_RECORDING
        try:
            with path.open("rb") as file:
                reader = SealedReader(file, self._keys, Content.AUDIO)
                for payload in reader:
                    placed = Placed.decode(payload)
                    if placed is not None:
                        wav.write(placed.channel, placed.start_sample, placed.pcm)
        except (SealedFileError, ValueError) as error:
            raise RecordingError(f"{path}: {error}") from error
        except OSError as error:
            raise RecordingError(f"{error.filename or path}: {error.strerror or error}") from error
        return _state_of(path, reader)

    def _sealed_state(self, name: str, calls: dict[bytes, str]) -> FileState:
        """`calls` collects whose files were met, and the first one's name."""
        path = self.path / name
        try:
            with path.open("rb") as file:
                reader = SealedReader(file, self._keys, _CONTENT[name])
                for payload in reader:
                    if name == SEALED_RECORDING:
                        Placed.decode(payload)
                if reader.header is not None and calls and reader.header.call_id not in calls:
                    other = next(iter(calls.values()))
                    return FileState(name, "damaged", _size(path), f"not of the same call as {other}")
                if reader.header is not None:
                    calls[reader.header.call_id] = name
                return _state_of(path, reader)
        except (OSError, SealedFileError, ValueError) as error:
            return FileState(name, "damaged", _size(path), str(error))

    def _plain_state(self, name: str) -> FileState:
        path = self.path / name
        size = _size(path)
        try:
            if name == RECORDING:
                with path.open("rb") as file:
                    _samples(file, path)
            elif name == TRANSCRIPT:
                if self.transcript()["outcome"] is None:
                    return FileState(name, "ended early", size, "the call's end was not written")
            else:
                ended = [event["event"] for event in self.events()][-1:] == ["CallEnded"]
                if not ended:
                    return FileState(name, "ended early", size, "the call's end was not written")
        except (OSError, RecordingError, KeyError, TypeError) as error:
            return FileState(name, "damaged", size, str(error))
        return FileState(name, "whole", size)


_CONTENT = {
    SEALED_RECORDING: Content.AUDIO,
    SEALED_TRANSCRIPT: Content.TRANSCRIPT,
    SEALED_EVENTS: Content.EVENTS,
}


class EventTail:
    """The events of a call that may still be going on: iterate again for those that came since."""

    def __init__(self, folder: Path, keys: KeyRing | None = None) -> None:
        self._folder = folder
        self._keys = keys or KeyRing()
        self._file: BinaryIO | None = None
        self._sealed: SealedReader | None = None
        self._rest = b""

    def __enter__(self) -> "EventTail":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises `RecordingError`, `RecordingKeyError`; without a file there is nothing yet."""
        if self._file is None and not self._open():
            return
        assert self._file is not None  # noqa: S101  opened just now
        try:
            pieces = [self._file.read()] if self._sealed is None else list(self._sealed)
            *lines, self._rest = (self._rest + b"".join(pieces)).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if not isinstance(event, dict):
                    raise RecordingError(f"{self._file.name}: a line that is no event")
                yield event
        except (OSError, SealedFileError, ValueError) as error:
            raise RecordingError(f"{self._file.name}: {error}") from error

    def _open(self) -> bool:
        for name in (SEALED_EVENTS, EVENTS):
            try:
                self._file = (self._folder / name).open("rb")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RecordingError(f"{self._folder / name}: {error.strerror or error}") from error
            if name == SEALED_EVENTS:
                self._sealed = SealedReader(self._file, self._keys, Content.EVENTS)
            return True
        return False


def list_calls(root: Path, keys: KeyRing | None = None) -> list[CallFolder]:
    """Every call under `root`, by name. Raises `RecordingError` when there is no such folder."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise RecordingError(f"{root}: {error.strerror or error}") from error
    folders = (CallFolder(root / name, keys) for name in names)
    return [folder for folder in folders if folder.is_call]


def _samples(file: BinaryIO, path: Path) -> Both:
    try:
        with wave.open(file) as wav:
            shape = (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
            if shape != (len(CHANNELS), 2, LINE_RATE_HZ):
                raise RecordingError(f"{path}: not two channels of 16 bits at {LINE_RATE_HZ} Hz")
            data = wav.readframes(wav.getnframes())
    except (EOFError, wave.Error) as error:
        raise RecordingError(f"{path}: {error or 'cut off'}") from error
    whole = len(data) // 4 * 4
    return np.frombuffer(data[:whole], dtype="<i2").reshape(-1, 2)


def _state_of(path: Path, reader: SealedReader) -> FileState:
    detail = reader.fault
    if reader.state == "ended early":
        detail = "ended early: the process was killed, or the file was cut off"
    return FileState(path.name, reader.state, _size(path), detail)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def transcript_reader(keys: KeyRing) -> Callable[[Path], Any]:
    """For the simulator: the document of a call's folder, encrypted or not. It raises `ValueError` where it
    cannot be read, or not yet."""

    def read(folder: Path) -> Any:
        try:
            return CallFolder(folder, keys).transcript()
        except (RecordingError, RecordingKeyError) as error:
            raise ValueError(str(error)) from None

    return read
