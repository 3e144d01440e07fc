"""Whisper through faster-whisper (CTranslate2): one telephone turn in, its words out.

faster-whisper's own `transcribe` always encodes 30 s. A turn is shorter, and encoding is most of the work, so
this path encodes the speech and a second of silence, at least the model's floor (`WindowPolicy`), and looks
again through 30 s when the text looks like a loop. The audio is padded, not its log-mel picture: zeros there
are not silence. faster-whisper gives the loader, tokenizer, log-mel and prompt; CTranslate2 does the rest.

A glimpse at a voice that has only begun encodes 2 s and decodes a word: the decoder may loop after it, and
that does not matter. It has a worker and a replica of its own, so it neither waits for a transcription nor
ends one.

Transcriptions that wait are taken by `HearingQueue`: the earliest deadline first, and on a GPU those of equal
windows in one batch. On a CPU they go one by one: with base int8, 16 telephone clips on one thread, encoding
cost 78 ms of CPU time a clip alone and 83, 84 and 118 in batches of 2, 4 and 8, decoding 39 alone and 32, 30
and 28. The little that this gains, whoever comes first would wait for.
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import (
    STT_RATE_HZ,
    Glimpse,
    ModelError,
    ModelFailed,
    ModelLate,
    ModelMissing,
    Samples,
    Transcript,
)
from models.catalogue import WindowPolicy
from models.glimpse import judge, sound_of
from models.hearing_queue import HearingQueue
from models.hearsay import Evidence, loud_level, noise, once, recited, suspicious, unspoken, voiced_seconds

log = logging.getLogger(__name__)

FULL_WINDOW_S = 30.0
SHORTEST_S = 0.1
SILENT_DBFS = -60.0
"""Mu-law's smallest step is -72 dBFS: quieter than this nobody speaks."""

QUIET_DBFS = -36.0
RAISED_DBFS = -18.0
MOST_GAIN_DB = 36.0

_TOKENS_PER_SECOND = 6
_SPARE_TOKENS = 12
"""Speech has 3-5 tokens a second; what exceeds the sum is a loop, and is stopped early."""
_LONGEST_HOT_WORDS = 100
"""Tokens. Each costs a little of every transcription, and Whisper has room for 223."""

_BATCHES = {"cpu": 1}
_GPU_BATCH = 8
_GPU_STRETCH = 1.25
"""What a batch's windows may grow by so that longer clips join it. None of the two was measured."""

_GLIMPSE_WINDOW_S = 2.0
_GLIMPSE_LONGEST_S = 1.5
"""Of a longer clip the beginning counts."""
_GLIMPSE_TOKENS = 3
_GLIMPSE_RANKED = 100
"""Likeliest first tokens that are looked at: 0.95 of the probability and more."""


class TooLong(ModelError):
    """More than 30 s of audio: the caller of `transcribe` must cut the turn at a pause."""


Decoded = tuple[str, float, float, bool]
"""Text, mean log probability, probability of no speech, and whether the text came to its end."""


@dataclass(eq=False, slots=True)
class _Request:
    audio: Samples
    language: str
    hot_words: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    transcript: "Future[Transcript]" = field(default_factory=Future)
    voiced_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return len(self.audio) / STT_RATE_HZ

    def settle(self, outcome: Transcript | Exception) -> None:
        """Tell whoever waits, if anybody does."""
        try:
            if isinstance(outcome, Exception):
                self.transcript.set_exception(outcome)
            else:
                self.transcript.set_result(outcome)
        except InvalidStateError:
            log.debug("A transcript came after its request had ended")

    @property
    def settled(self) -> bool:
        return self.cancelled.is_set() or self.transcript.done()


