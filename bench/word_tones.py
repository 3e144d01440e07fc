"""A voice whose words can be told apart in the sound: what a caller heard is read from the caller's audio,
and not from what anybody says was sent.

Every word of a `WordBook` has a pair of tones of its own, one low and one high, which mu-law, resampling and
a telephone's band leave alone. `WordTones` speaks any stretch of the book so, and all other text as the
stand-in voices do, which is no pair of tones; `heard_words` finds the words again.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from models.base import Samples, Speech
from models.scripted import VOICE_LEVEL_DBFS, VOICE_RATE_HZ, voiced_signal
from pipeline.line import LINE_RATE_HZ, Pcm

LOW_HZ: Final = tuple(400.0 + 110.0 * n for n in range(8))
HIGH_HZ: Final = tuple(1_400.0 + 200.0 * n for n in range(8))
_CHARACTER_S: Final = 0.06
_SHORTEST_S: Final = 0.12
_BETWEEN_S: Final = 0.06
_CHUNK_S: Final = 0.1
_WINDOW: Final = LINE_RATE_HZ * 40 // 1000
_HOP: Final = LINE_RATE_HZ * 10 // 1000
_SHARE: Final = 0.7
"""Of a window's energy: the pair has more, anything else less."""
_LEVEL: Final = 0.25
"""Of the energy of a window that a word fills: at its edges half of it is silence."""


def _bare(word: str) -> str:
    return word.strip(".,;:?!").lower()


class WordBook:
    """The words of `text`, at most 64. A word that occurs twice has two numbers."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self._bare = [_bare(word) for word in self.words]
        if len(self.words) > len(LOW_HZ) * len(HIGH_HZ):
            raise ValueError("more words than pairs of tones")

    def find(self, text: str) -> int | None:
        """The number of the first word of `text`, all of which is in the book in one stretch; else None."""
        wanted = [_bare(word) for word in text.split()]
        for first in range(len(self.words) - len(wanted) + 1):
            if wanted and self._bare[first : first + len(wanted)] == wanted:
                return first
        return None

    def seconds(self, number: int) -> float:
        """How long that word sounds."""
        return max(_SHORTEST_S, len(self.words[number]) * _CHARACTER_S)

    def sound(self, number: int, rate_hz: int) -> Samples:
        """(n,) float32 at -20 dBFS RMS, 5 ms fades at both ends."""
        at_s = np.arange(round(self.seconds(number) * rate_hz)) / rate_hz
        high, low = divmod(number, len(LOW_HZ))
        audio = np.sin(2 * np.pi * LOW_HZ[low] * at_s) + np.sin(2 * np.pi * HIGH_HZ[high] * at_s)
        audio *= 10 ** (VOICE_LEVEL_DBFS / 20)
        ramp = np.linspace(0.0, 1.0, round(0.005 * rate_hz), endpoint=False)
        audio[: len(ramp)] *= ramp
        audio[-len(ramp) :] *= ramp[::-1]
        return audio.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeardWord:
    number: int
    start_s: float
    """Seconds of the audio."""
    length_s: float


def heard_words(pcm: Pcm) -> list[HeardWord]:
    """The words in (n,) int16 at 8 kHz, as they sound one after the other; a word that was cut is shorter."""
    if len(pcm) < _WINDOW:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float64) / 32_768, _WINDOW)[::_HOP]
    shape = np.hanning(_WINDOW)
    at_s = np.arange(_WINDOW) / LINE_RATE_HZ
    tones = np.exp(-2j * np.pi * np.outer(at_s, (*LOW_HZ, *HIGH_HZ)))
    power = np.abs((windows * shape) @ tones) ** 2 * 2 / np.sum(shape) ** 2
    energy = np.sum((windows * shape) ** 2, axis=1) / np.sum(shape**2)
    low, high = power[:, : len(LOW_HZ)], power[:, len(LOW_HZ) :]
    pair = low.max(axis=1) + high.max(axis=1)
    full = 10 ** (VOICE_LEVEL_DBFS / 10)
    clear = (energy > _LEVEL * full) & (pair > _SHARE * energy)
    numbers = np.where(clear, high.argmax(axis=1) * len(LOW_HZ) + low.argmax(axis=1), -1)
    words: list[HeardWord] = []
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, stop in pairwise(edges):
        # The window that lies across two words may be taken for a third.
        if numbers[start] >= 0 and stop - start > _WINDOW // _HOP // 2:
            begins_s = (start * _HOP + _WINDOW / 2) / LINE_RATE_HZ
            words.append(HeardWord(int(numbers[start]), begins_s, (stop - start) * _HOP / LINE_RATE_HZ))
    return words


def times_heard(book: WordBook, heard: Sequence[HeardWord]) -> list[float]:
    """How often each word of the book was heard; one whose half was heard counts 0.5."""
    seconds = [0.0] * len(book.words)
    for word in heard:
        if word.number < len(seconds):
            seconds[word.number] += word.length_s
    return [heard_s / book.seconds(number) for number, heard_s in enumerate(seconds)]


class WordTones:
    """A synthesizer. The first chunk comes after `latency_s`, each further one after
    `_CHUNK_S * realtime_factor`."""

    def __init__(self, book: WordBook, *, latency_s: float = 0.0, realtime_factor: float = 0.0) -> None:
        self.book = book
        self.latency_s = latency_s
        self.realtime_factor = realtime_factor

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "WordToneVoice":
        return WordToneVoice(self)

    async def aclose(self) -> None:
        return None

    def speech(self, text: str) -> tuple[Samples, tuple[tuple[float, float], ...]]:
        """The sound at `VOICE_RATE_HZ`, and from when to when each word sounds."""
        first = self.book.find(text)
        if first is None:
            audio = voiced_signal(text, len(text.strip()) * _CHARACTER_S)
            words = re.finditer(r"\S+", text.strip())
            return audio, tuple((word.start() * _CHARACTER_S, word.end() * _CHARACTER_S) for word in words)
        pieces: list[Samples] = []
        spans: list[tuple[float, float]] = []
        at_s = 0.0
        for number in range(first, first + len(text.split())):
            spans.append((at_s, at_s + self.book.seconds(number)))
            pieces += [self.book.sound(number, VOICE_RATE_HZ), _silence(_BETWEEN_S)]
            at_s = spans[-1][1] + _BETWEEN_S
        return np.concatenate(pieces), tuple(spans)


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * VOICE_RATE_HZ), np.float32)


class WordToneVoice:
    sample_rate_hz: int = VOICE_RATE_HZ
    takes_context: Literal["nothing", "text", "audio"] = "nothing"

    def __init__(self, model: WordTones) -> None:
        self._model = model
        self._spans: dict[str, tuple[tuple[float, float], ...]] = {}

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        audio, self._spans[utterance] = self._model.speech(text)
        step = round(_CHUNK_S * VOICE_RATE_HZ)
        await asyncio.sleep(self._model.latency_s)
        for start in range(0, len(audio), step):
            if start:
                await asyncio.sleep(_CHUNK_S * self._model.realtime_factor)
            yield audio[start : start + step]

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return self._spans.get(utterance, ())

    def prepare(self, context: Sequence[Speech]) -> None:
        return None

    async def aclose(self) -> None:
        return None
