"""The caller's voices: the bundled voice made into other people, `flite`'s where installed, and audio files.

A person is the bundled voice (`hibari`) synthesised faster or slower and then played at another rate: pitch
and formants move together, as between a larger and a smaller speaker. Nobody here sounds like the agent,
whose voice is the unchanged one. Lines come out at -20 dBFS RMS (of their voiced part), 8 kHz, through
mu-law, the same samples every time.
"""

import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from models.base import Samples
from pipeline.audible import WINDOW_SAMPLES
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import from_pcm, resample, to_pcm
from telephony.simulator.caller import Speech
from telephony.simulator.errors import VoiceUnavailable
from telephony.simulator.scenario import Backchannel, Interrupt, Play, Say, Scenario, Sound
from telephony.simulator.sounds import make_sound

Speeches = Mapping[int, Speech]
"""A scenario's lines, by the number of their step from 0."""

LEVEL_DBFS = -20.0
_HIBARI_RATE_HZ = 24_000
_FLITE_TIMEOUT_S = 30.0
_QUIET = 1e-3
"""30 dB under the line's level: below it lies no consonant that a telephone carries."""
_MARGIN_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Person:
    """`pitch` against the agent's voice; `pace` is the speaking rate that comes out."""

    pitch: float
    pace: float


PEOPLE: Mapping[str, Person] = {
    "ruth": Person(pitch=0.85, pace=0.95),
    "martin": Person(pitch=0.70, pace=1.0),
    "lily": Person(pitch=1.20, pace=1.05),
    "walter": Person(pitch=0.75, pace=0.85),
}
FLITE_VOICES = ("kal", "awb", "rms", "slt")
"""As `flite:slt`; they need the `flite` command (Debian package flite)."""


def render(scenario: Scenario, given: Speeches | None = None) -> dict[int, Speech]:
    """Every line of the scenario, ready to send, by step; those that are `given` as they are. Blocks for
    about 2 % of the speech's length.

    Raises `VoiceUnavailable`.
    """
    speeches = dict(given or {})
    for number, step in enumerate(scenario.steps):
        if number in speeches:
            continue
        match step:
            case Say():
                speeches[number] = _spoken(step.text, step.voice or scenario.voice)
            case Interrupt() | Backchannel():
                speeches[number] = _spoken(step.say, step.voice or scenario.voice)
            case Play():
                speeches[number] = Speech.of(step.text, read_audio(scenario.folder / step.file))
            case Sound():
                if step.file:
                    sound = read_audio(scenario.folder / step.file)
                elif step.like:
                    sound = make_sound(step.like)
                else:
                    raise VoiceUnavailable(f"{scenario.where(number)}: the sound names no file")
                speeches[number] = Speech.of(step.text or Path(step.file).stem or step.like or "", sound)
    return speeches


@lru_cache(maxsize=512)
def _spoken(text: str, voice: str) -> Speech:
    return Speech.of(text, speak(text, voice))


def speak(text: str, voice: str) -> Pcm:
    """`text` in a caller's voice, (n,) int16 at 8 kHz. Blocks. Raises `VoiceUnavailable`."""
    if voice in PEOPLE:
        return _levelled(_as_person(text, PEOPLE[voice]))
    kind, _, name = voice.partition(":")
    if kind == "flite" and name in FLITE_VOICES:
        return _levelled(_flite(text, name))
    known = ", ".join((*PEOPLE, *(f"flite:{name}" for name in FLITE_VOICES)))
    raise VoiceUnavailable(f'there is no voice "{voice}"; the voices are {known}')


def read_audio(path: Path) -> Pcm:
    """A WAV or FLAC file as (n,) int16 at 8 kHz, its channels mixed, its level as recorded. Blocks.

    Raises `VoiceUnavailable`.
    """
    import soundfile

    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise VoiceUnavailable(f"{path} cannot be played: {error}") from None
    return to_pcm(resample(np.ascontiguousarray(samples.mean(axis=1)), int(rate_hz), LINE_RATE_HZ))


@lru_cache(maxsize=1)
def _hibari() -> Any:
    try:
        return importlib.import_module("hibari").Hibari(threads=1)
    except ImportError:
        raise VoiceUnavailable(
            "the callers' voices need the package hibari-tts: pip install 'maya-voice[speech]', "
            "or let the scenario `play` WAV files"
        ) from None


def _as_person(text: str, person: Person) -> Samples:
    samples = np.asarray(_hibari()(text, speed=person.pace / person.pitch, seed=0), dtype=np.float32)
    return resample(samples, round(_HIBARI_RATE_HZ * person.pitch), LINE_RATE_HZ)


def _flite(text: str, name: str) -> Samples:
    command = shutil.which("flite")
    if command is None:
        raise VoiceUnavailable(f'voice "flite:{name}" needs the `flite` command (Debian: apt install flite)')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.wav"
        arguments = [command, "-voice", name, "-t", text, "-o", str(path)]
        try:
            subprocess.run(arguments, check=True, capture_output=True, timeout=_FLITE_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise VoiceUnavailable(f"flite failed: {error}") from None
        return from_pcm(read_audio(path))


def _levelled(samples: Samples) -> Pcm:
    """At `LEVEL_DBFS`, measured over the 10 ms windows that are not far below the rest; peaks are clipped.
    Silence at both ends is cut, for a line should begin when the script says so."""
    windows = samples[: len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)
    power = (windows.astype(np.float64) ** 2).mean(axis=1)
    if not len(power) or power.max() <= 0:
        return to_pcm(samples)
    voiced = power[power > power.max() * 1e-3]
    target = 10 ** (LEVEL_DBFS / 10)
    gain = np.sqrt(target / voiced.mean())
    sounding = np.flatnonzero(power * gain**2 > target * _QUIET)
    first = max(0, int(sounding[0]) - _MARGIN_WINDOWS) * WINDOW_SAMPLES
    last = (int(sounding[-1]) + 1 + _MARGIN_WINDOWS) * WINDOW_SAMPLES
    return to_pcm((samples[first:last] * gain).astype(np.float32))
