"""What a call asks of its models: hear, answer, speak, and notice a voice.

Models know nothing of calls. Arrays and text go in, text and arrays come out; every coroutine and
iterator here may be cancelled or closed at any await, and then stops working within one step of its
model. None of them runs inference on the event loop.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio, (n_samples,) float32 in [-1, 1]; the rate stands beside it."""

STT_RATE_HZ = 16_000
VAD_RATE_HZ = 8_000
VAD_WINDOW_SAMPLES = 256
"""One Silero decision: 32 ms at 8 kHz (silero-vad 6, `silero_vad.onnx`)."""


class ModelError(Exception):
    """Base of what goes wrong in this package; the message tells the operator what to do next."""


class ModelMissing(ModelError):
    """A model's file is absent or damaged: names the file, what was expected, and the mending command."""


class ModelBusy(ModelError):
    """No free sequence or slot for one more call."""


class ModelFailed(ModelError):
    """A model raised while it worked for one call. The call ends or apologises; the model lives on."""


class ModelLate(ModelFailed):
    """A model did not come to a request within the time that its caller gave it."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard in one stretch of audio. `text` is empty when nothing trustworthy was said."""

    text: str
    duration_s: float
    mean_log_probability: float = 0.0
    no_speech_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A first guess at a voice that has only begun. The three shares are probabilities; they sum to 1."""

    backchannel: float
    """It is one of the sounds that keep a speaker going: "mm-hmm", "yeah", "okay", "right"."""
    noise: float
    """Nobody speaks: a cough, a click, a rustle."""
    speech: float
    """Anything else: somebody wants to say something."""
    text: str = ""
    """The likeliest words so far; may be wrong or empty."""


class Transcriber(Protocol):
    """Speech to text. One object serves every call; the request with the earliest deadline goes first."""

    async def transcribe(
        self,
        audio: Samples,
        *,
        language: str = "en",
        hot_words: str = "",
        deadline_s: float | None = None,
    ) -> Transcript:
        """Transcribe (n,) float32 at 16 kHz, at most 30 s. Hallucinations on noise and silence come
        back as empty text. Raises `ModelFailed`. Cancelling drops the request if it still waits.

        `deadline_s` from now on nobody wants the words any more: `ModelLate` is raised then, and no more work
        is spent. Who sets none is never late, and goes after those who do, though not for ever."""
        ...

    async def glimpse(self, audio: Samples, *, language: str = "en") -> Glimpse:
        """What the first 0.1-1 s of a voice, (n,) float32 at 16 kHz, will turn out to be. Goes before every
        waiting `transcribe`; much cheaper than one. Raises `ModelFailed`."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `content` is plain text. A "tool" message answers the call with which the assistant's
    message before it ends; models are shown where it begins and ends, whatever it holds."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one session so far; its prefix, which all calls share, is not counted."""

    evaluated: int = 0
    """Went through the model for it."""
    kept: int = 0
    """Of these, those that are in its memory still: words that stood, replies that were said. The others were
    evaluated for words that changed, for replies that were taken back, or again after the oldest turns
    had been dropped."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one call's tokens are chosen. Raises `ValueError` for numbers that choose nothing."""

    temperature: float = 0.0
    """0: always the likeliest. 1: as likely as the model says. At most 2."""
    top_p: float = 1.0
    """Only of the likeliest tokens that have this much of the probability together (arXiv 1904.09751)."""
    seed: int = 0
    """Equal seeds and equal logits choose equal tokens. Not negative."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2 or not 0 < self.top_p <= 1 or self.seed < 0:
            raise ValueError("temperature is from 0 to 2, top_p above 0 and at most 1, and no seed below 0")


GREEDY = Sampling()


class ChatSession(Protocol):
    """One call's sequence in the language model's context.

    Only one `prefill` or `reply` runs at a time. Each is given the whole conversation after the
    session's prefix; the session keeps what it evaluated, and nothing before the first changed token
    is evaluated again.
    """

    async def prefill(self, messages: Sequence[Message]) -> None:
        """Evaluate `messages` ahead of the reply. A last message of the user may still grow: it is
        evaluated without its end-of-message tokens."""
        ...

    def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 120,
        on_turn_end: Callable[[float], None] | None = None,
        grammar: str | None = None,
        begun: str = "",
    ) -> AsyncGenerator[str, None]:
        """Yield the assistant's next message in pieces of text as they are decoded. Closing the
        iterator cancels within one step (32 tokens of all calls together, or so). Raises `ModelFailed`.

        `grammar` (GBNF, start symbol `root`) holds the message to it from the first `{` on: words before it
        are free, and the message ends where the grammar does. A message may have no `{` at all; with "" none
        has, and with None all is free.

        `on_turn_end` is told, on the event loop and before the first piece, the probability that the model
        gives to the last user message ending where it ends, a stop at its end not counted: near 0 for
        "my number is". It costs no evaluation beyond the reply's own, but for the last word's token where a
        prefill had evaluated it.

        `begun`: the message's first words, said already (by another process, or before a fault). They are
        evaluated with the prompt, and only what follows them is yielded: `begun` and the pieces, put
        together, are the message. `max_tokens` counts what follows. Cut it between words, or between two
        pieces of an earlier reply. It must follow `grammar` as far as it goes (`ModelFailed`)."""
        ...

    def usage(self) -> Usage:
        """Since the session was opened, its prefix not counted."""
        ...

    async def aclose(self) -> None:
        """Give the sequence back. Safe to call twice."""
        ...


class ChatModel(Protocol):
    async def open(self, prefix: Sequence[Message], *, sampling: Sampling = GREEDY) -> ChatSession:
        """A session that starts after `prefix` (system prompt, example turns). A prefix is evaluated
        once per process and shared by all the calls that name it, however each of them samples. `sampling` is
        this session's own; a model that draws nothing takes no notice of it. Raises `ModelBusy`."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class CallerSpeech:
    """One turn of the caller, as context for a voice."""

    key: str
    """Names this turn within its call; the same key means the same words and samples."""
    text: str
    audio: Samples | None = None
    """(n,) float32 at `sample_rate_hz`, or None when only the words are known."""
    sample_rate_hz: int = 8_000


