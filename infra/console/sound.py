"""A past call's sound for the page: its outline, and WAV files of which any part can be asked for.

Blocks on the disk and computes: call it in a thread. A readable recording is read where it lies; an encrypted
one is decrypted as a whole. What was computed is kept, within `MOST_BYTES`.
"""

import struct
import threading
import wave
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from infra.records.folder import RECORDING, SEALED_RECORDING
from infra.records.keys import KeyRing
from infra.records.reader import Both, CallFolder, RecordingError
from pipeline.line import LINE_RATE_HZ

Voice = Literal["both", "caller", "agent"]
Outline = NDArray[np.uint8]
"""The loudest of each `OUTLINE_SAMPLES` of both channels, (n, 2) uint8: 255 is full scale."""

OUTLINE_SAMPLES: Final = LINE_RATE_HZ // 100
_Kept = NDArray[np.int16] | Outline

MOST_POINTS: Final = 4_000
MOST_BYTES: Final = 256 * 2**20
"""Of decrypted recordings and outlines together; an hour is 115 MB and 0.7 MB."""
_HEADER_BYTES: Final = 44
_BLOCK_SAMPLES: Final = 2**20 // OUTLINE_SAMPLES * OUTLINE_SAMPLES


@dataclass(frozen=True, slots=True)
class Wav:
    """One call's sound as a file of `size` bytes, that `read(first, stop)` gives bytes of."""

    size: int
    etag: str
    read: Callable[[int, int], bytes]


class SoundShelf:
    """The recordings of all calls. Every method raises `RecordingError`, and `RecordingKeyError` where a key
    is missing."""

    def __init__(self, keys: KeyRing, most_bytes: int = MOST_BYTES) -> None:
        self._keys = keys
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.RLock()
        """Held while something is decrypted or outlined: one at a time, beside calls that are on."""

    @property
    def bytes_kept(self) -> int:
        with self._lock:
            return sum(kept.nbytes for kept in self._kept.values())

    def outline(self, folder: Path, from_s: float, to_s: float, points: int) -> tuple[Outline, float]:
        """(`points` or fewer, 2) uint8 of the time from `from_s` to `to_s`, and how long the recording is in
        seconds."""
        whole = self._get(folder, "outline", lambda: self._draw(folder)).view(np.uint8)
        length_s = len(whole) * OUTLINE_SAMPLES / LINE_RATE_HZ
        per_s = LINE_RATE_HZ / OUTLINE_SAMPLES
        first = min(len(whole), max(0, int(from_s * per_s)))
        stop = min(len(whole), max(first, int(np.ceil(min(to_s, length_s) * per_s))))
        part = whole[first:stop]
        points = max(1, min(points, MOST_POINTS))
        if len(part) <= points:
            return part, length_s
        starts = np.linspace(0, len(part), points, endpoint=False).astype(np.intp)
        return np.maximum.reduceat(part, starts, axis=0), length_s

    def wav(self, folder: Path, voice: Voice) -> Wav:
        """Both channels, or one."""
        stamp = _stamp_of(folder)
        samples, read = self._source(folder)
        channels = 2 if voice == "both" else 1
        wide = 2 * channels
        header = _header(samples, channels)

        def read_bytes(first: int, stop: int) -> bytes:
            stop = min(stop, _HEADER_BYTES + samples * wide)
            head = header[first:stop]
            from_byte, to_byte = max(0, first - _HEADER_BYTES), max(0, stop - _HEADER_BYTES)
            from_sample, to_sample = from_byte // wide, -(-to_byte // wide)
            if to_sample <= from_sample:
                return head
            part = read(from_sample, to_sample)
            if voice != "both":
                part = part[:, 0 if voice == "caller" else 1]
            data = np.ascontiguousarray(part, dtype="<i2").tobytes()
            return head + data[from_byte - from_sample * wide : to_byte - from_sample * wide]

        return Wav(_HEADER_BYTES + samples * wide, f'"{stamp}-{voice}"', read_bytes)

    def _source(self, folder: Path) -> tuple[int, Callable[[int, int], Both]]:
        """How many samples there are, and what reads some of them."""
        if (folder / SEALED_RECORDING).exists():
            both = self._get(folder, "sound", lambda: CallFolder(folder, self._keys).audio()).view(np.int16)
            return len(both), lambda first, stop: both[first:stop]
        path = folder / RECORDING
        samples = _samples_in(path)
        return samples, lambda first, stop: _read(path, first, stop)

    def _draw(self, folder: Path) -> Outline:
        samples, read = self._source(folder)
        parts = [
            _loudest(read(first, min(first + _BLOCK_SAMPLES, samples)))
            for first in range(0, samples, _BLOCK_SAMPLES)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.uint8)

    def _get(self, folder: Path, what: str, make: Callable[[], _Kept]) -> _Kept:
        """What is kept of the files as they are now, or else made and kept."""
        key = f"{folder} {what} {_stamp_of(folder)}"
        if (kept := self._find(key)) is not None:
            return kept
        # The sound is made for the outline, so both may be asked for within.
        with self._making:
            if (kept := self._find(key)) is not None:
                return kept
            made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)
        return made

    def _find(self, key: str) -> _Kept | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)


def _loudest(both: Both) -> Outline:
    missing = -len(both) % OUTLINE_SAMPLES
    padded = np.pad(both, ((0, missing), (0, 0)))
    # -32768 has no positive counterpart in int16.
    loudness = np.abs(padded.astype(np.int32)).reshape(-1, OUTLINE_SAMPLES, 2).max(axis=1)
    outline: Outline = np.minimum(255, (loudness + 127) >> 7).astype(np.uint8)
    return outline


def _samples_in(path: Path) -> int:
    try:
        with wave.open(str(path)) as wav:
            shape = (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
            if shape != (2, 2, LINE_RATE_HZ):
                raise RecordingError(f"{path}: not two channels of 16 bits at {LINE_RATE_HZ} Hz")
            # A recording may have been cut off behind its header.
            announced: int = wav.getnframes()
            return min(announced, max(0, path.stat().st_size - _HEADER_BYTES) // 4)
    except (EOFError, wave.Error, OSError) as error:
        raise RecordingError(f"{path}: {error or 'cut off'}") from error


def _read(path: Path, first: int, stop: int) -> Both:
    """(n, 2) int16: as many as there are."""
    try:
        with path.open("rb") as file:
            file.seek(_HEADER_BYTES + 4 * first)
            data = file.read(4 * (stop - first))
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from error
    return np.frombuffer(data[: len(data) // 4 * 4], dtype="<i2").reshape(-1, 2)


def _header(samples: int, channels: int) -> bytes:
    wide = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, LINE_RATE_HZ, LINE_RATE_HZ * wide, wide, 16)
    size = samples * wide
    riff = b"RIFF" + struct.pack("<I", _HEADER_BYTES - 8 + size) + b"WAVEfmt " + struct.pack("<I", 16)
    return riff + form + b"data" + struct.pack("<I", size)


def _stamp_of(folder: Path) -> str:
    """Tells one state of the recording from another. Raises `RecordingError` where there is none."""
    for name in (SEALED_RECORDING, RECORDING):
        try:
            found = (folder / name).stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RecordingError(f"{folder / name}: {error.strerror or error}") from error
        return f"{found.st_mtime_ns:x}-{found.st_size:x}"
    raise RecordingError(f"{folder} holds no recording")
