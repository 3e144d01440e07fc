"""Random weights for tests and figures: the same bits wherever numpy >= 1.26 runs, and such that faults show.

Attention is far from flat, norms are not 1, and the heads' logits are spread: with weights as an untrained
model starts, a wrong mask or position would hardly change the output.

    python -m models.csm.random_weights tiny FOLDER      a folder that loads like the real one
"""

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.csm.names import tensor_shapes
from models.csm.shapes import KNOWN_SHAPES, CsmShape

_CHUNK = 1 << 22
"""Numbers drawn at a time, so that a whole table never stands in float32."""


class RandomTensors:
    """A `TensorSource`: bfloat16 tensors, each drawn anew whenever it is asked for."""

    def __init__(self, shape: CsmShape, seed: int = 0) -> None:
        self.shape = shape
        self.seed = seed
        self._sizes = tensor_shapes(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.empty(self._sizes[name], dtype=torch.bfloat16)
        self.draw(name, tensor)
        return tensor

    def draw(self, name: str, into: Tensor) -> None:
        """Fill a contiguous tensor of the right shape, in its dtype."""
        middle, spread = _distribution(name, self._sizes[name])
        key = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        # Uniform numbers are plain bits of Philox; numpy may change how it makes normal ones.
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        flat = into.view(-1)
        for start in range(0, len(flat), _CHUNK):
            part = flat[start : start + _CHUNK]
            drawn = generator.random(len(part), dtype=np.float32)
            part.copy_(torch.from_numpy((drawn * 2 - 1) * np.float32(spread) + np.float32(middle)))


_GAINS = {
    "q_proj": 1.6,
    "k_proj": 1.6,
    "w2": 3.0,
    "projection": 2.0,
    "codebook0_head": 3.0,
    "audio_head": 3.0,
}
"""Standard deviation of a product's outputs when its inputs have 1. Scores of attention get 1.6**2."""


def _distribution(name: str, size: tuple[int, ...]) -> tuple[float, float]:
    """Middle and half width of a tensor's uniform distribution."""
    if name.endswith(".scale"):
        return 1.0, 0.4
    if name == "text_embeddings.weight":
        deviation = 1.5
    elif name == "audio_embeddings.weight":
        deviation = 0.3  # 32 of them are added
    else:
        inputs = size[1]  # also of audio_head, (31, in, out)
        gain = next((gain for part, gain in _GAINS.items() if part in name.split(".")), 1.0)
        deviation = gain / inputs**0.5
    return 0.0, deviation * 3**0.5


def save_random(folder: Path, shape: CsmShape, seed: int = 0) -> None:
    """Write `model_merged.pt` (bfloat16) and Mimi's file into `folder`. A tiny shape gets a tiny Mimi. Needs
    the model's size on disk twice, and little memory."""
    from models.mimi.random_mimi import save_random_mimi

    folder.mkdir(parents=True, exist_ok=True)
    source = RandomTensors(shape, seed)
    sizes = {name: torch.Size(size) for name, size in tensor_shapes(shape).items()}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # torch.save wants all tensors at once: they stand in a mapped file, not in memory.
        total = sum(size.numel() for size in sizes.values())
        flat = torch.from_file(str(Path(scratch) / "weights"), shared=True, size=total, dtype=torch.bfloat16)
        state, start = {}, 0
        for name, size in sizes.items():
            state[name] = flat[start : start + size.numel()].view(size)
            source.draw(name, state[name])
            start += size.numel()
        torch.save(state, folder / "model_merged.pt")
    save_random_mimi(folder / "mimi.safetensors", seed, tiny=shape.name.endswith("tiny"))


def main() -> None:
    shapes = {shape.name.removeprefix("csm-"): shape for shape in KNOWN_SHAPES}
    parser = argparse.ArgumentParser(prog="python -m models.csm.random_weights", description=__doc__)
    parser.add_argument("size", choices=sorted(shapes))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    save_random(asked.folder, shapes[asked.size], asked.seed)


if __name__ == "__main__":
    main()
