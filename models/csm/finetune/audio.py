"""A clip as Mimi takes it: 24 kHz, mono, equally loud.

Loudness after ITU-R BS.1770-4: K-weighting, 400 ms blocks every 100 ms, gates at -70 LUFS and 10 LU below the
mean. The weighting is applied to the spectrum of the whole clip; so is the change of rate.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray

from models.base import ModelError, Samples
from models.csm.shapes import RATE_HZ

LOUDNESS_LUFS = -23.0
"""EBU R 128's target."""
_PEAK = 0.98
_SILENCE_LUFS = -70.0
_GUARD_S = 0.05
"""Silence around a clip, so that its end does not wrap round to its beginning."""


class AudioError(ModelError):
    """A clip's audio cannot be used."""


def clip_samples(
    audio: bytes, *, loudness_lufs: float | None = LOUDNESS_LUFS, most_s: float = math.inf
) -> Samples:
    """An audio file as (n,) float32 at 24 kHz; channels are averaged. `loudness_lufs` None leaves the level.
    What lies after `most_s` is not decoded. Raises `AudioError`."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as file:
            rate_hz = file.samplerate
            n_most = -1 if math.isinf(most_s) else round(most_s * rate_hz)
            channels = file.read(frames=n_most, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(f"no audio that libsndfile reads: {error}") from error
    samples = resampled(channels.mean(axis=1), rate_hz, RATE_HZ)
    if not len(samples) or not np.isfinite(samples).all():
        raise AudioError("the audio is empty or not finite")
    return samples if loudness_lufs is None else levelled(samples, loudness_lufs)


def resampled(samples: Samples, source_hz: int, target_hz: int) -> Samples:
    """A whole clip, (n,) float32, at another rate: (round(n * target / source),) float32, without delay."""
    if source_hz == target_hz or not len(samples):
        return samples.astype(np.float32, copy=False)
    common = math.gcd(source_hz, target_hz)
    step = source_hz // common
    # A multiple of `step` samples makes the new length whole, and so the time axis exact.
    n_padded = -(-(len(samples) + round(2 * _GUARD_S * source_hz)) // step) * step
    spectrum = np.fft.rfft(samples.astype(np.float64), n_padded)
    n_new = n_padded * target_hz // source_hz
    kept = np.zeros(n_new // 2 + 1, complex)
    n_kept = min(len(kept), len(spectrum))
    kept[:n_kept] = spectrum[:n_kept] * _edge(n_kept, fall=min(source_hz, target_hz) == target_hz)
    new = np.fft.irfft(kept, n_new) * (n_new / n_padded)
    return new[: round(len(samples) * target_hz / source_hz)].astype(np.float32)


def _edge(n_bins: int, *, fall: bool) -> NDArray[np.float64]:
    """1, falling as a cosine over the last 4 % of the band, so that a cut edge does not ring."""
    weights = np.ones(n_bins)
    if fall and (width := n_bins // 25):
        weights[-width:] = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, width))
    return weights


def levelled(samples: Samples, target_lufs: float) -> Samples:
    """At `target_lufs`, or as near as the peak allows. Silence stays as it is."""
    measured = loudness_lufs(samples)
    if measured <= _SILENCE_LUFS:
        return samples
    gain = min(10 ** ((target_lufs - measured) / 20), _PEAK / float(np.abs(samples).max()))
    return (samples * np.float32(gain)).astype(np.float32)


def loudness_lufs(samples: Samples, rate_hz: int = RATE_HZ) -> float:
    """Integrated loudness of a mono clip, (n,) float32; -inf for silence."""
    weighted = _k_weighted(samples, rate_hz)
    block, hop = round(0.4 * rate_hz), round(0.1 * rate_hz)
    squares = np.concatenate(([0.0], np.cumsum(weighted**2)))
    starts = np.arange(0, max(1, len(samples) - block + 1), hop)
    ends = np.minimum(starts + block, len(samples))
    powers = (squares[ends] - squares[starts]) / (ends - starts)
    loud = powers[_lufs(powers) > _SILENCE_LUFS]
    if not len(loud):
        return -math.inf
    kept = loud[_lufs(loud) > _lufs(loud.mean(keepdims=True))[0] - 10.0]
    return float(_lufs(kept.mean(keepdims=True))[0])


def _lufs(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = -0.691 + 10 * np.log10(np.maximum(powers, 1e-15))
    return levels


def _k_weighted(samples: Samples, rate_hz: int) -> NDArray[np.float64]:
    """The two filters' analogue prototypes (shelf of 4 dB at 1,682 Hz, high pass at 38 Hz), bilinearly
    transformed for any rate, as responses."""
    n_padded = len(samples) + round(_GUARD_S * rate_hz)
    angles = 2 * np.pi * np.arange(n_padded // 2 + 1) / n_padded
    z = np.exp(-1j * angles)
    response = _shelf(z, rate_hz) * _high_pass(z, rate_hz)
    weighted: NDArray[np.float64] = np.fft.irfft(
        np.fft.rfft(samples.astype(np.float64), n_padded) * response, n_padded
    )
    return weighted[: len(samples)]


def _shelf(z: NDArray[np.complex128], rate_hz: int) -> NDArray[np.complex128]:
    k, q = math.tan(math.pi * 1681.974450955533 / rate_hz), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    above = (high + middle * k / q + k * k) + 2 * (k * k - high) * z + (high - middle * k / q + k * k) * z**2
    below = (1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2
    response: NDArray[np.complex128] = above / below
    return response


def _high_pass(z: NDArray[np.complex128], rate_hz: int) -> NDArray[np.complex128]:
    k, q = math.tan(math.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    scale = 1 + k / q + k * k
    below = 1 + 2 * (k * k - 1) / scale * z + (1 - k / q + k * k) / scale * z**2
    return (1 - 2 * z + z**2) / below
