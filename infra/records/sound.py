"""Two channels of a call's sound on disk: as a WAV file that plays, or as chunks for `infra.records.sealed`.

Left the caller, right the agent, 8 kHz; every sample has its place on the call's clock, so gaps are silence
and nothing drifts.
"""

import struct
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from infra.records.sealed import SealedWriter, write_all
from pipeline.line import LINE_RATE_HZ, Pcm

CALLER, AGENT = 0, 1
CHANNELS = (CALLER, AGENT)
LONGEST_SAMPLES = 24 * 3600 * LINE_RATE_HZ
FLUSH_SAMPLES = LINE_RATE_HZ // 2
_HEADER_BYTES = 44
_SAMPLE_BYTES = 4  # two channels of int16
_PLACED = struct.Struct(">QB")
_CHUNK_SAMPLES = LINE_RATE_HZ * 8


class Sound(Protocol):
    """Where both voices go. Every method may raise `OSError`."""

    def write(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        """Place (n,) int16 on one channel; the other keeps what it has. Samples before 0 are cut off."""
        ...

    def close(self) -> None: ...


class TwoChannelWav:
    """A WAV file written at any position. Its header is valid after every write: a crash leaves a file that
    plays."""

    def __init__(self, file: BinaryIO) -> None:
        """`file` is empty, unbuffered, and open for reading and writing."""
        self._file = file
        self._samples = 0
        self._write_header()

    def write(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        start_sample, pcm = _within(start_sample, pcm)
        if not len(pcm):
            return
        offset = _HEADER_BYTES + start_sample * _SAMPLE_BYTES
        self._file.seek(offset)
        there = self._file.read(len(pcm) * _SAMPLE_BYTES)
        both = np.zeros((len(pcm), 2), dtype="<i2")
        both.reshape(-1)[: len(there) // 2] = np.frombuffer(there, dtype="<i2")
        both[:, channel] = pcm
        self._file.seek(offset)
        write_all(self._file, both.tobytes())
        if start_sample + len(pcm) > self._samples:
            self._samples = start_sample + len(pcm)
            self._write_header()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        size = self._samples * _SAMPLE_BYTES
        form = struct.pack("<HHIIHH", 1, 2, LINE_RATE_HZ, LINE_RATE_HZ * _SAMPLE_BYTES, _SAMPLE_BYTES, 16)
        self._file.seek(0)
        riff = b"RIFF" + struct.pack("<I", _HEADER_BYTES - 8 + size) + b"WAVEfmt " + struct.pack("<I", 16)
        write_all(self._file, riff + form + b"data" + struct.pack("<I", size))


class SealedSound:
    """Chunks that carry their own place: what comes late is a later chunk, and nothing has to wait for it."""

    def __init__(self, writer: SealedWriter) -> None:
        self._writer = writer

    def write(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        start_sample, pcm = _within(start_sample, pcm)
        for at in range(0, len(pcm), _CHUNK_SAMPLES):
            piece = pcm[at : at + _CHUNK_SAMPLES].astype("<i2", copy=False)
            self._writer.append(_PLACED.pack(start_sample + at, channel) + piece.tobytes())

    def close(self) -> None:
        self._writer.close()


class Placed(NamedTuple):
    """What one chunk of a `SealedSound` holds."""

    channel: int
    start_sample: int
    pcm: Pcm

    @classmethod
    def decode(cls, payload: bytes) -> "Placed | None":
        """None for the empty chunk at the end. Raises `ValueError` for what no `SealedSound` writes."""
        if not payload:
            return None
        if len(payload) < _PLACED.size:
            raise ValueError("a chunk of sound without a place")
        start_sample, channel = _PLACED.unpack(payload[: _PLACED.size])
        pcm = np.frombuffer(payload[_PLACED.size :], dtype="<i2").astype(np.int16, copy=False)
        if channel not in CHANNELS or start_sample + len(pcm) > LONGEST_SAMPLES:
            raise ValueError("a chunk of sound out of place")
        return cls(channel, start_sample, pcm)


class Tracks:
    """Gathers each channel's consecutive samples, so that the disk is touched about twice a second."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound
        self._tracks = tuple(_Track(channel) for channel in CHANNELS)

    def add(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        track = self._tracks[channel]
        if start_sample != track.end:
            track.flush(self._sound)
        track.add(start_sample, pcm)
        # A voice that fell silent is written too, once the other has gone on for as long.
        newest = max(track.end for track in self._tracks)
        for track in self._tracks:
            if newest - track.start >= FLUSH_SAMPLES:
                track.flush(self._sound)

    def flush(self) -> None:
        """Raises `OSError`, like all of this."""
        for track in self._tracks:
            track.flush(self._sound)


class _Track:
    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._pieces: list[Pcm] = []
        self.start = self.end = 0

    def add(self, start_sample: int, pcm: Pcm) -> None:
        if not self._pieces:
            self.start = self.end = start_sample
        self._pieces.append(pcm)
        self.end += len(pcm)

    def flush(self, sound: Sound) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            sound.write(self._channel, self.start, np.concatenate(pieces))
            self.start = self.end


def _within(start_sample: int, pcm: Pcm) -> tuple[int, Pcm]:
    """What lies between the call's first sample and its longest."""
    if start_sample < 0:
        pcm, start_sample = pcm[-start_sample:], 0
    return start_sample, pcm[: max(0, LONGEST_SAMPLES - start_sample)]
