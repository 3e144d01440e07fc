"""Calls of the CSM voice in virtual time, on an engine without a model: codes depend on all rows before them,
and every sample tells its CodecFrame."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from models.base import Samples, Speech
from models.csm.engine import Engine
from models.csm.host import LoopHost
from models.csm.shapes import CODEC_FRAME_SAMPLES
from models.csm.slot_voice import CsmVoice
from models.csm.stepping import Rows, TickResult, TickRow
from models.csm.text import TextTokenizer, save_byte_tokenizer
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from tests.models.csm.null_stepper import NullStepper

TICK_S = 0.02


class SpeakingStepper(NullStepper):
    """Its sound is not silent, so that utterances last until `ends_at` or their cap."""

    silent_from: int | None = None

    def tick(self, batch: Sequence[TickRow]) -> TickResult:
        made = super().tick(batch)
        for i, row in enumerate(batch):
            silent = self.silent_from is not None and row.index >= self.silent_from
            made.pcm[i] = 0.0 if silent else 0.25
        return made


@cache
def byte_tokenizer() -> TextTokenizer:
    with TemporaryDirectory() as folder:
        save_byte_tokenizer(Path(folder) / "tokenizer.json")
        return TextTokenizer.open(Path(folder))


class House:
    """A synthesizer on `engines` engines. Make it inside the running loop."""

    def __init__(
        self,
        *,
        engines: int = 1,
        slots: int = 2,
        rows: int = 2048,
        tick_s: float = TICK_S,
        ends_at: int | None = 10,
        **options: Any,
    ) -> None:
        clock = asyncio.get_running_loop().time
        self.steppers = [SpeakingStepper(slots, rows) for _ in range(engines)]
        for stepper in self.steppers:
            stepper.ends_at = ends_at
        self.engines = [Engine(stepper, clock=clock) for stepper in self.steppers]
        self.hosts = [LoopHost(engine, tick_s=tick_s) for engine in self.engines]
        self.synthesizer = CsmSynthesizer(self.hosts, byte_tokenizer(), CsmVoiceOptions(rows=rows, **options))

    @property
    def stepper(self) -> SpeakingStepper:
        return self.steppers[0]

    def holds(self, slot: int = 0) -> Rows:
        return self.engines[0].holds(slot)


async def say(
    voice: CsmVoice,
    text: str,
    *,
    utterance: str = "",
    context: Sequence[Speech] = (),
    most: int | None = None,
) -> Samples:
    """All that is spoken, or the first `most` chunks of it; then the generator is closed."""
    chunks = []
    async with aclosing(voice.speak(text, utterance=utterance, context=context)) as speaking:
        async for chunk in speaking:
            chunks.append(chunk)
            if len(chunks) == most:
                break
    return np.concatenate([np.zeros(0, np.float32), *chunks])


def n_codec_frames(audio: Samples) -> int:
    n, rest = divmod(len(audio), CODEC_FRAME_SAMPLES)
    assert rest == 0
    return n
