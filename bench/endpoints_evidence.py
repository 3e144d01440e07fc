"""What a policy may know at each pause of the corpus' turns, from the real models, kept in a cache.

The voice detector runs over a turn as it arrives at the edge; at every pause it reports, the words so far
are transcribed, the language model says how likely they end there, and smart-turn judges the sound. So
policies are compared in seconds, on the same evidence."""

import asyncio
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.corpus import LEAD_SAMPLES, Turn, heard
from bench.endpoints_smart_turn import SmartTurn
from models.base import (
    STT_RATE_HZ,
    VAD_RATE_HZ,
    VAD_WINDOW_SAMPLES,
    ChatSession,
    Message,
    Samples,
    Transcriber,
    VoiceActivity,
)
from models.catalogue import WindowPolicy
from models.llama import LlamaChat
from models.profiles import find_profile
from models.silero import SileroVoiceActivity
from models.store import Store
from models.whisper import FULL_WINDOW_S, WhisperTranscriber
from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.persona import Persona
from pipeline.resample import from_pcm, resample

PAUSE_S = 0.128
"""What the pipeline calls a pause; the words up to its end are transcribed."""
SMART_TURN_AT_S = 0.2
"""pipecat's VAD_STOP_SECS: smart-turn is asked after so much silence."""
JUDGED_FROM_S = 0.25
"""Shorter pauses are over before anything is known of them."""
_PREROLL_S = 0.3
_SMART_TURN_PREROLL_S = 0.7
"""pipecat's `pre_speech_ms` and its VAD_START_SECS."""
_FORMAT = 2


class Judge(Protocol):
    def complete(self, audio: Samples) -> float:
        """The probability that the turn (n,) float32 at 16 kHz is over."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence of the caller by the voice detector; seconds count from the turn's first voiced sample."""

    begins_s: float
    """End of the last voiced window."""
    over_s: float | None
    """When the detector reports speech again; None: never."""
    text: str | None
    """The turn's words at this pause; None where it was over too soon."""
    ends: float | None
    """The language model's probability that the turn ends with these words."""
    smart_turn: float | None


@dataclass(frozen=True, slots=True)
class WatchedTurn:
    id: str
    kind: str
    voice: str
    end_s: float
    """Where the last sample of the turn lies; the truth."""
    spans_s: tuple[tuple[float, float], ...]
    texts: tuple[str, ...]
    pauses: tuple[Pause, ...]

    @property
    def pauses_inside(self) -> bool:
        return len(self.spans_s) > 1


