"""What a voice that has only begun will turn out to be: decided by Whisper's first word and by the sound.

The beginning of a word is enough for Whisper to rank what the word may be, so the probability of all that a
listener says ("yeah", "right") is read from its first token; "I" counts as much as "see" follows it. A hum
has no word: it is known by its spectrum, which ends where /m/ ends. Noise is known by a spectrum that is as
flat as breath, or that does not move at all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.base import STT_RATE_HZ, Glimpse, Samples

BACKCHANNELS = frozenset(
    word
    for line in (
        "yeah yes yep yup yah ya okay ok right write alright sure mm mmm m mhm hmm hm h",
        "uh huh uhh aha oh ah great good fine cool exactly",
    )
    for word in line.split()
)
"""First tokens, in lower case, of what a listener says; as Whisper hears their beginnings, too."""
FOLLOWED = {"i": frozenset({"see"}), "all": frozenset({"right"}), "got": frozenset({"it"})}
"""First tokens that are a listener's only with these second ones."""

ALIKE = frozenset(
    word
    for line in (
        "so to sh she short should tour chore shore shy show sher surely",
        "it that the your as of and a at an her",
        "by bye hi because see rate make",
    )
    for word in line.split()
)
"""First tokens that Whisper writes for "sure", "uh-huh", "I see" and "right" about as often as for words of
their own: the longer the voice has lasted, the rarer. They are evidence for neither."""

STOCK = frozenset(["thank", "thanks"])
"""First tokens of what Whisper writes when it hears nothing."""
HOLDS = frozenset(
    ["stop", "wait", "weight", "no", "nope", "hold", "hang", "don't", "please", "excuse", "sorry", "hey"]
)
"""First tokens of what stops a speaker, so heard."""

_BIAS = -2.21
_PER_BACKCHANNEL, _FLOOR_BACKCHANNEL = -1.486, 0.005
_PER_ALIKE, _FLOOR_ALIKE = -0.688, 0.02
_PER_OTHERS, _FLOOR_OTHERS = 0.791, 0.02
_PER_HOLD, _FLOOR_HOLD = 0.706, 0.01
_PER_NO_SPEECH = -0.667
_PER_HUM = -8.0
"""Weights of a logistic regression on the logarithms of what the first token gives to backchannels, to what
is mistaken for them, to all other words and to `HOLDS`; with the probability of no speech. Fitted with
tiny.en on the first 0.13-0.42 s of 656 clips of the corpus's tuning voices and four more of hibari's, in the
tuning part's noises, both classes counting the same. Leaving each voice out once: of what one in twenty-five
backchannels exceeds, about 65, 80, 85 and 95 % of the rest exceed it too, at 0.13, 0.19, 0.29 and 0.35 s,
level included. The hum's weight is set by hand: it overrules whatever is written."""

_WINDOW, _HOP = 512, 256
_BAND_HZ = (250.0, 3400.0)
_HUM_HZ = 650.0
_AUDIBLE = 1e-2
"""20 dB under the loudest window: quieter ones are not looked at."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Medians over the windows of 32 ms that sound."""

    flatness: float = 0.0
    """Geometric over arithmetic mean of the spectrum from 250 to 3,400 Hz: 1 is white noise. Vowels stay
    under 0.1, a beginning with breath ("excuse") under 0.3; coughs and throats lie above 0.36."""
    low: float = 0.0
    """Share of the energy below 650 Hz."""
    movement: float = 1.0
    """How much the spectrum changes from one window to the next, 0 for a machine's tone."""


def sound_of(audio: Samples) -> Sound:
    """Of (n,) float32 at 16 kHz; of less than 32 ms a sound that decides nothing."""
    if len(audio) < _WINDOW:
        return Sound()
    windows = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), _WINDOW)[::_HOP]
    energy = (windows**2).sum(axis=1)
    windows = windows[energy > energy.max() * _AUDIBLE]
    if len(windows) < 2:
        return Sound()
    spectra = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW))) ** 2 + 1e-12
    hertz = np.fft.rfftfreq(_WINDOW, 1 / STT_RATE_HZ)
    band = spectra[:, (hertz >= _BAND_HZ[0]) & (hertz < _BAND_HZ[1])]
    flatness = np.exp(np.log(band).mean(axis=1)) / band.mean(axis=1)
    low = spectra[:, hertz < _HUM_HZ].sum(axis=1) / spectra.sum(axis=1)
    shapes = band / np.linalg.norm(band, axis=1, keepdims=True)
    movement = 1 - (shapes[1:] * shapes[:-1]).sum(axis=1)
    return Sound(float(np.median(flatness)), float(np.median(low)), float(np.quantile(movement, 0.9)))


def judge(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    text: str,
    no_speech_probability: float,
    sound: Sound,
) -> Glimpse:
    """`first` are the probabilities of the first tokens, at least of the likeliest; `second` those of what
    follows the likeliest one. Tokens as Whisper writes them."""
    shares: dict[str, float] = {}
    for token, share in first.items():
        shares[_plain(token)] = shares.get(_plain(token), 0.0) + share
    neither = BACKCHANNELS | FOLLOWED.keys() | STOCK | ALIKE
    backchannels = sum(share for word, share in shares.items() if word in BACKCHANNELS)
    others = sum(share for word, share in shares.items() if word not in neither)
    likeliest = _plain(max(first, key=lambda token: first[token])) if first else ""
    if likeliest in FOLLOWED:
        goes_on = sum(share for token, share in second.items() if _plain(token) in FOLLOWED[likeliest])
        backchannels += shares[likeliest] * goes_on
        others += shares[likeliest] * max(0.0, 1 - goes_on)
    alike = sum(share for word, share in shares.items() if word in ALIKE)
    holds = sum(share for word, share in shares.items() if word in HOLDS)
    evidence = (
        _BIAS
        + _PER_BACKCHANNEL * math.log(backchannels + _FLOOR_BACKCHANNEL)
        + _PER_ALIKE * math.log(alike + _FLOOR_ALIKE)
        + _PER_OTHERS * math.log(others + _FLOOR_OTHERS)
        + _PER_HOLD * math.log(holds + _FLOOR_HOLD)
        + _PER_NO_SPEECH * no_speech_probability
        + _PER_HUM * hummed(sound, no_speech_probability)
    )
    speech = 1 / (1 + math.exp(-evidence))
    noise = wordless(sound, no_speech_probability)
    return Glimpse((1 - noise) * (1 - speech), noise, (1 - noise) * speech, text)


def hummed(sound: Sound, no_speech_probability: float) -> float:
    """How sure it is "mm": everything low, few harmonics, and nothing that Whisper takes for words."""
    return (
        _ramp(sound.low, 0.94, 0.97)
        * _ramp(-sound.flatness, -0.03, -0.015)
        * _ramp(no_speech_probability, 0.5, 0.7)
    )


def wordless(sound: Sound, no_speech_probability: float) -> float:
    """How sure it is that nobody speaks. Whisper alone does not know: a hum and a hoarse first syllable get
    the same probability of no speech as a cough."""
    breath = _ramp(sound.flatness, 0.30, 0.38)
    machine = _ramp(-sound.movement, -0.02, -0.01)
    return max(breath, machine) * _ramp(no_speech_probability, 0.55, 0.75)


def _plain(token: str) -> str:
    return token.strip(" .,!?-'").lower()


def _ramp(value: float, nothing: float, all_of_it: float) -> float:
    return min(1.0, max(0.0, (value - nothing) / (all_of_it - nothing)))
