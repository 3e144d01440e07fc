"""The bundled voice: hibari-tts 0.2.1, 24 kHz, about a hundred times faster than real time on one core.

The package's Python was read for this version: it opens files inside its own folder, and its one network
use is the download of voices other than "heart" (`hibari.voices.download`). Nothing here can reach that:
a voice whose file is not on disk with the published SHA-256 is refused.

What the network gives, measured on telephone sentences: 0.24-0.33 s of digital silence before the words and
0.34-0.60 s after them, -25 dBFS RMS while voiced, peaks to -7 dBFS, no clicks at the borders. The silence
would be heard as delay, so it is cut; the level is raised to about -20 dBFS with peaks below -3 dBFS.

Where words end is known, not guessed: the network decides how many steps of 25 ms each phoneme takes, and
tells when it is asked for one more output (`models.hibari_words`).
"""

import asyncio
import re
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.base import SHARED, ModelError, ModelFailed, ModelMissing, Samples, Speech
from models.hibari_words import (
    Phoneme,
    Reader,
    SpokenWord,
    network_outputs,
    phonemes_of,
    spans_of,
    spoken_words,
    with_step_counts,
)

DEFAULT_VOICE = "heart"
RATE_HZ = 24_000

REMEMBERED = 64
"""Utterances of one voice whose words' ends are kept: more clauses than a reply has."""

LONGEST_PIECE = 220
"""Characters given to the network at once. It takes about 10 ms of CPU per spoken second for short texts,
33 ms for a text of 2,500 characters, and a caller must not wait for the end of a page."""

_CHUNK_SAMPLES = RATE_HZ // 5
_BLOCK_SAMPLES = RATE_HZ // 200
_PADDING = 2
"""Ids that hibari puts around the phonemes."""
_GAIN = 10 ** (4.8 / 20)
_SILENT = 10 ** (-60 / 20)
"""Block RMS below which the ends of a clause count as silence; the faintest onsets (f, h) start higher."""
_KNEE, _CEILING = 0.5, 10 ** (-3 / 20)
_FADE_S = 0.005
_PAUSES_S = {".": 0.30, "!": 0.30, "?": 0.30, "…": 0.30, ":": 0.20, ";": 0.20, ",": 0.14}
_OTHER_PAUSE_S = 0.06


@dataclass(frozen=True, slots=True)
class SpokenPiece:
    """A piece of a text: its audio, and when each word sounds in it; none if that is unknown."""

    audio: Samples
    words: Sequence[SpokenWord] = ()


@dataclass(slots=True)
class _Utterance:
    """How far a text is spoken."""

    text: str
    to_come: list[str]
    spoken: list[SpokenWord] = field(default_factory=list)
    samples: int = 0

    def add(self, piece: SpokenPiece) -> None:
        del self.to_come[0]
        start_s = self.samples / RATE_HZ
        self.spoken += [
            SpokenWord(said.word, start_s + said.start_s, start_s + said.end_s) for said in piece.words
        ]
        self.samples += len(piece.audio)

    def word_spans(self) -> tuple[tuple[float, float], ...]:
        """Words that are still to be synthesised are taken to come at the pace of those before."""
        if not self.spoken:
            return ()
        words = list(self.spoken)
        end_s = self.samples / RATE_HZ
        pace_s = end_s / sum(len(said.word) for said in self.spoken)
        for word in " ".join(self.to_come).split():
            start_s, end_s = end_s, end_s + pace_s * len(word)
            words.append(SpokenWord(word, start_s, end_s))
        return spans_of(self.text.split(), words)


