"""How long things took lately, and what that allows."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.csm.scheduler import bucket
from models.csm.shapes import CODEC_FRAME_S

WINDOW = 512
"""Ticks that count as recent: about 40 s of speech."""
ADMISSION_S = 0.064
"""A tick longer than this leaves too little of 80 ms for prefills: more slots would stutter."""
MEMORY_S = 30.0
"""Ticks that are older say nothing of what a tick would take now."""
ENOUGH_TICKS = 25
"""Of one bucket, for its p99 to mean something: 2 s of speech."""
GROWTH_PER_DOUBLING = 1.25
"""A batch twice as large takes at most this much longer, until it has been measured: weights are read once
for the whole batch, so ticks grow slowly (8 slots took 1.44x of one on a CPU)."""


class Recent:
    """The last `window` values."""

    def __init__(self, window: int = WINDOW) -> None:
        self._values = np.zeros(window)
        self._added = 0

    def add(self, value: float) -> None:
        self._values[self._added % len(self._values)] = value
        self._added += 1

    def __len__(self) -> int:
        return min(self._added, len(self._values))

    def percentile(self, percent: float) -> float:
        """The nearest measured value; 0.0 where nothing was measured."""
        return _percentile(self._values[: len(self)], percent)

    def mean(self) -> float:
        return float(self._values[: len(self)].mean()) if self._added else 0.0


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    n = len(values)
    if n == 0:
        return 0.0
    rank = min(n - 1, int(n * percent / 100))
    return float(np.partition(values, rank)[rank])


class TickTimes:
    """Seconds of recent ticks, and what a tick of more slots would take."""

    def __init__(self) -> None:
        self.all = Recent()
        self._ticks: deque[tuple[float, int, float]] = deque(maxlen=WINDOW)
        """(when, slots, seconds)"""

    def add(self, now: float, n_slots: int, seconds: float) -> None:
        self.all.add(seconds)
        self._ticks.append((now, n_slots, seconds))

    def with_one_more(self, now: float, most_slots: int) -> tuple[int, float]:
        """How many slots the largest of the last `MEMORY_S` would have with one more, at most `most_slots`,
        and the p99 tick of so many: measured for their bucket, or for a smaller one and grown by
        `GROWTH_PER_DOUBLING`. 0.0 where too little was measured: a few slow ticks long ago, or the first
        after loading, must not keep calls out, for without calls nothing is measured again."""
        lately = [(n_slots, seconds) for when, n_slots, seconds in self._ticks if when >= now - MEMORY_S]
        n_slots = min(max((n for n, _ in lately), default=0) + 1, most_slots)
        size = bucket(n_slots)
        growth = 1.0
        while size >= 1:
            seconds = np.array([s for n, s in lately if bucket(n) == size])
            if len(seconds) >= ENOUGH_TICKS:
                return n_slots, _percentile(seconds, 99) * growth
            size, growth = size // 2, growth * GROWTH_PER_DOUBLING
        return n_slots, 0.0


@dataclass(slots=True)
class Counts:
    ticks: int = 0
    codec_frames: int = 0
    prefilled_rows: int = 0
    restored_rows: int = 0
    underruns: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Times are of the recent window, counts since the engine began."""

    ticks: int
    codec_frames: int
    prefilled_rows: int
    restored_rows: int
    underruns: int
    """CodecFrames that came later than the end of the one before, had each been played at once."""
    failures: int
    open_slots: int
    speaking_slots: int
    tick_ms_p50: float
    tick_ms_p95: float
    tick_ms_p99: float
    own_ms: float
    """What a tick costs beside the stepper, mean."""
    own_ms_p99: float

    @property
    def rtf(self) -> float | None:
        """The p99 tick in units of the 80 ms that it makes; None before the first tick."""
        return self.tick_ms_p99 / (CODEC_FRAME_S * 1000) if self.ticks else None