@dataclass(frozen=True, slots=True)
class AgentSpeech:
    """One utterance of the agent as far as it was heard, as context for its voice."""

    utterance: str
    """The key that `Voice.speak` was given."""
    text: str
    """The words that were heard."""
    heard_s: float | None = None
    """Seconds of its audio that were played; None: all of it."""


Speech = CallerSpeech | AgentSpeech


class Voice(Protocol):
    """A voice reserved for one call.

    `context` is the conversation so far, oldest first, always whole: a voice keeps what it evaluated, and
    nothing before the first change is evaluated again. Voices that know no context ignore it.
    """

    sample_rate_hz: int
    takes_context: Literal["nothing", "text", "audio"]
    """What it makes use of: callers need not collect more."""

    def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        """Yield (n,) float32 chunks at `sample_rate_hz` as they are synthesised. `text` is one
        speakable clause or sentence. `utterance` names it for later contexts; a key that begins with
        `SHARED` is remembered for all calls of the synthesizer (a greeting that is voiced once). Closing the
        iterator stops the work within one step. Raises `ModelFailed`."""
        ...

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        """From when to when each word (split at white space) of the text spoken as `utterance` sounds, in
        seconds of its audio, in order; a pause belongs to no word. Known from the first chunk on, for the
        last few utterances; what is not synthesised yet may be estimated. Empty where the voice cannot
        tell."""
        ...

    def prepare(self, context: Sequence[Speech]) -> None:
        """Evaluate `context` ahead of the next `speak`, in the background; replaces what was asked before.
        Returns at once."""
        ...

    async def aclose(self) -> None: ...


SHARED = "shared/"


class Synthesizer(Protocol):
    async def open(self, voice: str = "", *, speed: float = 1.0) -> Voice:
        """Reserve a voice by name; "" is the model's default. Raises `ModelError` naming the known ones."""
        ...

    async def aclose(self) -> None: ...


class VoiceActivityStream(Protocol):
    """State of one audio stream in a `VoiceActivity` model; opaque."""


class VoiceActivity(Protocol):
    """Probability of speech, for the windows of many streams in one batch."""

    def open(self) -> VoiceActivityStream:
        """Fresh state. Cheap; no need to close."""
        ...

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        """Advance each stream by one window. `windows` is (n_streams, 256) float32 at 8 kHz; returns
        (n_streams,) float32 in [0, 1]. Blocks for about 0.2 ms a stream: call it off the event loop.
        No stream may occur twice in one batch."""
        ...


@dataclass(frozen=True, slots=True)
class Models:
    """One process's models. Loaded once, used by every call."""

    transcriber: Transcriber
    chat: ChatModel
    synthesizer: Synthesizer
    voice_activity: VoiceActivity

    async def aclose(self) -> None:
        await self.transcriber.aclose()
        await self.chat.aclose()
        await self.synthesizer.aclose()