def watch(
    turns: Sequence[Turn],
    *,
    profile: str,
    persona: Persona,
    smart_turn: Path,
    cache: Path,
    threads: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> list[WatchedTurn]:
    """The evidence of `turns` from the models of `profile`. About 2 s a turn where the folder `cache` does
    not hold it. Raises `ModelMissing`."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"endpoints-{profile}.json"
    known = _read(path)
    missing = [turn for turn in turns if _key(turn) not in known]
    if missing:
        asyncio.run(_gather(missing, known, path, profile, persona, SmartTurn(smart_turn), threads, progress))
    return [known[_key(turn)] for turn in turns]


def _key(turn: Turn) -> str:
    return f"{turn.part}/{turn.id}/{_hash_of(turn.pcm)}"


def _hash_of(pcm: Pcm) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(pcm).tobytes()):08x}"


def _read(path: Path) -> dict[str, WatchedTurn]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if document.get("format") != _FORMAT:
        return {}
    return {key: _watched(row) for key, row in document["turns"].items()}


def _watched(row: dict[str, Any]) -> WatchedTurn:
    pauses = tuple(Pause(**pause) for pause in row["pauses"])
    spans_s = tuple((begin, end) for begin, end in row["spans_s"])
    return WatchedTurn(**{**row, "pauses": pauses, "spans_s": spans_s, "texts": tuple(row["texts"])})


def _write(path: Path, known: dict[str, WatchedTurn]) -> None:
    document = {"format": _FORMAT, "turns": {key: asdict(turn) for key, turn in known.items()}}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=0), encoding="utf-8")
    partial.replace(path)


async def _gather(
    turns: Sequence[Turn],
    known: dict[str, WatchedTurn],
    path: Path,
    profile: str,
    persona: Persona,
    smart_turn: SmartTurn,
    threads: int,
    progress: Callable[[str], None],
) -> None:
    store, chosen = Store(None), find_profile(profile)
    voice_activity = SileroVoiceActivity(store.path(chosen.vad))
    window = store.entry(chosen.stt).window or WindowPolicy(floor_s=FULL_WINDOW_S, full_window=True)
    transcriber = await asyncio.to_thread(WhisperTranscriber, store.path(chosen.stt), window, threads=threads)
    gguf = store.path(chosen.llm)
    chat = await asyncio.to_thread(
        LlamaChat,
        next(gguf.glob("*.gguf")) if gguf.is_dir() else gguf,
        threads=threads,
        context_tokens=4096,
        sequences=1,
    )
    try:
        for number, turn in enumerate(turns):
            session = await chat.open(persona.prefix())
            known[_key(turn)] = await watched(
                turn,
                voice_activity,
                transcriber,
                session,
                smart_turn,
                hot_words=", ".join(persona.vocabulary),
            )
            await session.aclose()
            if number % 10 == 9 or number == len(turns) - 1:
                _write(path, known)
                progress(f"{profile}: {number + 1} of {len(turns)} turns heard")
    finally:
        await chat.aclose()
        await transcriber.aclose()


async def watched(
    turn: Turn,
    voice_activity: VoiceActivity,
    transcriber: Transcriber,
    session: ChatSession,
    smart_turn: Judge,
    *,
    hot_words: str = "",
) -> WatchedTurn:
    """Hear one turn as the pipeline does, and ask everybody at each of its pauses."""
    line = heard(turn)
    audio = resample(from_pcm(line), LINE_RATE_HZ, STT_RATE_HZ)
    begin: int | None = None
    pauses: list[Pause] = []
    for start, end, over in utterances(line, voice_activity):
        if end <= LEAD_SAMPLES:
            continue
        begin = start if begin is None else begin
        text, ends, sound = None, None, None
        if over is None or over - end >= JUDGED_FROM_S * LINE_RATE_HZ:
            text = await _words(transcriber, _clip(audio, begin, end, _PREROLL_S, PAUSE_S), hot_words)
            ends = await _ends(session, turn.question, text) if text else None
            sound = smart_turn.complete(_clip(audio, begin, end, _SMART_TURN_PREROLL_S, SMART_TURN_AT_S))
        pauses.append(Pause(_seconds(end), None if over is None else _seconds(over), text, ends, sound))
    last = turn.spans[-1][1]
    return WatchedTurn(
        id=turn.id,
        kind=turn.kind,
        voice=turn.voice,
        end_s=round(last / LINE_RATE_HZ, 4),
        spans_s=tuple((a / LINE_RATE_HZ, b / LINE_RATE_HZ) for a, b in turn.spans),
        texts=tuple(turn.texts),
        pauses=tuple(pauses),
    )


def utterances(line: Pcm, voice_activity: VoiceActivity) -> Iterable[tuple[int, int, int | None]]:
    """(first voiced sample, end of the last voiced window, when the next utterance was reported) of each
    utterance that the pipeline's detector finds in (n,) int16 at 8 kHz."""
    detector, stream = UtteranceDetector(PAUSE_S), voice_activity.open()
    samples = from_pcm(line)
    open_: tuple[int, int] | None = None
    for start in range(0, len(samples) - VAD_WINDOW_SAMPLES + 1, VAD_WINDOW_SAMPLES):
        end = start + VAD_WINDOW_SAMPLES
        probability = voice_activity.probabilities([stream], samples[None, start:end])[0]
        change = detector.push(float(probability), start, end)
        if isinstance(change, SpeechStarted) and open_ is not None:
            yield (*open_, end)
            open_ = None
        elif isinstance(change, SpeechStopped):
            open_ = change.start_sample, change.end_sample
    if open_ is not None:
        yield (*open_, None)


def _clip(
    audio: Samples,
    start: int,
    end: int,
    before_s: float,
    after_s: float,
) -> Samples:
    """[start, end) of the line, with `before_s` and `after_s` around it, at 16 kHz; the last 30 s at most."""
    up = STT_RATE_HZ // VAD_RATE_HZ
    first = max(0, round(start * up - before_s * STT_RATE_HZ))
    last = round(end * up + after_s * STT_RATE_HZ)
    return audio[max(first, last - round(FULL_WINDOW_S * STT_RATE_HZ)) : last]


async def _words(transcriber: Transcriber, audio: Samples, hot_words: str) -> str:
    return (await transcriber.transcribe(audio, hot_words=hot_words)).text


async def _ends(session: ChatSession, question: str, text: str) -> float | None:
    told: list[float] = []
    asked = [Message("assistant", question)] if question else []
    reply = session.reply([*asked, Message("user", text)], max_tokens=1, on_turn_end=told.append)
    async for _ in reply:
        pass
    return told[0] if told else None


def _seconds(sample: int) -> float:
    return round((sample - LEAD_SAMPLES) / LINE_RATE_HZ, 4)
