"""A caller's words as sound, cut where the caller pauses.

With hibari a sentence is spoken as a whole and cut at the border of two words, at the quietest place of the
time that the network's own durations give to that border: what stands before a pause ends as unfinished
as it is. With flite the sentence is spoken as a whole too, but the border gets a comma, hence a phrase of its
own with a continuation rise, and is cut in the silence that flite reports there. Between sentences each
engine begins anew.
"""

import importlib
import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.corpus.line import FULL_SCALE, Wave, band
from bench.corpus.templates import Voice
from models.base import Samples
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import resample
from telephony.simulator.errors import VoiceUnavailable

LEVEL_DBFS = -20.0
"""RMS of the windows that are voiced."""
LONGEST_SILENCE_S = 0.18
"""Inside a span; commas and the closures of stops are shorter, what is longer is shortened to it."""
JOINT_S = 0.12
"""Between two sentences that no pause parts."""

_HIBARI_RATE_HZ = 24_000
_UNIT_SAMPLES = 600
"""hibari's durations count units of 25 ms."""
_DURATIONS = b"/Clip_output_0"
_WINDOW = LINE_RATE_HZ // 200
_QUIET_DBFS = -46.0
"""Over 5 ms; below it a span ends. The measure of `telephony.simulator.measure` counts from -40 dBFS."""
_FADE = 16
_ENDS_SENTENCE = (".", "?", "!")
_FLITE_TIMEOUT_S = 30.0


def has_flite() -> bool:
    return shutil.which("flite") is not None


def speak(pieces: Sequence[str], voice: Voice) -> list[Pcm]:
    """The sound of each piece, (n,) int16 at 8 kHz in the telephone band, from its first voiced sample to its
    last: put silence between them. Blocks for about 3 % of the speech's length (flite: 10 %).

    Raises `VoiceUnavailable`.
    """
    spoken: list[Wave] = []
    for sentence in _sentences(pieces):
        spoken += _cut_by_engine(sentence, voice)
    gain = _gain(np.concatenate(spoken))
    return [_trimmed(piece * gain) for piece in spoken]


def joined(sounds: Sequence[Pcm], pauses_s: Sequence[float]) -> tuple[Pcm, tuple[tuple[int, int], ...]]:
    """One turn of several pieces with silence between them, and where each piece lies."""
    parts: list[Pcm] = []
    spans: list[tuple[int, int]] = []
    at = 0
    for number, sound in enumerate(sounds):
        if number:
            silence = round(pauses_s[number - 1] * LINE_RATE_HZ)
            parts.append(np.zeros(silence, np.int16))
            at += silence
        parts.append(sound)
        spans.append((at, at + len(sound)))
        at += len(sound)
    return np.concatenate(parts), tuple(spans)


def levelled(
    samples: Wave, level_db: float = 0.0, longest_silence_s: float | None = LONGEST_SILENCE_S
) -> Pcm:
    """At `level_db` over `LEVEL_DBFS`, trimmed at both ends; longer silences inside are shortened."""
    return _trimmed(samples * _gain(samples), 10 ** (level_db / 20), longest_silence_s)


