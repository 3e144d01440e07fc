"""Where a machine's greeting ends and it listens: behind its beep, or behind a long silence. Pure.

Who has answered tells `pipeline.answer_judge`.
"""

import math
from typing import Final

import numpy as np

from pipeline.line import LINE_RATE_HZ, Pcm


class GreetingEnd:
    """When a machine has spoken and listens: behind its beep, or behind a long silence. `push` gives the
    line's samples in order, `voiced` whether somebody speaks in them; the answer is True from then on."""

    SILENCE_S: Final = 2.2
    LONGEST_S: Final = 60.0
    AFTER_BEEP_S: Final = 0.3
    BELIEF_S: Final = 0.15
    """So long the voice detector may go on believing in a voice. If it still does, the beep was a vowel."""

    def __init__(self) -> None:
        self._beep = BeepMeter()
        self._silent = 0
        self._samples = 0
        self._beeped_at: int | None = None

    def push(self, pcm: Pcm, *, voiced: bool) -> bool:
        self._samples += len(pcm)
        ended = self._beep.push(pcm)
        if ended:
            self._beeped_at = self._samples
        sounding = voiced or self._beep.sounding
        self._silent = 0 if sounding else self._silent + len(pcm)
        if self._beeped_at is not None:
            since_s = (self._samples - self._beeped_at) / LINE_RATE_HZ
            if not voiced or since_s < self.BELIEF_S:
                return since_s >= self.AFTER_BEEP_S
            self._beeped_at = None
        limit = self._samples >= self.LONGEST_S * LINE_RATE_HZ
        return limit or self._silent >= self.SILENCE_S * LINE_RATE_HZ


class BeepMeter:
    """Finds one steady tone, as answering machines give it before they record: 0.15 s and longer, 350 to
    2,200 Hz. Voices have overtones and do not hold still."""

    SHORTEST_S: Final = 0.15
    _WINDOW = 256
    _HOP = 128
    _LOUD_DBFS = -38.0
    _SHARE = 0.88
    _STEADY_BINS = 1

    def __init__(self) -> None:
        self._pending = np.zeros(0, np.float64)
        self._run = 0
        self._bin = 0
        self.sounding = False
        self._window = np.hanning(self._WINDOW)

    def push(self, pcm: Pcm) -> bool:
        """True when a beep has just ended."""
        self._pending = np.concatenate([self._pending, pcm.astype(np.float64) / 32_768])
        ended = False
        while len(self._pending) >= self._WINDOW:
            ended = self._hear(self._pending[: self._WINDOW]) or ended
            self._pending = self._pending[self._HOP :]
        return ended

    def _hear(self, samples: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bool:
        power = float(np.mean(samples**2))
        loud = power > 0 and 10 * math.log10(power) > self._LOUD_DBFS
        spectrum = np.abs(np.fft.rfft(samples * self._window)) ** 2
        peak = int(np.argmax(spectrum))
        share = spectrum[max(0, peak - 2) : peak + 3].sum() / max(spectrum.sum(), 1e-12)
        hertz = peak * LINE_RATE_HZ / self._WINDOW
        pure = loud and share > self._SHARE and 350 <= hertz <= 2200
        if pure and (self._run == 0 or abs(peak - self._bin) <= self._STEADY_BINS):
            self._bin = peak
            self._run += 1
            self.sounding = self._run * self._HOP >= self.SHORTEST_S * LINE_RATE_HZ
            return False
        ended = self.sounding
        self._run, self.sounding = (1 if pure else 0), False
        self._bin = peak
        return ended
