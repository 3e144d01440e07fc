"""Stand-ins for the models: they say what a script says, after declared delays.

They sleep on the running loop's clock and use no thread, so a whole call runs in virtual time and comes
out the same on every run. Their audio is real enough for codecs, resamplers and level meters.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from models.base import (
    GREEDY,
    STT_RATE_HZ,
    VAD_WINDOW_SAMPLES,
    Glimpse,
    Message,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelLate,
    Samples,
    Sampling,
    Speech,
    Transcript,
    Usage,
    VoiceActivityStream,
)

VOICE_RATE_HZ = 24_000
VOICE_LEVEL_DBFS = -20.0

_GROWN_TAIL_SAMPLES = STT_RATE_HZ // 10
"""A resampler's flush may change the last samples of a clip that later grows."""


Heard = str | Exception


class ScriptedTranscriber:
    """Hears what the script says.

    `script` is a sequence of texts or exceptions, used up in order, or a callable from the audio,
    (n,) float32 at 16 kHz, to either. An exception is raised when the latency has passed. A used-up
    sequence raises `ModelFailed`. With `once_per_turn`, audio that begins like the previous request's
    (the same turn, transcribed again after it grew) hears the same text again. `glimpses` tells what a
    glimpse sees after `glimpse_s`; by default somebody who wants to speak.
    """

    def __init__(
        self,
        script: Sequence[str | Exception] | Callable[[Samples], str | Exception] = lambda audio: (
            "Hello there."
        ),
        *,
        latency_s: float = 0.0,
        latency_per_audio_s: float = 0.0,
        once_per_turn: bool = False,
        glimpses: Callable[[Samples], Glimpse | Exception] = lambda audio: Glimpse(0.0, 0.0, 1.0),
        glimpse_s: float = 0.0,
    ) -> None:
        self._script = script
        self._glimpses = glimpses
        self._glimpse_s = glimpse_s
        self._latency_s = latency_s
        self._latency_per_audio_s = latency_per_audio_s
        self._once_per_turn = once_per_turn
        self._position = 0
        self._last: tuple[Samples, Heard] | None = None
        self.durations_s: list[float] = []
        """Length of every clip that was asked about."""
        self.glimpsed_s: list[float] = []
        """Length of every clip that was glimpsed at."""
        self.hot_words: list[str] = []
        self.deadlines_s: list[float | None] = []
        self.cancelled = 0

    async def transcribe(
        self,
        audio: Samples,
        *,
        language: str = "en",
        hot_words: str = "",
        deadline_s: float | None = None,
    ) -> Transcript:
        duration_s = len(audio) / STT_RATE_HZ
        self.durations_s.append(duration_s)
        self.hot_words.append(hot_words)
        self.deadlines_s.append(deadline_s)
        heard = self._next(audio)
        latency_s = self._latency_s + self._latency_per_audio_s * duration_s
        try:
            await asyncio.sleep(latency_s if deadline_s is None else min(latency_s, deadline_s))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if deadline_s is not None and latency_s > deadline_s:
            raise ModelLate(f"The words were not ready within {deadline_s:.1f} s.")
        if isinstance(heard, Exception):
            raise heard
        return Transcript(heard, duration_s)

    async def glimpse(self, audio: Samples, *, language: str = "en") -> Glimpse:
        self.glimpsed_s.append(len(audio) / STT_RATE_HZ)
        seen = self._glimpses(audio)
        await asyncio.sleep(self._glimpse_s)
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def aclose(self) -> None:
        return None

    def _next(self, audio: Samples) -> Heard:
        if callable(self._script):
            return self._script(audio)
        if self._once_per_turn and self._last is not None and _same_beginning(self._last[0], audio):
            self._last = (audio, self._last[1])
            return self._last[1]
        if self._position >= len(self._script):
            return ModelFailed(f"The transcriber's script of {len(self._script)} texts is used up.")
        heard = self._script[self._position]
        self._position += 1
        if self._once_per_turn:
            self._last = (audio, heard)
        return heard


def _same_beginning(earlier: Samples, later: Samples) -> bool:
    common = min(len(earlier), len(later)) - _GROWN_TAIL_SAMPLES
    return common > 0 and bool(np.array_equal(earlier[:common], later[:common]))


@dataclass(frozen=True, slots=True)
class BreaksOff:
    """A reply that raises `error` after `text` was yielded."""

    text: str
    error: Exception = field(default_factory=lambda: ModelFailed("The scripted reply breaks off here."))


Reply = str | Exception | BreaksOff


def echo(messages: Sequence[Message]) -> str:
    """Default script: repeat the caller's last words."""
    said = next((message.content for message in reversed(messages) if message.role == "user"), "")
    return f"You said: {said}" if said else "I did not hear anything."


