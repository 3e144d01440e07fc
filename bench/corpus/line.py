"""The way from a caller's mouth to the server's edge: telephone band, noise, echo of the agent, lost
AudioFrames, mu-law.

The kinds of noise are synthetic. Tuning: `room` (pink, with mains hum), `street` (brown, swelling, cars
passing by), `hiss` (white). Held out: `office` (a fan's tone, keys), `traffic` (an engine's harmonics,
horns), `cafe` (six streams of noise in formant bands that swell like syllables, and clinking cups).
"""

import random

import numpy as np
from numpy.typing import NDArray

from bench.corpus.model import Condition, Overlap, Turn
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from telephony import g711

LEAD_SAMPLES = LINE_RATE_HZ
"""Of line noise before a turn in `heard`."""
TAIL_SAMPLES = 7 * LINE_RATE_HZ // 2
"""Of line noise after it."""
BAND_HZ = (300.0, 3400.0)
FULL_SCALE = 32_768.0

Wave = NDArray[np.float64]


def heard(turn: Turn) -> Pcm:
    """What arrives at the edge: `LEAD_SAMPLES`, the turn, `TAIL_SAMPLES`. The same samples every time."""
    return _arrived(turn.pcm, turn.condition, LEAD_SAMPLES, len(turn.pcm) + LEAD_SAMPLES + TAIL_SAMPLES, None)


def heard_over(overlap: Overlap, agent: Pcm, at: int) -> Pcm:
    """The caller's channel while (n,) `agent` is played, (n,) int16: the overlap from sample `at` on, and the
    agent's echo where the condition has one. What of the overlap lies behind the end is cut."""
    return _arrived(overlap.pcm, overlap.condition, at, len(agent), agent)


def _arrived(pcm: Pcm, condition: Condition, at: int, length: int, agent: Pcm | None) -> Pcm:
    mixed = np.zeros(length)
    inside = pcm[: max(0, length - at)]
    mixed[at : at + len(inside)] += inside
    if condition.noise is not None:
        mixed += noise(condition.noise, length, condition.level_dbfs, condition.seed)
    if agent is not None and condition.echo_db is not None:
        mixed += echo(agent, condition.echo_db, condition.echo_delay_ms, condition.seed)
    arrived = g711.decode(
        g711.encode(np.clip(np.rint(mixed), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16))
    ).copy()
    chance = random.Random(f"loss {condition.seed}")
    for start in range(0, length, AUDIO_FRAME_SAMPLES):
        if chance.random() < condition.loss:
            arrived[start : start + AUDIO_FRAME_SAMPLES] = 0
    return arrived


def band(samples: Wave) -> Wave:
    """What a telephone passes, without delay: flat from 300 to 3,400 Hz, 24 dB an octave beyond."""
    padded = len(samples) + LINE_RATE_HZ // 10
    hertz = np.fft.rfftfreq(padded, 1 / LINE_RATE_HZ)
    low, high = BAND_HZ
    with np.errstate(divide="ignore"):
        gain = 1 / np.sqrt(1 + (low / hertz) ** 8) / np.sqrt(1 + (hertz / high) ** 8)
    passed: Wave = np.fft.irfft(np.fft.rfft(samples, padded) * gain, padded)[: len(samples)]
    return passed


def echo(agent: Pcm, level_db: float, delay_ms: float, seed: int) -> Wave:
    """The agent's sound as a speaker-phone sends it back: `level_db` against the agent, `delay_ms` late, with
    the reverberation of a small room. Speech of -20 dBFS and an echo of -30 dB are heard at -50 dBFS."""
    generator = np.random.default_rng(seed)
    length = LINE_RATE_HZ // 5
    room = generator.standard_normal(length) * np.exp(-np.arange(length) / (0.03 * LINE_RATE_HZ)) * 0.3
    room[0] = 1.0
    room /= np.sqrt((room**2).sum())
    late = np.zeros(len(agent))
    start = round(delay_ms / 1000 * LINE_RATE_HZ)
    back = band(convolved(agent.astype(np.float64), room))
    kept = max(0, len(agent) - start)
    late[start : start + kept] = back[:kept]
    return late * 10 ** (level_db / 20)


def convolved(samples: Wave, response: Wave) -> Wave:
    size = len(samples) + len(response) - 1
    whole: Wave = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return whole[: len(samples)]


