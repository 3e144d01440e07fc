"""Derive tests/golden/mimi.npz from moshi 0.2.13, in .venv-peers: `make golden`.

--full compares Mimi's own size over the whole case, with random weights, and writes nothing: 2 GB of memory.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.mimi.checkpoint import open_mimi
from models.mimi.codec import Codec
from models.mimi.config import CODEBOOKS, MIMI, MIMI_TINY, MimiConfig
from tests.golden import mimi_case as case
from tests.models.mimi.golden import GOLDEN, LIMITS, answers, kept_samples
from tests.peers.moshi_mimi import SizedMoshi, save

MARGIN = 3e-5
"""By how much, relative to its distance, each code's centroid must be nearer than the next: rounding of
another processor must not choose another."""


def margin_of(codec: SizedMoshi) -> float:
    """The least, over all codes of the case."""
    mimi = codec._whole
    latents = mimi.encode_to_latent(torch.from_numpy(case.audio())[None, None], quantize=False)
    least = torch.inf
    for part in (mimi.quantizer.rvq_first, mimi.quantizer.rvq_rest):
        rest = part.input_proj(latents)[0].t()
        for layer in part.vq.layers:
            nearest = torch.cdist(rest.double(), layer.embedding.double()).topk(2, largest=False)
            gaps = (nearest.values[:, 1] - nearest.values[:, 0]) / nearest.values[:, 0]
            least = min(least, float(gaps.min()))
            rest = rest - layer.embedding[nearest.indices[:, 0]]
    return least


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    agree = True
    for what, limit in LIMITS.items():
        apart = (ours[what] - theirs[what]).abs()
        worst = float((apart != 0).sum()) if what.endswith("codes") else float(apart.max())
        agree &= worst <= limit
        print(f"{what}: {'differing' if what.endswith('codes') else 'at most'} {worst:.3g}")
    return agree


@torch.no_grad()
def derive(path: Path) -> bool:
    kept: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny, ours = both(Path(folder), MIMI_TINY)
        theirs = answers(tiny, LIMITS)
        margin, distinct = margin_of(tiny), len(theirs["whole_codes"].unique())
        agree = compare(answers(ours, LIMITS), theirs) and margin > MARGIN
        print(f"{distinct} distinct of {case.CODEC_FRAMES * CODEBOOKS} codes, each nearer by {margin:.1e}")
        for what in ("stream", "whole"):
            kept[what] = kept_samples(theirs[what])
            kept[f"{what}_entire"] = theirs[what][list(case.ENTIRE)]
        for what in ("stream_codes", "whole_codes"):
            kept[what] = theirs[what].short()
        full, ours = both(Path(folder), MIMI)
        theirs = answers(full, LIMITS, case.FULL_CODEC_FRAMES)
        agree &= compare(answers(ours, LIMITS, case.FULL_CODEC_FRAMES), theirs)
        kept["full_stream"] = kept_samples(theirs["stream"])
        kept["full_codes"] = theirs["stream_codes"].short()
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in kept.items()})
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return agree


def both(folder: Path, config: MimiConfig) -> tuple[SizedMoshi, Codec]:
    file = save(folder / f"{config.name}.safetensors", config, case.SEED)
    return SizedMoshi(file, config), open_mimi(file)


def compare_full() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = both(Path(folder), MIMI)
        return compare(answers(ours, LIMITS), answers(theirs, LIMITS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path, default=GOLDEN)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(0 if (compare_full() if asked.full else derive(asked.out)) else 1)


if __name__ == "__main__":
    main()
