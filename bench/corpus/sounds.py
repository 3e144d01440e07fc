"""What a line carries besides the caller's words: coughs, throats, clicks, somebody else in the room.
Synthetic, from a seed; each (n,) float64 with the loudest sample at 1."""

import numpy as np

from bench.corpus.line import Wave, band, convolved
from pipeline.line import LINE_RATE_HZ

_SIDE_TALK_HIGHEST_HZ = 1800.0
_SIDE_TALK_DECAY_S = 0.09
_SIDE_TALK_DIRECT = 0.35


def sound(kind: str, seed: int) -> Wave:
    """A sound without words by its kind; raises `KeyError` for another."""
    generator = np.random.default_rng([seed, sum(kind.encode())])
    made = band(np.concatenate((_SOUNDS[kind](generator), np.zeros(80))))
    loudest: Wave = made / np.abs(made).max()
    return loudest


def mm_hmm(pitch_hz: float, seed: int) -> Wave:
    """Two hums with a breath between, the second one rising: no voice at hand can say it."""
    generator = np.random.default_rng(seed)
    breath = 0.02 * np.hanning(_samples(0.08)) * generator.standard_normal(_samples(0.08))
    rise = generator.uniform(1.1, 1.3)
    first = _nasal(generator.uniform(0.13, 0.2), pitch_hz, pitch_hz * 0.93)
    second = _nasal(generator.uniform(0.2, 0.3), pitch_hz * 1.02, pitch_hz * rise)
    return band(np.concatenate((first, breath, second)))


def _nasal(seconds: float, from_hz: float, to_hz: float) -> Wave:
    """A hum with the resonances of /m/ (about 280, 1,000 and 2,300 Hz; Fujimura 1962)."""
    samples = _samples(seconds)
    hertz = np.linspace(from_hz, to_hz, samples)
    phase = 2 * np.pi * np.cumsum(hertz) / LINE_RATE_HZ
    hum = np.zeros(samples)
    for harmonic in range(1, 18):
        at = harmonic * hertz
        gain = 0.01 + np.exp(-(((at - 280) / 180) ** 2))
        gain += 0.12 * np.exp(-(((at - 1000) / 250) ** 2)) + 0.06 * np.exp(-(((at - 2300) / 400) ** 2))
        hum += gain * np.sin(harmonic * phase + harmonic) / harmonic**0.8
    return hum * np.hanning(samples) ** 0.4