class HibariSynthesizer:
    """Loads the default voice; blocks for about half a second. One worker thread serves all calls, one
    piece of text at a time in the order of asking, so calls take turns within their replies."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="hibari")
        self._loaded: dict[str, Any] = {DEFAULT_VOICE: self._load(DEFAULT_VOICE)}
        self._shared: dict[tuple[int, float, str], _Utterance] = {}

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "HibariVoice":
        """A voice by hibari's name. Raises `ModelError` for an unknown name or a speed outside 0.5-2,
        `ModelMissing` for a known voice whose file is not installed."""
        if not 0.5 <= speed <= 2.0:
            raise ModelError(f"Voice speed is {speed}; hibari speaks at 0.5 to 2.0.")
        name = voice or DEFAULT_VOICE
        if name not in self._loaded:
            loaded = await asyncio.get_running_loop().run_in_executor(self._worker, self._load, name)
            self._loaded[name] = loaded
        return HibariVoice(self, self._loaded[name], speed, self._shared)

    async def aclose(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _load(self, name: str) -> Any:
        try:
            import hibari
            from hibari.voices import VOICES, sha256_of, voice_path
        except ImportError as error:
            raise ModelMissing(
                "The package hibari-tts is missing: pip install 'maya-voice[speech]'."
            ) from error
        if name not in VOICES:
            raise ModelError(f"No voice {name!r}. Hibari's voices are: {', '.join(VOICES)}.")
        try:
            path = Path(voice_path(name, download_missing=False))
        except FileNotFoundError as error:
            raise ModelMissing(
                f"Voice {name!r} is not installed: {error} is missing, and Maya downloads no voices. Use"
                f" {DEFAULT_VOICE!r}, or put the file there (SHA-256 {VOICES[name]['sha256']})."
            ) from error
        if not path.is_file() or sha256_of(path) != VOICES[name]["sha256"]:
            raise ModelMissing(
                f"{path} is missing or damaged (SHA-256 should be {VOICES[name]['sha256']}):"
                " reinstall hibari-tts==0.2.1."
            )
        voice = hibari.Hibari(
            voice=name,
            model=with_step_counts(path.read_bytes()),
            threads=self._threads,
            g2p=Reader(british=VOICES[name]["british"]),
        )
        # Loads, by a made-up word, the spelling network.
        synthesise(voice, "Zzyzx is ready.", 1.0)
        return voice

    def submit(self, voice: Any, text: str, speed: float) -> "asyncio.Future[SpokenPiece]":
        return asyncio.get_running_loop().run_in_executor(self._worker, synthesise, voice, text, speed)


class HibariVoice:
    """Of what it said it keeps only where the words end; any number may be open."""

    sample_rate_hz: int = RATE_HZ
    takes_context: Literal["nothing", "text", "audio"] = "nothing"

    def __init__(
        self,
        synthesizer: HibariSynthesizer,
        voice: Any,
        speed: float,
        shared: dict[tuple[int, float, str], _Utterance],
    ) -> None:
        self._synthesizer = synthesizer
        self._voice = voice
        self._speed = speed
        self._shared = shared
        self._utterances: OrderedDict[str, _Utterance] = OrderedDict()

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        """Chunks of at most 0.2 s, (n,) float32 at 24 kHz; nothing for a text without words. Texts of more
        than `LONGEST_PIECE` characters are synthesised piece by piece. Closing drops what has not begun.
        Raises `ModelFailed`."""
        to_come = pieces(text)
        said = self._remember(utterance, _Utterance(text, list(to_come)))
        for piece in to_come:
            try:
                spoken = await self._synthesizer.submit(self._voice, piece, self._speed)
            except Exception as error:
                raise ModelFailed(f"The voice failed on {piece[:60]!r}: {error}") from error
            said.add(spoken)
            for start in range(0, len(spoken.audio), _CHUNK_SAMPLES):
                yield spoken.audio[start : start + _CHUNK_SAMPLES]

    def _remember(self, utterance: str, said: _Utterance) -> _Utterance:
        if utterance.startswith(SHARED):
            self._shared[self._shared_key(utterance)] = said
        elif utterance:
            self._utterances.pop(utterance, None)
            self._utterances[utterance] = said
            if len(self._utterances) > REMEMBERED:
                self._utterances.popitem(last=False)
        return said

    def _shared_key(self, utterance: str) -> tuple[int, float, str]:
        return id(self._voice), self._speed, utterance

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        """From when to when each word of the text sounds, in seconds of its audio; see `models.hibari_words`
        for how exact it is. Pieces that are still to be synthesised are estimated: ask when you need it."""
        said = self._utterances.get(utterance) or self._shared.get(self._shared_key(utterance))
        return () if said is None else said.word_spans()

    def prepare(self, context: Sequence[Speech]) -> None:
        return None

    async def aclose(self) -> None:
        return None


def pieces(text: str) -> list[str]:
    """Split at sentence ends; what is still longer than `LONGEST_PIECE` at clauses, then spaces, then
    anywhere. Pieces without a letter or digit are dropped: hibari would make a breath of them. A point before
    a lower case letter ends no sentence: "nine A.M. to noon"."""
    short: list[str] = []
    for sentence in re.split(r"(?<=[!?…])\s+|(?<=\.)\s+(?![a-z])|\n+", _readable(text).strip()):
        short += _shorten(sentence)
    return [piece for piece in short if any(character.isalnum() for character in piece)]


def _readable(text: str) -> str:
    """Without what hibari 0.2.1 raises on: circled digits, and numbers beyond its decillions, which are
    given digit by digit."""
    plain = (
        str(unicodedata.digit(character)) if character.isdigit() and not character.isdecimal() else character
        for character in text
    )
    return re.sub(r"[\d,]{16,}", lambda number: " ".join(number[0].replace(",", "")), "".join(plain))


def _shorten(text: str) -> list[str]:
    rest, cut = text, []
    while len(rest) > LONGEST_PIECE:
        window = rest[:LONGEST_PIECE]
        at = max(window.rfind(mark) + 1 for mark in (", ", "; ", ": ", "— "))
        if at < LONGEST_PIECE // 4:
            at = window.rfind(" ")
        if at < LONGEST_PIECE // 4:
            at = LONGEST_PIECE
        cut.append(rest[:at].strip())
        rest = rest[at:].strip()
    return [*cut, rest]


def synthesise(voice: Any, text: str, speed: float) -> SpokenPiece:
    """One piece, trimmed, levelled and followed by the pause that its last mark asks for. The noise in
    the voice is seeded, so equal texts give equal samples."""
    from hibari import dsp

    noise = np.random.default_rng(0)
    reader: Reader = voice.g2p
    reader.readings.clear()
    parts: list[Samples] = [np.zeros(0, np.float32)]
    phonemes: list[Phoneme] = []
    length, timed = 0, True
    for sentence in voice.phonemize(text):
        ids = voice.ids(sentence)
        if len(ids) == _PADDING:
            continue
        spectra, counts = network_outputs(voice.sess, ids, speed)
        part = np.asarray(dsp.synth(*spectra, noise), np.float32)
        timed = timed and counts is not None
        if counts is not None:
            known = "".join(symbol for symbol in sentence if symbol in voice.vocab)
            phonemes += phonemes_of(known, counts, length / RATE_HZ, len(part) / RATE_HZ)
        parts.append(part)
        length += len(part)
    raw = np.concatenate(parts)
    audio = finish(raw, text)
    if not timed or not audio.size:
        return SpokenPiece(audio)
    start_s, end_s = (sample / RATE_HZ for sample in sounding(raw))

    def placed(moment_s: float) -> float:
        return min(max(moment_s, start_s), end_s) - start_s

    words = spoken_words(reader.readings, phonemes, voice.vocab, raw, RATE_HZ)
    return SpokenPiece(
        audio, [SpokenWord(said.word, placed(said.start_s), placed(said.end_s)) for said in words]
    )


def sounding(audio: Samples) -> tuple[int, int]:
    """[start, end) of what is not silence at the ends, with 10 ms of silence left; (0, 0) for only silence
    and for broken audio."""
    blocks = len(audio) // _BLOCK_SAMPLES
    level = np.sqrt(np.mean(audio[: blocks * _BLOCK_SAMPLES].reshape(blocks, _BLOCK_SAMPLES) ** 2, axis=1))
    heard = np.flatnonzero(level > _SILENT)
    if heard.size == 0 or not np.isfinite(audio).all():
        return 0, 0
    return max(0, int(heard[0]) - 2) * _BLOCK_SAMPLES, min(len(audio), (int(heard[-1]) + 3) * _BLOCK_SAMPLES)


def finish(audio: Samples, text: str) -> Samples:
    """Trim the silence at both ends to 10 ms, fade 5 ms, raise the level, add the pause."""
    start, end = sounding(audio)
    if start == end:
        return np.zeros(0, np.float32)
    words = limit(audio[start:end] * np.float32(_GAIN))
    fade = min(round(_FADE_S * RATE_HZ), len(words) // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    words[:fade] *= ramp
    words[len(words) - fade :] *= ramp[::-1]
    last = text.rstrip(" \"'”’)]")[-1:]
    pause = np.zeros(round(_PAUSES_S.get(last, _OTHER_PAUSE_S) * RATE_HZ), np.float32)
    return np.concatenate([words, pause])


def limit(audio: Samples) -> Samples:
    """Bend what is above -6 dBFS so that nothing passes -3 dBFS; below, samples stay as they are."""
    size = np.abs(audio)
    room = _CEILING - _KNEE
    bent = _KNEE + room * np.tanh((size - _KNEE) / room)
    limited: Samples = np.where(size > _KNEE, np.copysign(bent, audio), audio).astype(np.float32)
    return limited
