"""What transcribing several calls' turns in one batch is worth, against one after the other.

Eight clips are asked for at once of a transcriber for each size of batch, in turns, so that noise hits all
alike. CPU time says what a batch saves, wall time besides how well it fills the cores, and the mean wait what
callers see of it: in a batch whoever came first waits for the others. Texts must be the same.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.base import STT_RATE_HZ, Samples, Transcriber
from models.catalogue import WindowPolicy
from models.whisper import WhisperTranscriber

CALLS = 8
ROUNDS = 4
BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Served:
    """The clips of one round."""

    texts: tuple[str, ...]
    waits_s: tuple[float, ...]
    wall_s: float
    cpu_s: float


async def compare(
    folder: Path,
    window: WindowPolicy,
    clips: Sequence[Samples],
    *,
    threads: int,
    batches: Sequence[int] = BATCHES,
) -> dict[str, object]:
    """Figures of `clips`, (n,) float32 at 16 kHz each, in rounds of `CALLS`. `batches` begins with 1. Takes
    about half a minute with base on one thread."""
    transcribers = {
        size: await asyncio.to_thread(WhisperTranscriber, folder, window, threads=threads, batch=size)
        for size in batches
    }
    served: dict[int, list[Served]] = {size: [] for size in batches}
    try:
        for transcriber in transcribers.values():
            await transcriber.transcribe(np.zeros(STT_RATE_HZ, np.float32))  # after its first job
        for first in range(0, len(clips), CALLS):
            for size, transcriber in transcribers.items():
                served[size].append(await serve(transcriber, clips[first : first + CALLS]))
    finally:
        for transcriber in transcribers.values():
            await transcriber.aclose()
    return figures(served)


async def serve(transcriber: Transcriber, clips: Sequence[Samples]) -> Served:
    began, cpu = time.perf_counter(), time.process_time()

    async def hear(clip: Samples) -> tuple[str, float]:
        text = (await transcriber.transcribe(clip)).text
        return text, time.perf_counter() - began

    heard = await asyncio.gather(*map(hear, clips))
    return Served(
        texts=tuple(text for text, _ in heard),
        waits_s=tuple(wait for _, wait in heard),
        wall_s=time.perf_counter() - began,
        cpu_s=time.process_time() - cpu,
    )


def figures(served: Mapping[int, Sequence[Served]]) -> dict[str, object]:
    """Ratios to batches of 1: under 1 is a gain."""
    alone = served[1]
    clips = sum(len(each.texts) for each in alone)
    found: dict[str, object] = {
        "hearing_clips": clips,
        "hearing_cpu_ms": round(sum(each.cpu_s for each in alone) / clips * 1000),
    }
    for size, rounds in served.items():
        if size == 1:
            continue
        pairs = list(zip(rounds, alone, strict=True))
        same = sum(a == b for ours, one in pairs for a, b in zip(ours.texts, one.texts, strict=True))
        found |= {
            f"batch_{size}_cpu_ratio": _ratio([r.cpu_s for r in rounds], [r.cpu_s for r in alone]),
            f"batch_{size}_wall_ratio": _ratio([r.wall_s for r in rounds], [r.wall_s for r in alone]),
            f"batch_{size}_wait_ratio": _ratio(
                [sum(r.waits_s) for r in rounds], [sum(r.waits_s) for r in alone]
            ),
            f"batch_{size}_texts_equal": round(same / clips, 4),
        }
    return found


def _ratio(ours: Sequence[float], alone: Sequence[float]) -> float:
    return round(sum(ours) / sum(alone), 3)