def from_afar(samples: Wave, seed: int) -> Wave:
    """Speech as of somebody across the room: dull, and with more of the room than of the mouth."""
    generator = np.random.default_rng(seed)
    length = round(6 * _SIDE_TALK_DECAY_S * LINE_RATE_HZ)
    room = generator.standard_normal(length) * np.exp(
        -np.arange(length) / (_SIDE_TALK_DECAY_S * LINE_RATE_HZ)
    )
    room /= np.sqrt((room**2).sum())
    room *= 1 - _SIDE_TALK_DIRECT
    room[0] += _SIDE_TALK_DIRECT
    far = convolved(np.concatenate((samples, np.zeros(length // 2))), room)
    hertz = np.fft.rfftfreq(len(far), 1 / LINE_RATE_HZ)
    dull: Wave = np.fft.irfft(np.fft.rfft(far) / np.sqrt(1 + (hertz / _SIDE_TALK_HIGHEST_HZ) ** 6), len(far))
    return dull


def _samples(seconds: float) -> int:
    return round(seconds * LINE_RATE_HZ)


def _fall(seconds: float, decay_s: float, rise_s: float = 0.003) -> Wave:
    time = np.arange(_samples(seconds)) / LINE_RATE_HZ
    fall: Wave = (1 - np.exp(-time / rise_s)) * np.exp(-time / decay_s)
    return fall


def _throaty(generator: np.random.Generator, samples: int, pitch_hz: float, roughness: float) -> Wave:
    """Glottal pulses of an uneven period through a throat of two resonances, with breath."""
    pulses = np.zeros(samples)
    at = 0.0
    while at < samples:
        pulses[int(at)] = generator.uniform(0.5, 1.0)
        at += LINE_RATE_HZ / pitch_hz * generator.uniform(1 - roughness, 1 + roughness)
    time = np.arange(200) / LINE_RATE_HZ
    throat = np.exp(-time * 350) * (np.sin(2 * np.pi * 620 * time) + 0.5 * np.sin(2 * np.pi * 1250 * time))
    return convolved(pulses, throat) + 0.25 * generator.standard_normal(samples)


def _one_cough(generator: np.random.Generator) -> Wave:
    """The burst of the glottis opening, the breath after it, and often a voiced end (the three phases of a
    cough sound: Korpas, Sadlonova and Vrabec 1996)."""
    burst = _fall(0.05, 0.012, 0.001) * generator.standard_normal(_samples(0.05))
    breath_s = generator.uniform(0.14, 0.26)
    breath = 0.35 * _fall(breath_s, breath_s / 2, 0.01) * generator.standard_normal(_samples(breath_s))
    end_s = generator.uniform(0.05, 0.12)
    end = (
        0.3
        * np.hanning(_samples(end_s))
        * _throaty(generator, _samples(end_s), generator.uniform(110, 260), 0.15)
    )
    return np.concatenate((burst, breath, end))


def _cough(generator: np.random.Generator) -> Wave:
    return _one_cough(generator)


def _double_cough(generator: np.random.Generator) -> Wave:
    between = np.zeros(_samples(generator.uniform(0.08, 0.2)))
    return np.concatenate(
        (_one_cough(generator), between, generator.uniform(0.6, 0.9) * _one_cough(generator))
    )


def _throat(generator: np.random.Generator) -> Wave:
    seconds = generator.uniform(0.3, 0.6)
    samples = _samples(seconds)
    swell = np.hanning(samples) ** 0.5
    return swell * _throaty(generator, samples, generator.uniform(70, 130), 0.35)


def _sniff(generator: np.random.Generator) -> Wave:
    samples = _samples(generator.uniform(0.2, 0.45))
    rising = np.linspace(0.1, 1, samples) ** 1.5 * np.minimum(1, (samples - np.arange(samples)) / 160)
    hiss: Wave = np.diff(generator.standard_normal(samples + 1))
    return rising * hiss


def _click(generator: np.random.Generator) -> Wave:
    return generator.standard_normal(_samples(0.012)) * np.exp(-np.arange(_samples(0.012)) / 12)


def _pop(generator: np.random.Generator) -> Wave:
    time = np.arange(_samples(0.06)) / LINE_RATE_HZ
    return np.sin(2 * np.pi * generator.uniform(320, 480) * time) * np.exp(-time * 70)


def _crackle(generator: np.random.Generator) -> Wave:
    samples = _samples(generator.uniform(0.5, 1.2))
    track = np.zeros(samples + 40)
    for place in generator.integers(0, samples, samples // 150):
        track[place : place + 40] += generator.uniform(-1, 1) * np.exp(-np.arange(40) / 6)
    return track


def _static(generator: np.random.Generator) -> Wave:
    samples = _samples(generator.uniform(0.3, 0.9))
    gate = np.repeat(generator.uniform(0, 1, samples // 80 + 1) > 0.35, 80)[:samples]
    return generator.standard_normal(samples) * gate


def _buzz(generator: np.random.Generator) -> Wave:
    samples = _samples(generator.uniform(0.4, 1.0))
    time = np.arange(samples) / LINE_RATE_HZ
    buzz: Wave = np.sign(np.sin(2 * np.pi * 217.0 * time)) * np.minimum(
        1, np.minimum(time, time[::-1]) / 0.01
    )
    return buzz  # 217 Hz: the bursts of a GSM phone beside the line


def _hum(generator: np.random.Generator) -> Wave:
    samples = _samples(generator.uniform(0.6, 1.4))
    time = np.arange(samples) / LINE_RATE_HZ
    tones = sum(np.sin(2 * np.pi * 50.0 * harmonic * time) / harmonic for harmonic in (7, 9, 11, 13, 20))
    hum: Wave = np.asarray(tones) * np.hanning(samples) ** 0.2
    return hum


_SOUNDS = {
    "cough": _cough,
    "throat": _throat,
    "double_cough": _double_cough,
    "sniff": _sniff,
    "click": _click,
    "crackle": _crackle,
    "buzz": _buzz,
    "pop": _pop,
    "static": _static,
    "hum": _hum,
}
