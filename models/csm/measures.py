"""How long things took lately, and what that allows."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from models.csm.scheduler import bucket
from models.csm.shapes import CODEC_FRAME_S

WINDOW = 512
"""Ticks that count as recent: about 40 s of speech."""
ADMISSION_S = 0.064
"""A tick longer than this leaves too little of 80 ms for prefills: more slots would stutter."""
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
        n = len(self)
        if n == 0:
            return 0.0
        rank = min(n - 1, int(n * percent / 100))
        return float(np.partition(self._values[:n], rank)[rank])

    def mean(self) -> float:
        return float(self._values[: len(self)].mean()) if self._added else 0.0


class TickTimes:
    """Seconds of recent ticks by batch bucket."""

    def __init__(self) -> None:
        self.all = Recent()
        self._by_bucket: dict[int, Recent] = {}
        self._sizes: deque[int] = deque(maxlen=WINDOW)

    def add(self, n_slots: int, seconds: float) -> None:
        self.all.add(seconds)
        self._sizes.append(n_slots)
        self._by_bucket.setdefault(bucket(n_slots), Recent(WINDOW // 4)).add(seconds)

    def most_slots(self) -> int:
        """Of one recent tick."""
        return max(self._sizes, default=0)

    def predicted(self, n_slots: int) -> float:
        """The p99 tick of `n_slots`: measured for their bucket, or the longest of smaller ones grown by
        `GROWTH_PER_DOUBLING`; 0.0 where nothing is known."""
        wanted = bucket(n_slots)
        known = [b for b in self._by_bucket if b <= wanted]
        if not known:
            return max((r.percentile(99) for r in self._by_bucket.values()), default=0.0)
        nearest = max(known)
        doublings = (wanted // nearest).bit_length() - 1
        return float(self._by_bucket[nearest].percentile(99) * GROWTH_PER_DOUBLING**doublings)


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