class WhisperTranscriber:
    """One model, one worker thread, the earliest deadline first; and another thread for glimpses.

    The constructor blocks while it reads the files and raises `ModelMissing`; the worker then encodes
    30 s of silence (2 s for base on one core) before the first request. `threads` are the cores of one
    transcription. `compute_type` as in CTranslate2: "int8" on CPUs, "float16" on GPUs. `batch`: so many
    transcriptions at most go through the model together; None: what is best for the device.

    `glimpse_folder` is another Whisper for glimpses, in its languages; None glimpses with this one, whose
    replica shares the weights (14 MB more for base). tiny.en takes 62 MB, half the time and sees better:
    beginnings of 0.35 s were told apart with an area under the curve of 0.98, by base of 0.92.
    """

    def __init__(
        self,
        folder: Path,
        window: WindowPolicy,
        *,
        threads: int,
        compute_type: str = "int8",
        device: str = "cpu",
        device_index: int = 0,
        glimpse_folder: Path | None = None,
        batch: int | None = None,
    ) -> None:
        self._window = window
        self._device = device
        self._queue = HearingQueue(
            most=batch or _BATCHES.get(device, _GPU_BATCH), stretch=1.0 if device == "cpu" else _GPU_STRETCH
        )
        self._requests: dict[int, _Request] = {}
        """Those that wait."""
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        """Guards the queue and the requests."""
        self._closed = False
        replicas = 1 if glimpse_folder else 2
        self._model = _load(folder, threads, compute_type, device, device_index, replicas)
        self._glimpser = self._model
        if glimpse_folder is not None:
            self._glimpser = _load(glimpse_folder, 1, compute_type, device, device_index, 1)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="whisper")
        self._glimpses = ThreadPoolExecutor(1, thread_name_prefix="glimpse")
        self._tokenizers: dict[str, Any] = {}
        self._glimpse_tokenizers: dict[str, Any] = {}
        self._suppressed: list[int] = []
        self._tokenizer("en")
        self._encoded_silence: Any = None
        if device == "cpu" and not window.full_window:
            # As the worker's first job, so that start-up goes on with the other models meanwhile.
            self._worker.submit(self._prepare)

    async def transcribe(
        self,
        audio: Samples,
        *,
        language: str = "en",
        hot_words: str = "",
        deadline_s: float | None = None,
    ) -> Transcript:
        """The words of (n,) float32 at 16 kHz, n <= 30 s, whatever the samples are: not finite ones count as
        silence, and noise gives an empty text. `hot_words` (names, products) make their spelling likelier.

        Never blocks the loop. A cancelled request is dropped while it waits; once it runs, the thread stops
        at its next step, and goes on with the rest of its batch. After `deadline_s` it is cancelled, and
        `ModelLate` raised. Raises `TooLong`, `ModelError` for a language the model lacks, `ModelFailed`.
        """
        samples = np.asarray(audio, dtype=np.float32).reshape(-1)
        duration_s = len(samples) / STT_RATE_HZ
        if duration_s > FULL_WINDOW_S:
            raise TooLong(f"{duration_s:.1f} s of audio; Whisper takes {FULL_WINDOW_S:.0f} s: cut it up.")
        if language not in self._model.supported_languages:
            raise ModelError(f"This Whisper does not know language {language!r}; choose a multilingual one.")
        request = _Request(samples, language, hot_words)
        number = self._wait(request, deadline_s)
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(request.transcript)
        except TimeoutError:
            raise _late(request) from None
        except ModelError:
            raise
        except Exception as error:
            raise ModelFailed(f"Whisper failed on {duration_s:.1f} s of audio: {error}") from error
        finally:
            self._leave(number, request)

    async def glimpse(self, audio: Samples, *, language: str = "en") -> Glimpse:
        """What the first 0.1-1 s of a voice, (n,) float32 at 16 kHz with at most 0.2 s before it, will turn
        out to be: 40 ms of CPU with tiny.en, 75 with base. Runs beside a running `transcribe`.

        Never blocks the loop; cancelled, it is dropped if it waits. Silence and less than 0.1 s are noise. A
        language that the glimpsing model lacks is heard as English. Raises `ModelFailed`.
        """
        samples = np.asarray(audio, dtype=np.float32).reshape(-1)[: round(_GLIMPSE_LONGEST_S * STT_RATE_HZ)]
        try:
            return await asyncio.wrap_future(self._glimpses.submit(self._glimpse, samples, language))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise ModelFailed("Whisper was closed before it came to this glimpse.") from None
            raise
        except Exception as error:
            raise ModelFailed(f"Whisper failed on a glimpse: {error}") from error

    async def aclose(self) -> None:
        """Drop what waits; what runs ends on its own."""
        with self._lock:
            self._closed = True
            waiting = list(self._requests.values())
            self._requests.clear()
        for request in waiting:
            request.settle(_was_closed())
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._glimpses.shutdown(wait=False, cancel_futures=True)

    def _wait(self, request: _Request, deadline_s: float | None) -> int:
        window_s = self._first_window_s(request.duration_s)
        kind = (request.language, request.hot_words)
        with self._lock:
            if self._closed:
                raise _was_closed()
            number = next(self._numbers)
            self._requests[number] = request
            self._queue.push(
                number, now=time.monotonic(), window_s=window_s, kind=kind, deadline_s=deadline_s
            )
            # One job for each request: where a batch takes several, some find nothing to do.
            self._worker.submit(self._serve)
        return number

    def _leave(self, number: int, request: _Request) -> None:
        request.cancelled.set()
        with self._lock:
            self._queue.drop(number)
            self._requests.pop(number, None)

    # Below runs on the glimpses' thread.

    def _glimpse(self, audio: Samples, language: str) -> Glimpse:
        audio = _sane(audio)
        if len(audio) < SHORTEST_S * STT_RATE_HZ or _silent(audio):
            return Glimpse(backchannel=0.0, noise=1.0, speech=0.0)
        audio = _raised(audio)
        model = self._glimpser
        tokenizer = self._glimpse_tokenizer(language)
        prompt: list[int] = model.get_prompt(tokenizer, [], without_timestamps=True)
        window = np.pad(audio, (0, round(_GLIMPSE_WINDOW_S * STT_RATE_HZ) - len(audio)))
        result = model.model.generate(
            model.encode(model.feature_extractor(window, padding=0)),
            [prompt],
            beam_size=1,
            max_length=max(len(prompt) + _GLIMPSE_TOKENS, 2 * _GLIMPSE_TOKENS),
            return_logits_vocab=True,
            return_no_speech_prob=True,
            suppress_blank=True,
        )[0]
        logits = np.array(result.logits[0], dtype=np.float64)
        first, second = (_ranked(step, tokenizer) for step in (logits[0], logits[min(1, len(logits) - 1)]))
        return judge(
            first,
            second if len(logits) > 1 else {},
            text=tokenizer.decode(result.sequences_ids[0]).strip(),
            no_speech_probability=result.no_speech_prob,
            sound=sound_of(audio),
        )

    def _glimpse_tokenizer(self, language: str) -> Any:
        known = language if language in self._glimpser.supported_languages else "en"
        if known not in self._glimpse_tokenizers:
            self._glimpse_tokenizers[known] = _tokenizer_of(self._glimpser, known)
        return self._glimpse_tokenizers[known]

    # Below runs on the worker thread.

    def _prepare(self) -> None:
        self._encoded_silence = np.array(self._encode(np.zeros(0, np.float32), FULL_WINDOW_S))

    def _serve(self) -> None:
        with self._lock:
            batch = self._queue.take(time.monotonic())
            late = [self._requests.pop(number) for number in batch.late]
            requests = [self._requests.pop(number) for number in batch.numbers if number in self._requests]
        for request in late:
            request.settle(_late(request))
        try:
            spoken = [request for request in requests if self._has_sound(request)]
            if len(spoken) > 1:
                self._hear_together(spoken, batch.window_s)
            for request in spoken:
                if not request.settled:
                    request.settle(self._hear(request))
        except Exception as error:
            for request in requests:
                request.settle(error)

    @staticmethod
    def _has_sound(request: _Request) -> bool:
        """Make its samples fit for the model. One without sound, or that nobody waits for, is settled."""
        request.audio = _sane(request.audio)
        if request.duration_s < SHORTEST_S or _silent(request.audio) or request.cancelled.is_set():
            request.settle(Transcript("", request.duration_s, no_speech_probability=1.0))
            return False
        request.audio = _raised(request.audio)
        request.voiced_s = voiced_seconds(request.audio)
        return True

    def _hear_together(self, requests: Sequence[_Request], window_s: float) -> None:
        """A first look at clips of one kind. What looks like a loop stays unsettled, and what is longer than
        it may be alone."""
        language, hot_words = requests[0].language, requests[0].hot_words
        encoded = self._encode_all([request.audio for request in requests], window_s)
        if all(request.cancelled.is_set() for request in requests):
            return
        longest_s = max(request.duration_s for request in requests)
        decoded = self._decode(encoded, language, hot_words, longest_s, len(requests))
        for request, (heard, n_tokens) in zip(requests, decoded, strict=True):
            evidence = Evidence(*heard, request.voiced_s)
            fits = n_tokens < _room(request.duration_s, self._model.max_length)
            if fits and (noise(evidence) or not suspicious(evidence)):
                request.settle(_believed(evidence, request))

    def _hear(self, request: _Request) -> Transcript:
        evidence = None
        for encoded in self._looks(request.audio):
            if request.cancelled.is_set():
                break
            [(heard, _)] = self._decode(encoded, request.language, request.hot_words, request.duration_s, 1)
            evidence = Evidence(*heard, request.voiced_s)
            if request.cancelled.is_set() or noise(evidence) or not suspicious(evidence):
                break
            log.info("A transcript of %.1f s looks like a loop; looking again", request.duration_s)
        if evidence is None:
            return Transcript("", request.duration_s, no_speech_probability=1.0)
        return _believed(evidence, request)

    def _looks(self, audio: Samples) -> Iterator[Any]:
        """Encoder outputs for one clip, the cheapest first; the next one is for a text that looped.

        Loops come from a decoder that misses the long silence it was trained to see after the words. So the
        second look lengthens the short window by the encoded silence that stands at those places in 30 s:
        in our loops that was enough, and it saves encoding 30 s, which is the third look.
        """
        window_s = self._first_window_s(len(audio) / STT_RATE_HZ)
        encoded = self._encode(audio, window_s)
        yield encoded
        if window_s >= FULL_WINDOW_S:
            return
        if self._encoded_silence is not None:
            short = np.array(encoded)
            whole = np.concatenate([short, self._encoded_silence[:, short.shape[1] :]], axis=1)
            yield self._storage(np.ascontiguousarray(whole))
        yield self._encode(audio, FULL_WINDOW_S)

    def _first_window_s(self, duration_s: float) -> float:
        policy = self._window
        if policy.full_window:
            return FULL_WINDOW_S
        return min(FULL_WINDOW_S, max(policy.floor_s, duration_s + policy.trailing_silence_s))

    def _encode(self, audio: Samples, window_s: float) -> Any:
        return self._model.encode(self._features(audio, window_s))

    def _encode_all(self, audios: Sequence[Samples], window_s: float) -> Any:
        """(n_clips, positions, width). A CPU encodes several clips at once more slowly than one by one."""
        if self._device == "cpu":
            rows = [np.array(self._encode(audio, window_s)) for audio in audios]
            return self._storage(np.concatenate(rows, axis=0))
        return self._model.encode(np.stack([self._features(audio, window_s) for audio in audios]))

    def _features(self, audio: Samples, window_s: float) -> Any:
        missing = round(window_s * STT_RATE_HZ) - len(audio)
        padded = np.pad(audio, (0, max(0, missing)))
        return self._model.feature_extractor(padded, padding=0)

    @staticmethod
    def _storage(array: Any) -> Any:
        import ctranslate2

        return ctranslate2.StorageView.from_array(array)

    def _decode(
        self, encoded: Any, language: str, hot_words: str, duration_s: float, n_clips: int
    ) -> list[tuple[Decoded, int]]:
        """Of each clip, with the number of its tokens. The longest one is `duration_s` long."""
        tokenizer = self._tokenizer(language)
        prompt = self._prompt(tokenizer, hot_words)
        room = _room(duration_s, self._model.max_length)
        results = self._model.model.generate(
            encoded,
            [prompt] * n_clips,
            beam_size=1,
            # CTranslate2 writes at most min(max_length / 2, max_length - prompt) tokens.
            max_length=min(room + max(room, len(prompt)), self._model.max_length),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
        )
        decoded = []
        for result in results:
            tokens = result.sequences_ids[0]
            # CTranslate2 divides the sum by the tokens; whisper counts the end of text as one more.
            mean = result.scores[0] * len(tokens) / (len(tokens) + 1)
            text = tokenizer.decode(tokens).strip()
            decoded.append(((text, mean, result.no_speech_prob, len(tokens) < room), len(tokens)))
        return decoded

    def _prompt(self, tokenizer: Any, hot_words: str) -> list[int]:
        hints = tokenizer.encode(" " + hot_words.strip())[:_LONGEST_HOT_WORDS] if hot_words.strip() else []
        prompt: list[int] = self._model.get_prompt(tokenizer, hints, without_timestamps=True)
        return prompt

    def _tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            from faster_whisper.transcribe import get_suppressed_tokens

            tokenizer = _tokenizer_of(self._model, language)
            self._tokenizers[language] = tokenizer
            self._suppressed = list(get_suppressed_tokens(tokenizer, [-1]) or ())
        return self._tokenizers[language]