class ScriptedChat:
    """Answers what the script says, word by word; each word counts as one token.

    `script` is a sequence of replies used up in order over all sessions, or a callable from the messages
    after the prefix. An exception is raised instead of the first word. `requests` keeps the messages of
    every reply and `prefills` those of every prefill, so a test can see which history was heard.
    `keep_to_limit=False` plays a model that ignores `max_tokens`. `turn_end` is what `on_turn_end` is told;
    None: nothing.
    """

    def __init__(
        self,
        script: Sequence[Reply] | Callable[[Sequence[Message]], Reply] = echo,
        *,
        prefill_s: float = 0.0,
        first_token_s: float = 0.0,
        tokens_per_s: float = float("inf"),
        sequences: int | None = None,
        keep_to_limit: bool = True,
        turn_end: Callable[[Sequence[Message]], float] | None = None,
    ) -> None:
        self._script = script
        self._turn_end = turn_end
        self._sequences = sequences
        self._position = 0
        self.prefill_s = prefill_s
        self.first_token_s = first_token_s
        self.token_s = 1.0 / tokens_per_s
        self.keep_to_limit = keep_to_limit
        self.sessions = 0
        self.prefixes: list[tuple[Message, ...]] = []
        self.samplings: list[Sampling] = []
        """How each session was to draw its tokens. A script draws none."""
        self.prefills: list[tuple[Message, ...]] = []
        self.requests: list[tuple[Message, ...]] = []
        self.grammars: list[str | None] = []
        """The grammar that each reply was to be held to. The script's words are not: a test may play a model
        that knows of none."""
        self.begun: list[str] = []
        """What each reply had said already. A script's text that begins with it goes on from there."""
        self.closed_early = 0
        """Replies that were closed or cancelled before their last word."""
        self.overlaps = 0
        """Requests on a session whose previous request still ran: a caller's mistake."""

    async def open(self, prefix: Sequence[Message], *, sampling: Sampling = GREEDY) -> "ScriptedChatSession":
        if self._sequences is not None and self.sessions >= self._sequences:
            raise ModelBusy(f"All {self._sequences} sequences are in use.")
        self.sessions += 1
        self.prefixes.append(tuple(prefix))
        self.samplings.append(sampling)
        return ScriptedChatSession(self)

    async def aclose(self) -> None:
        return None

    def _next(self, messages: tuple[Message, ...]) -> Reply:
        self.requests.append(messages)
        if callable(self._script):
            return self._script(messages)
        if self._position >= len(self._script):
            return ModelFailed(f"The chat's script of {len(self._script)} replies is used up.")
        reply = self._script[self._position]
        self._position += 1
        return reply


class ScriptedChatSession:
    def __init__(self, chat: ScriptedChat) -> None:
        self._chat = chat
        self._running = 0
        self._closed = False

    async def prefill(self, messages: Sequence[Message]) -> None:
        self._chat.prefills.append(tuple(messages))
        self._begin()
        try:
            await asyncio.sleep(self._chat.prefill_s)
        finally:
            self._running -= 1

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 120,
        on_turn_end: Callable[[float], None] | None = None,
        grammar: str | None = None,
        begun: str = "",
    ) -> AsyncGenerator[str, None]:
        self._chat.grammars.append(grammar)
        self._chat.begun.append(begun)
        reply = self._chat._next(tuple(messages))
        self._begin()
        finished = False
        try:
            await asyncio.sleep(self._chat.first_token_s)
            if on_turn_end is not None and self._chat._turn_end is not None:
                on_turn_end(self._chat._turn_end(tuple(messages)))
            if isinstance(reply, Exception):
                raise reply
            text = reply if isinstance(reply, str) else reply.text
            for index, piece in enumerate(_words(text.removeprefix(begun))):
                if self._chat.keep_to_limit and index >= max_tokens:
                    break
                if index:
                    await asyncio.sleep(self._chat.token_s)
                yield piece
            if isinstance(reply, BreaksOff):
                raise reply.error
            finished = True
        except Exception:
            finished = True
            raise
        finally:
            self._running -= 1
            self._chat.closed_early += not finished

    def usage(self) -> Usage:
        return Usage()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._chat.sessions -= 1

    def _begin(self) -> None:
        if self._closed:
            raise ModelFailed("The chat session was closed.")
        self._chat.overlaps += self._running > 0
        self._running += 1


def _words(text: str) -> list[str]:
    """Words with the space before them, as language models split text."""
    words = text.split(" ")
    pieces = [word if index == 0 else " " + word for index, word in enumerate(words)]
    return [piece for piece in pieces if piece]


@dataclass(frozen=True, slots=True)
class ScriptedSpeech:
    """One request to a scripted voice."""

    text: str
    utterance: str
    context: tuple[Speech, ...]


