"""A stepper without a model: it holds rows where the real one holds keys and values, so that a test sees
whether the engine's books are true, and answers with codes that depend on all that stands before them."""

import zlib
from collections.abc import Sequence

import numpy as np

from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES, MIMI_BINS, ROW_COLUMNS
from models.csm.stepping import Codes, Encoder, Rows, Samples, TickResult, TickRow


class NullStepper:
    def __init__(self, slots: int = 4, rows: int = 128) -> None:
        self.slots, self.rows = slots, rows
        self.cache: list[list[tuple[int, ...]]] = [[] for _ in range(slots)]
        self.hidden = [False] * slots
        self.voices = [0] * slots
        """CodecFrames since the voice was restarted; -1: never restarted since it was wiped."""
        self.ticks: list[tuple[TickRow, ...]] = []
        self.prefills: list[tuple[int, int, int]] = []
        """(slot, start, n_rows)"""
        self.forgotten: list[tuple[int, int]] = []
        self.not_finite: set[int] = set()
        self.raises: Exception | None = None
        self._encoder: _LoudnessEncoder | None = None
        self.ends_at: int | None = None
        """CodecFrame at which every utterance is all zeros."""

    def _fail(self) -> None:
        if self.raises is not None:
            error, self.raises = self.raises, None
            raise error

    def prefill(self, slot: int, rows: Rows, start: int) -> None:
        self._fail()
        assert rows.shape[1] == ROW_COLUMNS and 0 < len(rows) <= self.rows - start
        assert start <= len(self.cache[slot]), "a gap in the cache"
        self.cache[slot][start:] = [tuple(map(int, row)) for row in rows]
        self.hidden[slot] = True
        self.prefills.append((slot, start, len(rows)))

    def tick(self, batch: Sequence[TickRow]) -> TickResult:
        self._fail()
        assert batch and len({row.slot for row in batch}) == len(batch)
        self.ticks.append(tuple(batch))
        codes = np.stack([self._codes(row) for row in batch])
        pcm = np.zeros((len(batch), CODEC_FRAME_SAMPLES), np.float32)
        finite = np.array([row.slot not in self.not_finite for row in batch])
        self.not_finite.clear()
        return TickResult(codes, pcm, finite)

    def _codes(self, row: TickRow) -> Codes:
        held = self.cache[row.slot]
        assert row.position <= len(held), "a gap in the cache"
        assert self.hidden[row.slot] and row.position == len(held), "the hidden state is of another row"
        assert self.voices[row.slot] == row.index, "the voice's state is of another utterance"
        self.voices[row.slot] += 1
        if row.may_end and self.ends_at is not None and row.index >= self.ends_at:
            codes = np.zeros(CODEBOOKS, np.int32)
        else:
            codes = spoken_codes(held, row.seed, row.index)
        held.append((*map(int, codes), -1))
        return codes

    def restart_voice(self, slot: int) -> None:
        self._fail()
        self.voices[slot] = 0

    def forget(self, slot: int, kept: int = 0) -> None:
        assert kept <= len(self.cache[slot])
        del self.cache[slot][kept:]
        self.hidden[slot] = False
        self.voices[slot] = -1
        self.forgotten.append((slot, kept))

    def save(self, slot: int, n_rows: int) -> list[tuple[int, ...]]:
        assert n_rows <= len(self.cache[slot])
        return self.cache[slot][:n_rows]

    def restore(self, saved: list[tuple[int, ...]], slot: int) -> None:
        self._fail()
        self.cache[slot] = list(saved)
        self.hidden[slot] = False

    def open_encoder(self) -> Encoder:
        self._fail()
        if self._encoder is not None:
            self._encoder.over = True
        self._encoder = _LoudnessEncoder()
        return self._encoder


class _LoudnessEncoder:
    over = False

    def push(self, audio: Samples) -> Codes:
        assert not self.over, "another stream was opened since"
        assert len(audio) % CODEC_FRAME_SAMPLES == 0
        peaks = np.abs(audio.reshape(-1, CODEC_FRAME_SAMPLES)).max(axis=1)
        return np.repeat((peaks * 1000).astype(np.int32)[:, None], CODEBOOKS, axis=1)


def spoken_codes(held: Sequence[Sequence[int]], seed: int, index: int) -> Codes:
    """(32,) codes in [1, 2048) that depend on every row before them."""
    digest = zlib.crc32(np.array(held, np.int32).tobytes(), seed & 0xFFFFFFFF)
    rng = np.random.default_rng([digest, index])
    return rng.integers(1, MIMI_BINS, CODEBOOKS, dtype=np.int32)


def text_rows(*tokens: int) -> Rows:
    rows = np.full((len(tokens), ROW_COLUMNS), -1, np.int32)
    rows[:, CODEBOOKS] = tokens
    return rows