def _room(duration_s: float, max_length: int) -> int:
    """Tokens that a clip's text may have."""
    return min(_SPARE_TOKENS + int(_TOKENS_PER_SECOND * duration_s), max_length // 2)


def _believed(evidence: Evidence, request: _Request) -> Transcript:
    believed = not unspoken(evidence) and not recited(evidence, request.hot_words)
    text = once(evidence.text) if believed else ""
    return Transcript(text, request.duration_s, evidence.mean_log_probability, evidence.no_speech_probability)


def _late(request: _Request) -> ModelLate:
    return ModelLate(f"Whisper did not come to {request.duration_s:.1f} s of audio within its deadline.")


def _was_closed() -> ModelFailed:
    return ModelFailed("Whisper was closed before it came to this request.")


def _tokenizer_of(model: Any, language: str) -> Any:
    from faster_whisper.tokenizer import Tokenizer

    return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language=language)


def _ranked(logits: NDArray[np.float64], tokenizer: Any) -> dict[str, float]:
    """Probabilities of the likeliest tokens, as Whisper writes them."""
    shares = np.exp(logits - np.logaddexp.reduce(logits))
    ranked: dict[str, float] = {}
    for token in np.argpartition(-shares, _GLIMPSE_RANKED)[:_GLIMPSE_RANKED]:
        written = tokenizer.decode([int(token)])
        ranked[written] = ranked.get(written, 0.0) + float(shares[token])
    return ranked