class ScriptedSynthesizer:
    """A voiced-like tone for every text: its length grows with the characters, its pitch follows the text.

    Level -20 dBFS RMS throughout, no pauses inside, so any voice detector and level meter hears one
    stretch of speech. The first chunk comes after `latency_s`, each further one after
    `chunk_s * realtime_factor`. `fail` may return an exception for a text; half of the audio comes first.
    `said` keeps every text that was asked for. Text of only spaces yields nothing. `takes_context` is what
    its voices declare; `spoken` keeps each request with its context, `prepared` each context to be prepared.
    """

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        realtime_factor: float = 0.0,
        character_s: float = 0.06,
        chunk_s: float = 0.1,
        fail: Callable[[str], Exception | None] = lambda text: None,
        takes_context: Literal["nothing", "text", "audio"] = "nothing",
    ) -> None:
        self.latency_s = latency_s
        self.realtime_factor = realtime_factor
        self.character_s = character_s
        self.chunk_s = chunk_s
        self.fail = fail
        self.takes_context: Literal["nothing", "text", "audio"] = takes_context
        self.said: list[str] = []
        self.spoken: list[ScriptedSpeech] = []
        self.prepared: list[tuple[Speech, ...]] = []
        self.overlaps = 0
        """Requests to a voice that was still speaking: a caller's mistake."""
        self.closed_early = 0

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "ScriptedVoice":
        if voice not in ("", "scripted"):
            raise ModelError(f"No voice {voice!r}. The scripted synthesizer has one: 'scripted'.")
        if not speed > 0:
            raise ModelError(f"Voice speed is {speed}; it must be above 0.")
        return ScriptedVoice(self, speed)

    async def aclose(self) -> None:
        return None


class ScriptedVoice:
    sample_rate_hz: int = VOICE_RATE_HZ

    def __init__(self, model: ScriptedSynthesizer, speed: float) -> None:
        self._model = model
        self._speed = speed
        self._speaking = False
        self._word_spans: dict[str, tuple[tuple[float, float], ...]] = {}
        self.takes_context: Literal["nothing", "text", "audio"] = model.takes_context

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return self._word_spans.get(utterance, ())

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        model = self._model
        model.said.append(text)
        model.spoken.append(ScriptedSpeech(text, utterance, tuple(context)))
        model.overlaps += self._speaking
        self._speaking = True
        character_s = model.character_s / self._speed
        words = re.finditer(r"\S+", text.strip())
        self._word_spans[utterance] = tuple(
            (word.start() * character_s, word.end() * character_s) for word in words
        )
        error = model.fail(text)
        audio = voiced_signal(text, len(text.strip()) * character_s)
        if error is not None:
            audio = audio[: len(audio) // 2]
        step = max(1, round(model.chunk_s * VOICE_RATE_HZ))
        finished = False
        try:
            await asyncio.sleep(model.latency_s)
            for start in range(0, len(audio), step):
                if start:
                    await asyncio.sleep(model.chunk_s * model.realtime_factor)
                yield audio[start : start + step]
            finished = True
        finally:
            self._speaking = False
            model.closed_early += not finished
        if error is not None:
            raise error

    def prepare(self, context: Sequence[Speech]) -> None:
        self._model.prepared.append(tuple(context))
        self._model.overlaps += self._speaking

    async def aclose(self) -> None:
        return None


def voiced_signal(text: str, duration_s: float, sample_rate_hz: int = VOICE_RATE_HZ) -> Samples:
    """A harmonic tone of 100-180 Hz chosen by `text`, with a slow syllable-like swell, (n,) float32 at
    -20 dBFS RMS; 5 ms fades at both ends. Equal arguments give equal samples."""
    length = round(duration_s * sample_rate_hz)
    if length <= 0:
        return np.zeros(0, np.float32)
    pitch_hz = 100 + zlib.crc32(text.encode()) % 81
    period = round(sample_rate_hz / pitch_hz)
    phase = 2 * np.pi * np.arange(period) / period
    # Falling harmonics up to the third kilohertz: the telephone band keeps nearly all of it.
    cycle = sum(np.sin(k * phase + 0.7 * k * k) / k for k in range(1, 17))
    syllable = round(0.2 * sample_rate_hz)
    swell = 1.0 - 0.4 * np.cos(2 * np.pi * np.arange(syllable) / syllable)
    audio = np.resize(np.asarray(cycle), length) * np.resize(swell, length)
    audio *= 10 ** (VOICE_LEVEL_DBFS / 20) / np.sqrt(np.mean(audio**2))
    fade = min(round(0.005 * sample_rate_hz), length // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False)
    audio[:fade] *= ramp
    audio[length - fade :] *= ramp[::-1]
    return audio.astype(np.float32)


class EnergyVoiceStream:
    """The energy detector remembers nothing from one window to the next."""


class EnergyVoiceActivity:
    """Speech probability from the level alone: 0.5 at `threshold_dbfs`, 0 and 1 at 12 dB below and above."""

    def __init__(self, threshold_dbfs: float = -40.0) -> None:
        self._threshold_dbfs = threshold_dbfs

    def open(self) -> VoiceActivityStream:
        return EnergyVoiceStream()

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        if windows.shape != (len(streams), VAD_WINDOW_SAMPLES):
            raise ValueError(
                f"windows has shape {windows.shape}, expected ({len(streams)}, {VAD_WINDOW_SAMPLES})"
            )
        if len({id(stream) for stream in streams}) != len(streams):
            raise ValueError("a stream occurs twice in one batch")
        power = np.einsum("ij,ij->i", windows, windows) / VAD_WINDOW_SAMPLES
        level_dbfs = 10 * np.log10(np.maximum(np.nan_to_num(power), 1e-12))
        probabilities: Samples = np.clip(0.5 + (level_dbfs - self._threshold_dbfs) / 24, 0.0, 1.0)
        return probabilities.astype(np.float32)
