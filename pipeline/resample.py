"""Changing the sample rate of speech without holding it back.

One stateful polyphase FIR per stream: a Kaiser-windowed sinc of 32 periods of the lower rate, so that its
delay is 16 of them (2 ms where one side is 8 kHz). Output k needs no input later than k * source / target, so
every chunk gives its share at once; streaming resamplers that work in blocks hold back 17-153 ms.

With `low` the lower of the two rates: the pass band reaches 0.425 low (3.4 kHz at 8 kHz) and the stop band
counts from 0.575 low (4.6 kHz), which is where images of the pass band begin and from where aliases fall into
it. Between the two, signals are attenuated and their images and aliases lie outside the pass band.

Design: J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.base import Samples
from pipeline.line import Pcm

PASS_BAND = 0.425
"""Upper edge of the pass band, as a part of the lower of the two rates."""
STOP_BAND = 0.575
"""Lower edge of the stop band, as a part of the lower of the two rates."""
_PERIODS = 32
_MAX_RATE_HZ = 384_000
_CLIP_BLOCK = 4096
_FULL_SCALE = np.float32(32_768)
_LOWEST, _HIGHEST = -_FULL_SCALE, _FULL_SCALE - np.float32(1)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Taps by phase: `bank[p, i]` weighs input sample i of a window of `taps`, oldest first, for an output
    that lies p / up of a sample behind the window's newest one."""

    up: int
    down: int
    taps: int
    centre: int
    """Group delay in steps of 1 / (up * source rate)."""
    bank: NDArray[np.float32]


@lru_cache(maxsize=32)
def _design(source_rate_hz: int, target_rate_hz: int) -> _Filter:
    common = math.gcd(source_rate_hz, target_rate_hz)
    up, down = target_rate_hz // common, source_rate_hz // common
    low = min(source_rate_hz, target_rate_hz)
    taps = 2 * round(_PERIODS * source_rate_hz / low / 2)
    # One tap fewer than fits, an odd number, so that the centre is a whole step.
    centre = up * taps // 2 - 1
    steps = np.arange(-centre, centre + 1)
    cutoff = low / (up * source_rate_hz)  # half the lower rate, as a part of half the inner rate
    attenuation_db = 7.95 + 14.36 * (STOP_BAND - PASS_BAND) * _PERIODS
    window = np.kaiser(2 * centre + 1, 0.1102 * (attenuation_db - 8.7))
    impulse = np.append(np.sinc(cutoff * steps) * window, 0.0)
    impulse *= up / impulse.sum()
    bank = impulse.reshape(taps, up).T[:, ::-1].astype(np.float32, order="C")
    bank.flags.writeable = False
    return _Filter(up, down, taps, centre, bank)


def _check_rate(rate_hz: int) -> int:
    if not 0 < rate_hz <= _MAX_RATE_HZ:
        raise ValueError(f"sample rate {rate_hz} Hz is outside 1..{_MAX_RATE_HZ}")
    return int(rate_hz)


def _checked(samples: Samples) -> Samples:
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise TypeError(f"expected (n,) float32, not {samples.shape} {samples.dtype}; see from_pcm")
    return samples.astype(np.float32, copy=False)


