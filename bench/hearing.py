"""How well and how fast the transcriber hears telephone speech.

Sentences (`bench.sentences`) are spoken by the simulated caller's voices, never the agent's, at -20 dBFS,
sent through 8 kHz mu-law and resampled to 16 kHz as in a call, with 0.2 s before the first and 0.12 s after
the last voiced sample: that is what a turn's audio is when it is transcribed at the first pause. Word error
rate is errors over words of all sentences and voices. Synthetic voices flatter a recogniser or, like
`flite`'s old ones, try it; `speech_dir` adds human recordings, which are counted apart. What batches of
several calls' turns are worth is `hearing_load`'s part.
"""

import asyncio
import csv
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import hearing_load
from bench.noises import noises
from bench.report import Report, percentile, rate
from bench.sentences import SENTENCES, normalise, word_errors
from models.base import STT_RATE_HZ, ModelError, Samples, Transcriber
from models.catalogue import WindowPolicy
from models.store import Store
from models.whisper import WhisperTranscriber
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import from_pcm, resample
from telephony import g711
from telephony.simulator.voices import FLITE_VOICES, PEOPLE, read_audio, speak

MODELS = ("whisper-base", "whisper-tiny.en")
CLIP_LENGTHS_S = (1, 2, 4, 8)
NOISE_LENGTHS_S = (0.6, 1.5, 4.0)
NOISE_PEAKS = (0.02, 0.3)
REPEATS = 5

_BEFORE_S, _AFTER_S = 0.20, 0.12
_VOICED = 0.004


@dataclass(frozen=True, slots=True)
class Spoken:
    voice: str
    text: str
    audio: Samples


@dataclass(frozen=True, slots=True)
class Heard:
    spoken: Spoken
    text: str

    @property
    def words(self) -> int:
        return len(normalise(self.spoken.text))

    @property
    def errors(self) -> int:
        return word_errors(normalise(self.spoken.text), normalise(self.text))


def run(
    *,
    model: str = MODELS[0],
    speech_dir: Path | str | None = None,
    voices: Sequence[str] | None = None,
    sentences: int = len(SENTENCES),
    threads: int = 1,
    floor_s: float | None = None,
    latency: bool = True,
    only: str = "all",
    store: Store | None = None,
) -> Report:
    """Word error rate of `model` with `threads`, texts found in noise, and latency of each bundled model with
    one and two threads, and what batches gain. `floor_s` tries another window; `only="load"` measures batches
    alone. Raises `ModelError`; blocks for minutes."""
    store = store or Store()
    if only not in ("all", "load"):
        raise ModelError(f"bench hearing has no part {only!r}; there is load.")
    if only == "load":
        return Report(figures=_load(store, model, threads))
    chosen = tuple(voices) if voices is not None else default_voices()
    speech = [Spoken(voice, text, _spoken(text, voice)) for voice in chosen for text in SENTENCES[:sentences]]
    human = _human(Path(speech_dir)) if speech_dir is not None else []
    transcriber = _transcriber(store, model, threads, floor_s)
    heard = asyncio.run(_hear(transcriber, [*speech, *human]))
    synthetic, real = heard[: len(speech)], heard[len(speech) :]

    figures: dict[str, object] = {"model": model, "sentences": sentences, "voices": len(chosen)}
    figures |= _error_rate("wer", synthetic)
    figures |= _error_rate("wer_human", real) if real else {}
    noise_texts = asyncio.run(_noise_texts(transcriber))
    found = [row for row in noise_texts if row["text"]]
    figures |= rate("noise_with_text", len(found), len(noise_texts))
    asyncio.run(transcriber.aclose())
    if latency:
        for name in dict.fromkeys((model, *MODELS)):
            for count in (1, 2):
                figures |= _latency(store, name, count, speech, floor_s if name == model else None)
        figures |= _load(store, model, threads)
    return Report(
        figures=figures,
        notes=_notes(chosen, human),
        details={
            "wer_by_voice": {
                voice: round(_wer([item for item in heard if item.spoken.voice == voice]), 4)
                for voice in dict.fromkeys(item.spoken.voice for item in heard)
            },
            "misheard": [
                {"voice": item.spoken.voice, "said": item.spoken.text, "heard": item.text}
                for item in heard
                if item.errors
            ],
            "noise_with_text": found,
        },
    )


def _load(store: Store, model: str, threads: int) -> dict[str, object]:
    voices = list(PEOPLE)[: hearing_load.CALLS]
    texts = SENTENCES[: hearing_load.CALLS * hearing_load.ROUNDS]
    clips = [_spoken(text, voices[number % len(voices)]) for number, text in enumerate(texts)]
    window = store.entry(model).window
    if window is None:
        raise ModelError(f"{model} is no Whisper model.")
    return asyncio.run(hearing_load.compare(store.path(model), window, clips, threads=threads))


