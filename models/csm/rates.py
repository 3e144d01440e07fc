"""Whole clips to Mimi's 24 kHz, for the model to listen to: a windowed sinc of 32 periods of the lower rate,
without delay. The pipeline's resampler is for streams on their way to a caller."""

import math

import numpy as np

from models.csm.shapes import RATE_HZ
from models.csm.stepping import Samples

_HALF_PERIODS = 16
_KAISER_BETA = 6.0
_MOST_RATE_HZ = 384_000


def codec_samples(n: int, rate_hz: int) -> int:
    """How many samples at 24 kHz `n` at `rate_hz` are. Raises `ValueError` outside 1..384,000 Hz."""
    if not 0 < rate_hz <= _MOST_RATE_HZ:
        raise ValueError(f"sample rate {rate_hz} Hz is outside 1..{_MOST_RATE_HZ}")
    return round(n * RATE_HZ / rate_hz)


def to_codec_rate(audio: Samples, rate_hz: int, start: int = 0, stop: int | None = None) -> Samples:
    """(n,) float32 at `rate_hz` -> samples `start` to `stop` (None: all) of the `codec_samples(n, rate_hz)`
    that they are at 24 kHz. Blocks for about 1 ms per second of 8 kHz audio. Raises `ValueError`."""
    n = codec_samples(len(audio), rate_hz)
    stop = n if stop is None else min(stop, n)
    if rate_hz == RATE_HZ:
        return np.array(audio[start:stop], np.float32)
    common = math.gcd(rate_hz, RATE_HZ)
    up, down = RATE_HZ // common, rate_hz // common
    half = math.ceil(_HALF_PERIODS * max(1.0, down / up))
    first = start * down // up - half + 1
    padded = _padded(audio, first, stop * down // up + half + 1)
    output = np.zeros(max(0, stop - start), np.float32)
    for phase in range(min(up, n)):
        # Outputs phase, phase + up, ... lie equally far behind an input sample, `down` samples apart.
        whole, part = divmod(phase * down, up)
        steps = np.arange(-((phase - start) // up), -((phase - stop) // up))
        if not len(steps):
            continue
        places = whole + down * steps - half + 1 - first
        taps = _taps(part / up, half, down / up)
        if down == 1:
            near = padded[places[0] : places[-1] + 2 * half]
            output[phase + up * steps - start] = np.convolve(near, taps[::-1], "valid")
        else:
            output[phase + up * steps - start] = padded[places[:, None] + np.arange(2 * half)] @ taps
    return output


def _padded(audio: Samples, first: int, end: int) -> Samples:
    """Samples `first` to `end`, zeros where there are none."""
    there = np.asarray(audio[max(0, first) : max(0, end)], np.float32)
    before = max(0, -first)
    return np.pad(there, (before, max(0, end - first - before - len(there))))


def _taps(part: float, half: int, slower: float) -> Samples:
    """Weights of the 2 * `half` inputs around an output that lies `part` of a sample after the middle one."""
    offsets = np.arange(-half + 1, half + 1) - part
    cutoff = min(1.0, 1 / slower)
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, None))) / np.i0(_KAISER_BETA)
    taps = cutoff * np.sinc(cutoff * offsets) * window
    unit: Samples = (taps / taps.sum()).astype(np.float32)
    return unit