def _sentences(pieces: Sequence[str]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for piece in pieces:
        sentences[-1].append(piece)
        if piece.endswith(_ENDS_SENTENCE):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _cut_by_engine(sentence: Sequence[str], voice: Voice) -> list[Wave]:
    engine, _, name = voice.engine.partition(":")
    samples, borders, rate_hz = (
        _hibari(sentence, voice) if engine == "hibari" else _flite(sentence, voice, name)
    )
    played_hz = round(rate_hz * voice.pitch)
    telephone = band(resample(samples, played_hz, LINE_RATE_HZ).astype(np.float64))
    cuts = [0]
    for first, last in borders:
        cuts.append(
            _quietest(
                telephone, round(first / played_hz * LINE_RATE_HZ), round(last / played_hz * LINE_RATE_HZ)
            )
        )
    cuts.append(len(telephone))
    return [telephone[start:stop] for start, stop in itertools.pairwise(cuts)]


def _quietest(samples: Wave, first: int, last: int) -> int:
    """The middle of the quietest 5 ms between two places."""
    first, last = max(first, _WINDOW), min(max(last, first + _WINDOW), len(samples) - _WINDOW)
    energy = np.convolve(samples[first - _WINDOW : last + _WINDOW] ** 2, np.ones(_WINDOW), "valid")
    # Of equally quiet places (digital silence) the middle one.
    lowest = np.flatnonzero(energy <= energy.min() * 1.0001)
    return int(first - _WINDOW + lowest[len(lowest) // 2] + _WINDOW // 2)


def _gain(samples: Wave) -> float:
    """To `LEVEL_DBFS` and int16's scale."""
    power = (samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW) ** 2).mean(axis=1)
    voiced = power[power > power.max() * 1e-3]
    return float(FULL_SCALE * 10 ** (LEVEL_DBFS / 20) / np.sqrt(voiced.mean()))


def _trimmed(samples: Wave, gain: float = 1.0, longest_silence_s: float | None = LONGEST_SILENCE_S) -> Pcm:
    """From the first to the last 5 ms that sound, faded over 2 ms at both ends."""
    windows = len(samples) // _WINDOW
    power = (samples[: windows * _WINDOW].reshape(windows, _WINDOW) ** 2).mean(axis=1)
    sounding = np.flatnonzero(power > (FULL_SCALE * 10 ** (_QUIET_DBFS / 20)) ** 2)
    if not len(sounding):
        raise VoiceUnavailable("a voice gave silence for words")
    longest = windows if longest_silence_s is None else round(longest_silence_s * LINE_RATE_HZ) // _WINDOW
    kept: list[Wave] = []
    for number, (here, following) in enumerate(zip(sounding, [*sounding[1:], sounding[-1]], strict=True)):
        kept.append(samples[here * _WINDOW : (here + 1) * _WINDOW])
        silent = following - here - 1
        if number < len(sounding) - 1 and silent > 0:
            head = min(silent, longest)
            kept.append(samples[(here + 1) * _WINDOW : (here + 1 + head) * _WINDOW])
    whole = np.concatenate(kept) * gain
    ramp = np.linspace(0, 1, _FADE)
    whole[:_FADE] *= ramp
    whole[-_FADE:] *= ramp[::-1]
    pcm: Pcm = np.clip(np.rint(whole), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return pcm


@lru_cache(maxsize=1)
def _loaded_hibari() -> tuple[Any, Any]:
    """The package's voice, and a session of the same network that gives its durations too: protocol buffers
    merge what is appended, so one more output is appended to the graph."""
    try:
        voice = importlib.import_module("hibari").Hibari(threads=1)
    except ImportError:
        raise VoiceUnavailable(
            "the corpus needs the package hibari-tts: pip install 'maya-voice[speech]'"
        ) from None
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    kind = b"\x12\x04\x0a\x02\x08\x01"  # type { tensor_type { elem_type: FLOAT } }
    output = _message(0x0A, _DURATIONS) + kind
    network = Path(voice.model_path).read_bytes() + _message(0x3A, _message(0x62, output))
    return voice, runtime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _message(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def _hibari(sentence: Sequence[str], voice: Voice) -> tuple[Samples, list[tuple[int, int]], int]:
    """One sentence, and for each border of its pieces the samples between which it lies."""
    hibari, network = _loaded_hibari()
    phonemes = [" ".join(hibari.phonemize(piece)) for piece in sentence]
    ids = hibari.ids(" ".join(phonemes))
    speed = np.asarray([voice.pace / voice.pitch], np.float32)
    *spectrum, durations = network.run(None, {"ids": np.asarray([ids], np.int64), "speed": speed})
    dsp = importlib.import_module("hibari.dsp")
    samples = dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(0))
    ends = np.cumsum(durations.reshape(-1)) * _UNIT_SAMPLES
    borders = []
    for count in range(1, len(phonemes)):
        space = len(hibari.ids(" ".join(phonemes[:count]))) - 1
        comma = phonemes[count - 1].endswith((",", ";"))
        first = ends[space - 2] if comma else ends[space - 1] - _UNIT_SAMPLES // 2
        borders.append((int(first), int(ends[space] + _UNIT_SAMPLES // 2)))
    return np.asarray(samples, np.float32), borders, _HIBARI_RATE_HZ


def _flite(sentence: Sequence[str], voice: Voice, name: str) -> tuple[Samples, list[tuple[int, int]], int]:
    pieces = [piece if piece[-1] in ",;.?!" else f"{piece}," for piece in sentence]
    samples, rate_hz, pauses = _flite_says(" ".join(pieces), voice, name)
    commas = [len(re.findall("[,;]", piece)) for piece in pieces]
    if pieces[-1][-1] == ",":
        commas[-1] -= 1
    if len(pauses) == sum(commas):
        numbers = np.cumsum(commas)[:-1] - 1
        return samples, [pauses[number] for number in numbers], rate_hz
    # A comma without a pause of its own: each piece by itself, still with its comma.
    sounds: list[Samples] = []
    borders: list[tuple[int, int]] = []
    at = 0
    for piece in pieces:
        sound, rate_hz, _ = _flite_says(piece, voice, name)
        if sounds:
            borders.append((at - rate_hz // 20, at + rate_hz // 20))
        sounds.append(sound)
        at += len(sound)
    return np.concatenate(sounds), borders, rate_hz


@lru_cache(maxsize=1024)
def _flite_says(text: str, voice: Voice, name: str) -> tuple[Samples, int, list[tuple[int, int]]]:
    """The sound, its rate, and the samples between which each silence inside lies."""
    soundfile = importlib.import_module("soundfile")
    command = shutil.which("flite")
    if command is None:
        raise VoiceUnavailable(f'voice "{voice.name}" needs the `flite` command (Debian: apt install flite)')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.wav"
        stretch = f"duration_stretch={voice.pitch / voice.pace:.4f}"
        arguments = [command, "-voice", name, "-psdur", "--setf", stretch, "-t", text, "-o", str(path)]
        try:
            said = subprocess.run(arguments, check=True, capture_output=True, timeout=_FLITE_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise VoiceUnavailable(f"flite failed: {error}") from None
        samples, rate_hz = soundfile.read(str(path), dtype="float32")
    phones = [entry.rsplit(":", 1) for entry in said.stdout.decode().split()]
    ends = [float(end) for _, end in phones]
    pauses = [
        (round(ends[number - 1] * rate_hz), round(ends[number] * rate_hz))
        for number, (phone, _) in enumerate(phones)
        if phone == "pau" and 0 < number < len(phones) - 1
    ]
    return samples, int(rate_hz), pauses