def default_voices() -> tuple[str, ...]:
    """The simulator's people, and `flite`'s voices where that command is installed."""
    flite = tuple(f"flite:{name}" for name in FLITE_VOICES) if shutil.which("flite") else ()
    return (*PEOPLE, *flite)


def over_the_phone(pcm: Pcm) -> Samples:
    """(n,) int16 at 8 kHz through mu-law and up to 16 kHz, (2 n,) float32."""
    return resample(from_pcm(g711.decode(g711.encode(pcm))), LINE_RATE_HZ, STT_RATE_HZ)


def _spoken(text: str, voice: str) -> Samples:
    return over_the_phone(_trimmed(speak(text, voice)))


def _trimmed(pcm: Pcm) -> Pcm:
    loud = np.flatnonzero(np.abs(from_pcm(pcm)) > _VOICED)
    if not loud.size:
        return pcm
    before, after = round(_BEFORE_S * LINE_RATE_HZ), round(_AFTER_S * LINE_RATE_HZ)
    padded = np.pad(pcm, (before, after))
    return padded[loud[0] : loud[-1] + 1 + before + after]


def _human(folder: Path) -> list[Spoken]:
    """Recordings named by `transcripts.csv`, `file|text` with a header line."""
    index = folder / "transcripts.csv"
    try:
        with index.open(encoding="utf-8", newline="") as lines:
            rows = [(row["file"], row["text"]) for row in csv.DictReader(lines, delimiter="|")]
    except (OSError, KeyError, TypeError) as error:
        raise ModelError(
            f"{index}: cannot be read as `file|text` lines with a header ({error!r})."
        ) from error
    return [Spoken("human", text, over_the_phone(_trimmed(read_audio(folder / name)))) for name, text in rows]


def _transcriber(store: Store, name: str, threads: int, floor_s: float | None) -> WhisperTranscriber:
    window = store.entry(name).window
    if window is None:
        raise ModelError(f"{name} is no Whisper model.")
    if floor_s is not None:
        window = WindowPolicy(floor_s=floor_s, trailing_silence_s=window.trailing_silence_s)
    return WhisperTranscriber(store.path(name), window, threads=threads)


async def _hear(transcriber: Transcriber, clips: Sequence[Spoken]) -> list[Heard]:
    return [Heard(clip, (await transcriber.transcribe(clip.audio)).text) for clip in clips]


async def _noise_texts(transcriber: Transcriber) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for seconds in NOISE_LENGTHS_S:
        for peak in NOISE_PEAKS:
            for name, sound in noises(seconds, STT_RATE_HZ, peak=peak).items():
                heard = await transcriber.transcribe(sound)
                rows.append({"noise": name, "seconds": seconds, "peak": peak, "text": heard.text})
    return rows


def _wer(heard: Sequence[Heard]) -> float:
    return sum(item.errors for item in heard) / max(1, sum(item.words for item in heard))


def _error_rate(name: str, heard: Sequence[Heard]) -> dict[str, object]:
    """`n` counts words. Insertions can exceed the words; the rate is then over one and has no interval."""
    errors, words = sum(item.errors for item in heard), sum(item.words for item in heard)
    if not words or errors > words:
        return {name: round(errors / max(1, words), 4), f"{name}_n": words}
    return rate(name, errors, words)


def _latency(
    store: Store, name: str, threads: int, speech: Sequence[Spoken], floor_s: float | None
) -> dict[str, object]:
    """Median milliseconds of one transcription, by length of clip, alone on the machine as far as the load
    says so. Clips are whole sentences in a row, cut to length."""
    transcriber = _transcriber(store, name, threads, floor_s)
    joined = np.concatenate([clip.audio for clip in speech[3:40]])
    figures: dict[str, object] = {}

    async def measure() -> None:
        await transcriber.transcribe(joined[:STT_RATE_HZ])
        for seconds in CLIP_LENGTHS_S:
            taken = []
            for repeat in range(REPEATS):
                start = repeat * seconds * STT_RATE_HZ
                began = time.perf_counter()
                await transcriber.transcribe(joined[start : start + seconds * STT_RATE_HZ])
                taken.append((time.perf_counter() - began) * 1000)
            figures[f"{name}_{threads}_threads_{seconds}_s_ms"] = round(percentile(taken, 50))
        await transcriber.aclose()

    asyncio.run(measure())
    return figures


def _notes(voices: Sequence[str], human: Sequence[Spoken]) -> list[str]:
    notes = [
        f"Voices: {', '.join(voices)}.",
        "Words are compared without case and punctuation, numbers as single digits; see bench/sentences.py.",
        "noise_with_text: clips of noise, tones and music in which words were found, without a voice detector"
        " in front.",
    ]
    if not any(voice.startswith("flite") for voice in voices):
        notes.append("flite is not installed: its voices are missing here.")
    if human:
        notes.append(f"wer_human: {len(human)} recordings of human speech.")
    return notes
