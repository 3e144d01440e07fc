"""Keeps every core busy with the bundled models, through the classes and threads that calls use: two
transcriptions, four replies and one voice at any time. As a program of its own it is what a process for
inference would be."""

import asyncio
import contextlib
import os
from pathlib import Path

import numpy as np

from infra.admission.settings import CapacitySettings
from infra.isolation import MODEL_NICENESS
from infra.loading import load
from infra.settings import Settings
from models.base import STT_RATE_HZ, Message, Models
from pipeline.line import LINE_RATE_HZ
from pipeline.resample import from_pcm, resample
from telephony.simulator.voices import speak

_QUESTION = (
    "Could you please tell me when you are open on Saturday, and whether I can park behind the building?"
)
_SYSTEM = Message("system", "You answer questions about a shop at some length.")
_REPLIES, _TRANSCRIPTIONS = 4, 2


def bundled_models() -> Models:
    """Blocks for seconds. Raises `ModelError`."""
    return load(Settings(profile="embedded", capacity=CapacitySettings(calls=_REPLIES)))


async def saturate(models: Models) -> None:
    """Work without end, until it is cancelled."""
    audio = resample(from_pcm(speak(_QUESTION, "ruth")), LINE_RATE_HZ, STT_RATE_HZ)

    async def hear() -> None:
        while True:
            await models.transcriber.transcribe(audio)

    async def think(number: int) -> None:
        session = await models.chat.open((_SYSTEM,))
        while True:
            words = Message(
                "user", f"{_QUESTION} I ask for number {np.random.default_rng().integers(10**6)}."
            )
            async with contextlib.aclosing(session.reply([words], max_tokens=80)) as pieces:
                async for _ in pieces:
                    pass

    async def talk() -> None:
        voice = await models.synthesizer.open()
        while True:
            async with contextlib.aclosing(voice.speak(_QUESTION)) as chunks:
                async for _ in chunks:
                    pass

    async with asyncio.TaskGroup() as group:
        for _ in range(_TRANSCRIPTIONS):
            group.create_task(hear())
        for number in range(_REPLIES):
            group.create_task(think(number))
        group.create_task(talk())


def main() -> None:
    os.nice(MODEL_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(MODEL_NICENESS))
    models = bundled_models()
    print("busy", flush=True)
    asyncio.run(saturate(models))


if __name__ == "__main__":
    main()