class Resampler:
    """One stream of audio on its way from one rate to another. Not to be shared between threads.

    After n samples in, exactly ceil(n * target / source) have come out, whatever the chunks were, and their
    values do not depend on the chunks. Output lags input by `delay_s`.
    """

    def __init__(self, source_rate_hz: int, target_rate_hz: int) -> None:
        """Raises ValueError for rates outside 1..384,000 Hz. One filter is designed per pair of rates."""
        self._filter = _design(_check_rate(source_rate_hz), _check_rate(target_rate_hz))
        self._equal = source_rate_hz == target_rate_hz
        self.delay_s = 0.0 if self._equal else self._filter.centre / (self._filter.up * source_rate_hz)
        self._reset(0)

    def _reset(self, position: int) -> None:
        self._history = np.zeros(self._filter.taps - 1, np.float32)
        self._position = position
        """The next output's place, in steps of 1 / (up * source rate) after the next input sample."""
        self._started = False

    def push(self, samples: Samples) -> Samples:
        """The output that (n,) float32 at the source rate make possible, (m,) float32 at the target rate.

        Raises TypeError for other shapes and for integers. Takes 8-50 microseconds for 20 ms.
        """
        samples = _checked(samples)
        if self._equal:
            return samples.copy()
        if not len(samples):
            return samples
        self._started = True
        up, down, taps = self._filter.up, self._filter.down, self._filter.taps
        buffer = np.concatenate((self._history, samples))
        steps = len(samples) * up - self._position
        count = max(0, -(-steps // down))
        output = self._filtered(buffer, count)
        self._position += count * down - len(samples) * up
        self._history = buffer[len(buffer) - taps + 1 :]
        return output

    def _filtered(self, buffer: NDArray[np.float32], count: int) -> Samples:
        """`count` outputs; each is one dot product, so that no sample depends on how the stream was cut."""
        up, down, taps, bank = self._filter.up, self._filter.down, self._filter.taps, self._filter.bank
        if count == 0:
            return np.zeros(0, np.float32)
        # Views that overlap; `as_strided` makes the same in twenty times the time.
        size = buffer.itemsize
        if up == 1:
            start = self._position * size
            return _dots(np.ndarray((count, taps), np.float32, buffer, start, (down * size, size)), bank[0])
        windows = np.ndarray((len(buffer) - taps + 1, taps), np.float32, buffer, 0, (size, size))
        if down == 1 and self._position == 0:
            return _dots(windows[:, None, :], bank).reshape(-1)
        places = self._position + down * np.arange(count)
        return _dots(windows[places // up], bank[places % up])

    def flush(self) -> Samples:
        """The tail that the delay still holds, (m,) float32; the next `push` starts a new stream."""
        if self._equal or not self._started:
            return np.zeros(0, np.float32)
        up, down, centre = self._filter.up, self._filter.down, self._filter.centre
        count = max(0, -(-(centre - self._position) // down))
        tail = self.push(np.zeros(-(-centre // up), np.float32))[:count]
        self._reset(0)
        return tail

    def _whole(self, samples: Samples) -> Samples:
        up, down, centre = self._filter.up, self._filter.down, self._filter.centre
        count = round(len(samples) * up / down)
        self._reset(centre)
        padded = np.concatenate((samples, np.zeros(2 * self._filter.taps + down, np.float32)))
        blocks = [self.push(padded[at : at + _CLIP_BLOCK]) for at in range(0, len(padded), _CLIP_BLOCK)]
        self._reset(0)
        return np.concatenate(blocks)[:count]


def _dots(windows: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    dots: NDArray[np.float32] = np.vecdot(windows, taps)
    return dots


def resample(samples: Samples, source_rate_hz: int, target_rate_hz: int) -> Samples:
    """A whole clip, (n,) float32, at another rate and without delay: (round(n * target / source),) float32.

    Raises ValueError and TypeError as `Resampler` does. Blocks for about 1.5 ms per second of audio.
    """
    resampler = Resampler(source_rate_hz, target_rate_hz)
    samples = _checked(samples)
    return samples.copy() if resampler._equal else resampler._whole(samples)


def from_pcm(pcm: Pcm) -> Samples:
    """(n,) int16 as (n,) float32 in [-1, 1): full scale is 32,768."""
    return pcm.astype(np.float32) / _FULL_SCALE


def to_pcm(samples: Samples) -> Pcm:
    """(n,) float32 as (n,) int16: times 32,768, rounded, saturated at -32,768 and 32,767; NaN becomes 0.

    `to_pcm(from_pcm(pcm))` is `pcm`.
    """
    scaled = samples * _FULL_SCALE
    np.rint(scaled, out=scaled)
    # As a rule nothing needs saturating; NaN is in no range.
    if scaled.size and not (np.minimum.reduce(scaled) >= _LOWEST and np.maximum.reduce(scaled) <= _HIGHEST):
        np.nan_to_num(scaled, copy=False)
        np.clip(scaled, _LOWEST, _HIGHEST, out=scaled)
    pcm: Pcm = scaled.astype(np.int16)
    return pcm
