"""The bundled voice: hibari-tts 0.2.1, 24 kHz, about a hundred times faster than real time on one core.

The package's Python was read for this version: it opens files inside its own folder, and its one network
use is the download of voices other than "heart" (`hibari.voices.download`). Nothing here can reach that:
a voice whose file is not on disk with the published SHA-256 is refused.

What the network gives, measured on telephone sentences: 0.24-0.33 s of digital silence before the words and
0.34-0.60 s after them, -25 dBFS RMS while voiced, peaks to -7 dBFS, no clicks at the borders. The silence
would be heard as delay, so it is cut; the level is raised to about -20 dBFS with peaks below -3 dBFS.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.base import ModelError, ModelFailed, ModelMissing, Samples, Speech

DEFAULT_VOICE = "heart"
RATE_HZ = 24_000

LONGEST_PIECE = 220
"""Characters given to the network at once. It takes about 10 ms of CPU per spoken second for short texts,
33 ms for a text of 2,500 characters, and a caller must not wait for the end of a page."""

_CHUNK_SAMPLES = RATE_HZ // 5
_BLOCK_SAMPLES = RATE_HZ // 200
_GAIN = 10 ** (4.8 / 20)
_SILENT = 10 ** (-60 / 20)
"""Block RMS below which the ends of a clause count as silence; the faintest onsets (f, h) start higher."""
_KNEE, _CEILING = 0.5, 10 ** (-3 / 20)
_FADE_S = 0.005
_PAUSES_S = {".": 0.30, "!": 0.30, "?": 0.30, "…": 0.30, ":": 0.20, ";": 0.20, ",": 0.14}
_OTHER_PAUSE_S = 0.06


class HibariSynthesizer:
    """Loads the default voice; blocks for about half a second. One worker thread serves all calls, one
    piece of text at a time in the order of asking, so calls take turns within their replies."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="hibari")
        self._loaded: dict[str, Any] = {DEFAULT_VOICE: self._load(DEFAULT_VOICE)}

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "HibariVoice":
        """A voice by hibari's name. Raises `ModelError` for an unknown name or a speed outside 0.5-2,
        `ModelMissing` for a known voice whose file is not installed."""
        if not 0.5 <= speed <= 2.0:
            raise ModelError(f"Voice speed is {speed}; hibari speaks at 0.5 to 2.0.")
        name = voice or DEFAULT_VOICE
        if name not in self._loaded:
            loaded = await asyncio.get_running_loop().run_in_executor(self._worker, self._load, name)
            self._loaded[name] = loaded
        return HibariVoice(self, self._loaded[name], speed)

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
        voice = hibari.Hibari(voice=name, model=str(path), threads=self._threads)
        voice("Zzyzx is ready.", seed=0)  # loads the lexicon and, by a made-up word, the spelling network
        return voice

    def submit(self, voice: Any, text: str, speed: float) -> "asyncio.Future[Samples]":
        return asyncio.get_running_loop().run_in_executor(self._worker, synthesise, voice, text, speed)


class HibariVoice:
    """Keeps nothing between texts; any number may be open."""

    sample_rate_hz: int = RATE_HZ
    takes_context: Literal["nothing", "text", "audio"] = "nothing"

    def __init__(self, synthesizer: HibariSynthesizer, voice: Any, speed: float) -> None:
        self._synthesizer = synthesizer
        self._voice = voice
        self._speed = speed

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        """Chunks of at most 0.2 s, (n,) float32 at 24 kHz; nothing for a text without words. Texts of more
        than `LONGEST_PIECE` characters are synthesised piece by piece. Closing drops what has not begun.
        Raises `ModelFailed`."""
        for piece in pieces(text):
            try:
                audio = await self._synthesizer.submit(self._voice, piece, self._speed)
            except Exception as error:
                raise ModelFailed(f"The voice failed on {piece[:60]!r}: {error}") from error
            for start in range(0, len(audio), _CHUNK_SAMPLES):
                yield audio[start : start + _CHUNK_SAMPLES]

    def prepare(self, context: Sequence[Speech]) -> None:
        return None

    async def aclose(self) -> None:
        return None


def pieces(text: str) -> list[str]:
    """Split at sentence ends; what is still longer than `LONGEST_PIECE` at clauses, then spaces, then
    anywhere. Pieces without a letter or digit are dropped: hibari would make a breath of them."""
    short: list[str] = []
    for sentence in re.split(r"(?<=[.!?…])\s+|\n+", _readable(text).strip()):
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


def synthesise(voice: Any, text: str, speed: float) -> Samples:
    """One piece, trimmed, levelled and followed by the pause that its last mark asks for. The noise in
    the voice is seeded, so equal texts give equal samples."""
    return finish(np.asarray(voice(text, speed=speed, seed=0), np.float32), text)


def finish(audio: Samples, text: str) -> Samples:
    """Trim the silence at both ends to 10 ms, fade 5 ms, raise the level, add the pause."""
    blocks = len(audio) // _BLOCK_SAMPLES
    level = np.sqrt(np.mean(audio[: blocks * _BLOCK_SAMPLES].reshape(blocks, _BLOCK_SAMPLES) ** 2, axis=1))
    heard = np.flatnonzero(level > _SILENT)
    if heard.size == 0 or not np.isfinite(audio).all():
        return np.zeros(0, np.float32)
    start = max(0, heard[0] - 2) * _BLOCK_SAMPLES
    end = (heard[-1] + 3) * _BLOCK_SAMPLES
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