def noise(kind: str, samples: int, level_dbfs: float, seed: int) -> Wave:
    """(samples,) of a kind of noise in the telephone band at an RMS of `level_dbfs`. Raises `KeyError`."""
    generator = np.random.default_rng([seed, sum(kind.encode())])
    sound = band(_NOISES[kind](generator, samples))
    rms = np.sqrt((sound**2).mean()) if samples else 1.0
    level: Wave = sound * (FULL_SCALE * 10 ** (level_dbfs / 20) / max(rms, 1e-9))
    return level


def _sloped(generator: np.random.Generator, samples: int, slope: float) -> Wave:
    """Noise whose amplitude falls with frequency to the power of `slope`, RMS 1."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / LINE_RATE_HZ), 50)
    shaped: Wave = np.fft.irfft(spectrum / hertz**slope, samples)
    scaled: Wave = shaped / np.sqrt((shaped**2).mean())
    return scaled


def _swell(generator: np.random.Generator, samples: int, hertz: float, depth_db: float) -> Wave:
    """A gain that wanders by `depth_db` about `hertz` times a second."""
    points = max(4, round(samples / LINE_RATE_HZ * hertz) + 3)
    places = np.linspace(0, points - 1, samples)
    wander: Wave = np.interp(places, np.arange(points), generator.uniform(-depth_db, depth_db, points))
    gain: Wave = 10 ** (wander / 20)
    return gain


def _tone(samples: int, *hertz: float) -> Wave:
    time = np.arange(samples) / LINE_RATE_HZ
    tone: Wave = np.sum(
        [np.sin(2 * np.pi * each * time) / (1 + number) for number, each in enumerate(hertz)], axis=0
    )
    return tone


def _events(
    generator: np.random.Generator, samples: int, per_second: float, event: Wave, amplitude: float
) -> Wave:
    """`event` at random places, `per_second` of them on average."""
    track = np.zeros(samples + len(event))
    for place in generator.integers(
        0, max(1, samples), generator.poisson(per_second * samples / LINE_RATE_HZ)
    ):
        track[place : place + len(event)] += event * amplitude * generator.uniform(0.4, 1.0)
    return track[:samples]


def _room(generator: np.random.Generator, samples: int) -> Wave:
    return _sloped(generator, samples, 0.5) + 0.3 * _tone(samples, 120.0, 240.0, 360.0)


def _street(generator: np.random.Generator, samples: int) -> Wave:
    passing = np.hanning(2 * LINE_RATE_HZ) * generator.standard_normal(2 * LINE_RATE_HZ)
    rumble = _sloped(generator, samples, 1.0) * _swell(generator, samples, 0.7, 6.0)
    return rumble + _events(generator, samples, 0.25, passing, 1.0)


def _hiss(generator: np.random.Generator, samples: int) -> Wave:
    return generator.standard_normal(samples)


def _office(generator: np.random.Generator, samples: int) -> Wave:
    key = generator.standard_normal(160) * np.exp(-np.arange(160) / 25)
    fan = _sloped(generator, samples, 0.7) + 0.4 * _tone(samples, 310.0, 620.0)
    return fan + _events(generator, samples, 3.0, key, 1.5)


def _traffic(generator: np.random.Generator, samples: int) -> Wave:
    horn = np.hanning(2400) ** 0.3 * _tone(2400, 415.0, 520.0)
    engine = _tone(samples, *(95.0 * harmonic for harmonic in range(3, 10)))
    rush = _sloped(generator, samples, 0.8) * _swell(generator, samples, 0.4, 7.0)
    return (
        rush
        + 0.3 * engine * _swell(generator, samples, 1.0, 8.0)
        + _events(generator, samples, 0.12, horn, 1.5)
    )


def _cafe(generator: np.random.Generator, samples: int) -> Wave:
    time = np.arange(800) / LINE_RATE_HZ
    clink = np.sin(2 * np.pi * 2900 * time) * np.exp(-time * 60)
    room = 0.3 * _sloped(generator, samples, 0.5)
    for _ in range(6):
        hertz = np.fft.rfftfreq(samples, 1 / LINE_RATE_HZ)
        formants = np.exp(-(((hertz - generator.uniform(350, 700)) / 150) ** 2))
        formants += 0.4 * np.exp(-(((hertz - generator.uniform(1000, 2200)) / 250) ** 2))
        speech = np.fft.irfft(np.fft.rfft(generator.standard_normal(samples)) * formants, samples)
        speech /= np.sqrt((speech**2).mean())
        room += speech * _swell(generator, samples, generator.uniform(3, 6), 12.0) * 0.4
    return room + _events(generator, samples, 0.4, clink, 1.2)


_NOISES = {
    "room": _room,
    "street": _street,
    "hiss": _hiss,
    "office": _office,
    "traffic": _traffic,
    "cafe": _cafe,
}
