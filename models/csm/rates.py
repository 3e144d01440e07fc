"""Whole clips to Mimi's 24 kHz, for the model to listen to: a windowed sinc of 32 periods of the lower rate,
without delay. The pipeline's resampler is for streams on their way to a caller."""

import math

import numpy as np

from models.csm.shapes import RATE_HZ
from models.csm.stepping import Samples

_HALF_PERIODS = 16
_KAISER_BETA = 6.0
_MOST_RATE_HZ = 384_000


def to_codec_rate(audio: Samples, rate_hz: int) -> Samples:
    """(n,) float32 at `rate_hz` -> (round(n * 24000 / rate_hz),) float32. Blocks for about 1 ms per second of
    8 kHz audio. Raises `ValueError` for a rate outside 1..384,000 Hz."""
    if not 0 < rate_hz <= _MOST_RATE_HZ:
        raise ValueError(f"sample rate {rate_hz} Hz is outside 1..{_MOST_RATE_HZ}")
    if rate_hz == RATE_HZ:
        return np.array(audio, np.float32)
    common = math.gcd(rate_hz, RATE_HZ)
    up, down = RATE_HZ // common, rate_hz // common
    n = round(len(audio) * up / down)
    half = math.ceil(_HALF_PERIODS * max(1.0, down / up))
    padded = np.pad(np.asarray(audio, np.float32), (half, half + down))
    output = np.zeros(n, np.float32)
    for phase in range(min(up, n)):
        # Outputs phase, phase + up, ... lie equally far behind an input sample, `down` samples apart.
        whole, part = divmod(phase * down, up)
        places = whole + down * np.arange(-(-(n - phase) // up))
        taps = _taps(part / up, half, down / up)
        if down == 1:
            output[phase::up] = np.convolve(padded[1:], taps[::-1], "valid")[places]
        else:
            output[phase::up] = padded[places[:, None] + 1 + np.arange(2 * half)] @ taps
    return output


def _taps(part: float, half: int, slower: float) -> Samples:
    """Weights of the 2 * `half` inputs around an output that lies `part` of a sample after the middle one."""
    offsets = np.arange(-half + 1, half + 1) - part
    cutoff = min(1.0, 1 / slower)
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, None))) / np.i0(_KAISER_BETA)
    taps = cutoff * np.sinc(cutoff * offsets) * window
    unit: Samples = (taps / taps.sum()).astype(np.float32)
    return unit
