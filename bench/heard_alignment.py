"""Where the words of the bundled voice lie in its sound, found without asking the voice.

Every word is synthesised by itself, with the phonemes that it has in the sentence, by hibari as its package
loads it; the words are joined, and the joined sound is warped onto the sentence, pauses cut short, by dynamic
time warping of mel spectra. What `Voice.word_ends` tells plays no part in it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Samples

RATE_HZ = 24_000
STEP = 120
"""Samples from one spectrum to the next: 5 ms."""
_WINDOW = 480
_FFT = 1_024
_BANDS = 24
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 8_000.0
_QUIET = 10 ** (-50 / 20)
_PAUSE_STEPS = 20
"""100 ms: the closures of p, t and k are shorter."""
_KEPT_STEPS = 4
_NEAR = 4 * STEP
_MARKS = ";:,.!?—…"
_FLOOR = 1e-5
_DELTA_WEIGHT = 3.0

Matrix = NDArray[np.float64]
Span = tuple[float, float]


class Aligner:
    """Loads hibari's default voice; blocks for half a second."""

    def __init__(self) -> None:
        import hibari

        self._voice: Any = hibari.Hibari(threads=1)
        self._words: dict[str, Samples] = {}

    def spans(self, words: Sequence[str], audio: Samples) -> list[Span]:
        """From where to where each of the `words` sounds in `audio`, (n,) float32 at 24 kHz, in seconds.
        Blocks for about 0.3 s for a sentence."""
        start, stop = _sounding(audio)
        if not words or start == stop:
            return [(0.0, 0.0)] * len(words)
        sounds = [self._word(phonemes) for phonemes in self._phonemes(words)]
        sentence, kept, pauses = _without_pauses(audio[start:stop])
        path = _warped(_features(np.concatenate(sounds)), _features(sentence))
        borders = np.cumsum([0, *(len(sound) for sound in sounds)])
        places = [self._place(border, path, kept) for border in borders]
        before = [_outside(place, pauses, at=0) for place in places]
        behind = [_outside(place, pauses, at=1) for place in places]
        return [
            ((start + first) / RATE_HZ, (start + last) / RATE_HZ)
            for first, last in zip(behind[:-1], before[1:], strict=True)
        ]

    def _place(self, border: int, path: NDArray[np.int64], kept: NDArray[np.int64]) -> float:
        """The sample of the sentence that lies where the joined words have `border`."""
        step = min(border / STEP, int(path[-1, 0]))
        near = path[np.abs(path[:, 0] - step) <= 1, 1]
        return float(np.interp(near.mean(), np.arange(len(kept)), kept) * STEP)

    def _phonemes(self, words: Sequence[str]) -> list[str]:
        """As they are in the sentence, where they can be told apart: "the" and "a" are spoken in two ways."""
        together = " ".join(self._voice.phonemize(" ".join(words))).split(" ")
        if len(together) != len(words):
            together = ["".join(self._voice.phonemize(word)) for word in words]
        return [phonemes.strip(_MARKS + " ") for phonemes in together]

    def _word(self, phonemes: str) -> Samples:
        if phonemes not in self._words:
            sound = np.asarray(self._voice.from_phonemes(phonemes + ",", seed=0), np.float32)
            start, stop = _sounding(sound)
            self._words[phonemes] = sound[start:stop]
        return self._words[phonemes]


def _sounding(audio: Samples) -> tuple[int, int]:
    """[start, stop) without the silence at both ends, in whole steps."""
    steps = len(audio) // STEP
    power = np.mean(audio[: steps * STEP].reshape(steps, STEP).astype(np.float64) ** 2, axis=1)
    loud = np.flatnonzero(power > _QUIET**2)
    return (0, 0) if loud.size == 0 else (int(loud[0]) * STEP, (int(loud[-1]) + 1) * STEP)


def _without_pauses(audio: Samples) -> tuple[Samples, NDArray[np.int64], list[tuple[int, int]]]:
    """The sound with long silences cut short, which step of `audio` each step of it is, and the silences, in
    samples [start, stop)."""
    steps = len(audio) // STEP
    power = np.mean(audio[: steps * STEP].reshape(steps, STEP).astype(np.float64) ** 2, axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], power <= _QUIET**2, [0]))))
    silences = [
        (first, last) for first, last in edges.reshape(-1, 2).tolist() if last - first >= _PAUSE_STEPS
    ]
    keep = np.ones(steps, np.bool_)
    for first, last in silences:
        keep[first + _KEPT_STEPS : last - _KEPT_STEPS] = False
    kept = np.flatnonzero(keep)
    short = audio[: steps * STEP].reshape(steps, STEP)[kept].reshape(-1)
    return short, kept, [(first * STEP, last * STEP) for first, last in silences]


def _outside(place: float, pauses: Sequence[tuple[int, int]], *, at: int) -> float:
    """A border that falls into a pause is where the pause begins (`at` 0) or ends (1)."""
    inside = [pause[at] for pause in pauses if pause[0] - _NEAR <= place <= pause[1] + _NEAR]
    return float(inside[0]) if inside else place


def _features(audio: Samples) -> Matrix:
    """(n_steps, 2 x bands): log mel spectrum less its mean, and how it changes."""
    padded = np.pad(audio.astype(np.float64), (_WINDOW // 2, _WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::STEP][: len(audio) // STEP + 1]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), _FFT)) ** 2
    mel = np.log(power @ _filters().T + _FLOOR)
    return np.hstack([mel - mel.mean(axis=0), _DELTA_WEIGHT * np.gradient(mel, axis=0)])


def _filters() -> Matrix:
    """(bands, bins) triangles, evenly spaced in mel (O'Shaughnessy 1987)."""
    mels = np.linspace(np.log1p(_LOWEST_HZ / 700), np.log1p(_HIGHEST_HZ / 700), _BANDS + 2)
    edges = 700 * np.expm1(mels)[:, None]
    hz = np.fft.rfftfreq(_FFT, 1 / RATE_HZ)[None]
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    filters: Matrix = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _warped(first: Matrix, second: Matrix) -> NDArray[np.int64]:
    """The cheapest path, (n, 2) steps of both, from their common start to their common end (Sakoe and Chiba
    1978, symmetric without weights)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * first @ second.T
    rows, columns = squares.shape
    # Diagonal by diagonal, so that numpy does a whole one at a time: entry (row, row + column) is a pair.
    cost = np.full((rows, rows + columns - 1), np.inf)
    for row in range(rows):
        cost[row, row : row + columns] = np.sqrt(np.maximum(0.0, squares[row]))
    total = np.full_like(cost, np.inf)
    total[0, 0] = cost[0, 0]
    for diagonal in range(1, rows + columns - 1):
        entering = total[:, diagonal - 1].copy()
        entering[1:] = np.minimum(entering[1:], total[:-1, diagonal - 1])
        if diagonal > 1:
            entering[1:] = np.minimum(entering[1:], total[:-1, diagonal - 2])
        total[:, diagonal] = entering + cost[:, diagonal]
    row, column = rows - 1, columns - 1
    path = [(row, column)]
    while row or column:
        before = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
        row, column = min(
            (pair for pair in before if min(pair) >= 0), key=lambda pair: float(total[pair[0], sum(pair)])
        )
        path.append((row, column))
    return np.asarray(path[::-1], np.int64)
