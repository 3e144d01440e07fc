"""One text spoken by the configured voice, clause by clause as a call would have it, and timed."""

import asyncio
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.loading import load_voice
from infra.settings import Settings
from models.base import AgentSpeech, Samples, Synthesizer
from pipeline.clauses import ClauseChunker
from pipeline.persona import load_persona
from pipeline.resample import to_pcm
from pipeline.speakable import speakable


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What came of a text. Times count from the moment that the voice was given it."""

    clauses: tuple[str, ...]
    audio: Samples
    """(n,) float32 at `sample_rate_hz`; empty when the text holds nothing that can be said."""
    sample_rate_hz: int
    first_audio_s: float | None
    took_s: float

    @property
    def audio_s(self) -> float:
        return len(self.audio) / self.sample_rate_hz

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of work for a second of speech; None where there is no speech."""
        return self.took_s / self.audio_s if self.audio.size else None

    def figures(self) -> dict[str, object]:
        """As `maya say --json` prints them."""
        return {
            "clauses": len(self.clauses),
            "audio_s": round(self.audio_s, 3),
            "first_audio_ms": None if self.first_audio_s is None else round(self.first_audio_s * 1000, 1),
            "took_s": round(self.took_s, 3),
            "rtf": None if self.rtf is None else round(self.rtf, 4),
            "sample_rate_hz": self.sample_rate_hz,
        }


def clauses_of(text: str) -> tuple[str, ...]:
    """The clauses that a call's voice would be given, in speakable words."""
    chunker = ClauseChunker()
    written = [*chunker.push(text), *chunker.flush()]
    return tuple(words for clause in written if (words := speakable(clause).strip()))


async def say(synthesizer: Synthesizer, text: str, *, voice: str = "", speed: float = 1.0) -> Said:
    """Speak `text` with a voice opened for it alone. Raises `ModelError`."""
    clauses = clauses_of(text)
    speaking = await synthesizer.open(voice, speed=speed)
    now = asyncio.get_running_loop().time
    began, first_s = now(), None
    chunks: list[Samples] = []
    before: tuple[AgentSpeech, ...] = ()
    try:
        for number, words in enumerate(clauses, 1):
            key = f"say/{number}"
            async for chunk in speaking.speak(words, utterance=key, context=before):
                first_s = now() - began if first_s is None else first_s
                chunks.append(chunk)
            before = (*before, AgentSpeech(key, words))
        took_s = now() - began
    finally:
        await speaking.aclose()
    audio = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    return Said(clauses, audio, speaking.sample_rate_hz, first_s, took_s)


async def say_with(settings: Settings, text: str) -> tuple[Said, float]:
    """Load the configured voice alone, and speak: what came of it, and the seconds that loading took. Raises
    `ModelError`, `DocumentError`."""
    choice = load_persona(settings.persona).voice
    began = time.monotonic()
    synthesizer = await asyncio.to_thread(load_voice, settings)
    load_s = time.monotonic() - began
    try:
        return await say(synthesizer, text, voice=choice.name, speed=choice.speed), load_s
    finally:
        await synthesizer.aclose()


def write_wav(path: Path, audio: Samples, sample_rate_hz: int) -> None:
    """One channel of 16 bit. Raises `OSError`."""
    # Opened here: a `wave.Wave_write` that cannot open its file complains once more when it is collected.
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(to_pcm(audio).astype("<i2").tobytes())
