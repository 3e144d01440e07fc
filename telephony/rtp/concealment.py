"""What stands in for lost audio: the last pitch periods again, fading out (after ITU-T G.711 appendix I).

A repeated period keeps a short loss from being heard as a click, and a voice detector from seeing a pause in
the middle of a word; after 60 ms nothing is known any more, and silence is the honest answer.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.line import LINE_RATE_HZ, Pcm

FADE_SAMPLES: Final = LINE_RATE_HZ * 60 // 1000
"""From full level to silence."""
_SHORTEST_PERIOD: Final = 40
"""200 Hz. A higher voice repeats two or three of its periods."""
_LONGEST_PERIOD: Final = 120
"""66 Hz."""
_COMPARED: Final = 160
_KEPT: Final = _COMPARED + _LONGEST_PERIOD
_OVERLAP: Final = 32
"""4 ms of cross-fade where the stream comes back."""

_Wave = NDArray[np.float64]


class Concealer:
    """`heard(pcm)` for what arrived, `lost(n)` for what did not, in order; both return what goes on."""

    def __init__(self) -> None:
        self._history: list[Pcm] = []
        self._held = 0
        self._period: _Wave | None = None
        self._made = 0

    def heard(self, pcm: Pcm) -> Pcm:
        """`pcm` itself, or with its first 4 ms cross-faded when something was made up just before."""
        if self._made:
            if self._made < FADE_SAMPLES and pcm.size and self._period is not None and self._period.size:
                pcm = self._joined(pcm)
            self._made = 0
            self._period = None
            self._history.clear()
            self._held = 0
        self._history.append(pcm)
        self._held += pcm.size
        while self._held - self._history[0].size >= _KEPT:
            self._held -= self._history.pop(0).size
        return pcm

    def lost(self, n_samples: int) -> Pcm:
        """(n_samples,) int16 made up from what was heard last."""
        made = np.round(self._continued(n_samples)).astype(np.int16)
        self._made += n_samples
        return made

    def _continued(self, n_samples: int) -> _Wave:
        """The next samples of the repeated period, faded by their distance from what was heard."""
        if self._made >= FADE_SAMPLES:
            return np.zeros(n_samples)
        if self._period is None:
            self._period = _last_period(self._history)
        place = self._made + np.arange(n_samples)
        if not self._period.size:
            return np.zeros(n_samples)
        gain = np.maximum(0.0, 1.0 - (place + 1) / FADE_SAMPLES)
        return self._period[place % self._period.size] * gain

    def _joined(self, pcm: Pcm) -> Pcm:
        n_samples = min(_OVERLAP, pcm.size)
        rising = (np.arange(n_samples) + 1) / (n_samples + 1)
        joined = pcm.copy()
        joined[:n_samples] = np.round(
            pcm[:n_samples] * rising + self._continued(n_samples) * (1 - rising)
        ).astype(np.int16)
        return joined


def _last_period(history: list[Pcm]) -> _Wave:
    """One pitch period, the last that was heard: as long as makes the recent past most like itself."""
    past = np.concatenate(history).astype(np.float64)[-_KEPT:] if history else np.zeros(0)
    if past.size < _KEPT or not past.any():
        return past[-_LONGEST_PERIOD:] if past.any() and past.size >= _LONGEST_PERIOD else np.zeros(0)
    recent = past[-_COMPARED:]
    lags = np.arange(_SHORTEST_PERIOD, _LONGEST_PERIOD + 1)
    shifted = np.lib.stride_tricks.sliding_window_view(past, _COMPARED)[past.size - _COMPARED - lags]
    energy = np.sqrt((shifted**2).sum(axis=1)) + 1.0
    likeness = (shifted @ recent) / energy
    return past[-int(lags[int(np.argmax(likeness))]) :]