def _sane(audio: Samples) -> Samples:
    sane: Samples = np.clip(np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
    return sane


def _silent(audio: Samples) -> bool:
    return float(np.abs(audio).max(initial=0.0)) < 10 ** (SILENT_DBFS / 20)


def _raised(audio: Samples) -> Samples:
    """Very quiet speech brought to telephone level; louder audio as it is.

    Whisper hears speech at -44 dBFS RMS as well as at -20 (5.2 to 6.4 % word errors); at -54 dBFS it errs on
    35 % of the words, and on 8 % when the level is raised first.
    """
    level = loud_level(audio)
    if level >= 10 ** (QUIET_DBFS / 20):
        return audio
    gain = min(10 ** (RAISED_DBFS / 20) / max(level, 1e-9), 10 ** (MOST_GAIN_DB / 20))
    raised: Samples = np.clip(audio * np.float32(gain), -1.0, 1.0)
    return raised


def _load(
    folder: Path, threads: int, compute_type: str, device: str, device_index: int, replicas: int
) -> Any:
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise ModelMissing("faster-whisper is missing: run pip install 'maya-voice[speech]'.") from error
    # Absent files would send the loader to the hub.
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelMissing(f"{folder / name} is missing: run `maya models pull {folder.name}`.")
    try:
        return WhisperModel(
            str(folder),
            device=device,
            device_index=device_index,
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=replicas,
            local_files_only=True,
        )
    except Exception as error:
        raise ModelMissing(
            f"Whisper cannot be loaded from {folder} ({error}): run `maya models pull {folder.name}`."
        ) from error
