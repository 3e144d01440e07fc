"""Ours held against the golden vectors: how far apart, for each thing that is kept."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.mimi.codec import Codec
from models.mimi.config import CODEC_FRAME_SAMPLES
from tests.golden import mimi_case as case

GOLDEN = Path(__file__).parents[2] / "golden" / "mimi.npz"
LIMITS = {"stream": 1e-5, "whole": 1e-5, "stream_codes": 0.0, "whole_codes": 0.0}
"""Samples: greatest absolute difference. Codes: how many differ."""
SLOT = 1
"""Of three: a stream's state must not lie at the beginning of its tensors only."""


def load() -> dict[str, NDArray[np.float32]]:
    with np.load(GOLDEN) as file:
        return dict(file)


def answers(codec: Codec, wanted: Iterable[str], n: int = case.CODEC_FRAMES) -> dict[str, Tensor]:
    """Samples (n, 1920), codes (n, 32), of the case's first n CodecFrames."""
    codes = torch.from_numpy(case.codes())[:n]
    audio = torch.from_numpy(case.audio())[: n * CODEC_FRAME_SAMPLES]
    make = {
        "stream": lambda: streamed(codec, codes),
        "whole": lambda: codec.decode(codes[None]).reshape(n, CODEC_FRAME_SAMPLES),
        "stream_codes": lambda: stream_encoded(codec, audio),
        "whole_codes": lambda: codec.encode(audio[None])[0],
    }
    return {what: make[what]() for what in wanted}


def streamed(codec: Codec, codes: Tensor) -> Tensor:
    """(n, 32) -> (n, 1920), one CodecFrame at a time."""
    decoder, slots = codec.decoder(3), torch.tensor([SLOT])
    return torch.cat([decoder.step(codec_frame[None], slots) for codec_frame in codes])


def stream_encoded(codec: Codec, audio: Tensor, together: int = 1) -> Tensor:
    """(n * 1920,) -> (n, 32), `together` CodecFrames at a time."""
    encoder, slots = codec.encoder(3), torch.tensor([SLOT])
    chunks = audio[None].split(together * CODEC_FRAME_SAMPLES, 1)
    return torch.cat([encoder.step(chunk, slots)[0] for chunk in chunks])


def differences(codec: Codec, wanted: Iterable[str] = tuple(LIMITS)) -> dict[str, float]:
    golden = load()
    found = answers(codec, wanted)
    return {
        what: _samples_apart(found[what], golden[what], golden[f"{what}_entire"])
        if what in ("stream", "whole")
        else _codes_apart(found[what], golden[what])
        for what in found
    }


def rejected(found: Mapping[str, float]) -> set[str]:
    """What is further away than its limit; not-a-number is."""
    return {what for what in found if not found[what] <= LIMITS[what]}


def kept_samples(pcm: Tensor) -> Tensor:
    """(n, 1920) -> (n, 12)."""
    return pcm.gather(1, torch.from_numpy(case.kept())[: len(pcm)])


def _samples_apart(ours: Tensor, kept: NDArray[np.float32], entire: NDArray[np.float32]) -> float:
    here = (kept_samples(ours) - torch.from_numpy(kept)).abs().max()
    return float(torch.maximum(here, (ours[list(case.ENTIRE)] - torch.from_numpy(entire)).abs().max()))


def _codes_apart(ours: Tensor, kept: NDArray[np.float32]) -> float:
    return float((ours != torch.from_numpy(kept.astype(np.int64))).sum())
