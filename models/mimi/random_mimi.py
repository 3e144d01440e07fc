"""Random weights for Mimi that tell a right implementation from a wrong one.

As moshi initialises them, `embedding_sum` is 0 and the layer scales are 0.01: a wrong quantizer or a wrong
transformer would hardly be heard. Here codebooks differ, layer scales and norms lie near 1, attention is
peaked, and every convolution's past matters.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from models.mimi.config import MIMI, MIMI_TINY, MimiConfig
from models.mimi.names import Shape, mimi_names
from models.mimi.own import OwnMimi

_PEAK = 1.6
"""Standard deviation of queries and keys: their products' logits then have one of 2.6."""
_LOUDNESS = 0.03
"""Of the last convolution: the noise that comes out stays within [-1, 1]."""


def random_mimi_tensors(seed: int = 0, *, tiny: bool = False) -> dict[str, Tensor]:
    """All of Mimi's tensors by moshi's names, float32; the same bits for a seed in every environment."""
    source = RandomSource(seed, MIMI_TINY if tiny else MIMI)
    return {name: source[name] for name in mimi_names(source.config)}


def random_mimi(seed: int = 0, *, tiny: bool = False, device: str | torch.device = "cpu") -> OwnMimi:
    config = MIMI_TINY if tiny else MIMI
    return OwnMimi(RandomSource(seed, config, device), config, device)


def save_random_mimi(file: Path, seed: int = 0, *, tiny: bool = False) -> None:
    """A safetensors file (385 MB, tiny: 5 MB) that `open_mimi` and, full size, moshi load."""
    tensors = random_mimi_tensors(seed, tiny=tiny)
    names = [name for name in tensors if name.endswith("._codebook.cluster_usage")]
    flags = {name.replace("cluster_usage", "_initialized"): torch.ones(1) for name in names}
    save_file(tensors | flags, file, metadata={"config": (MIMI_TINY if tiny else MIMI).name})


class RandomSource:
    """A `Source` that draws each tensor when it is asked for."""

    def __init__(self, seed: int, config: MimiConfig, device: str | torch.device = "cpu") -> None:
        self.config = config
        self._seed = seed
        self._device = device
        self._shapes = mimi_names(config)

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        if torch.device(self._device).type == "meta":
            return torch.empty(shape, device="meta")
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        draw = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        return torch.from_numpy(_drawn(draw, name, shape)).to(self._device)


def _drawn(draw: np.random.Generator, name: str, shape: Shape) -> NDArray[np.float32]:
    if name.endswith("cluster_usage"):
        return np.exp(draw.uniform(math.log(0.1), math.log(10), shape)).astype(np.float32)
    normal = draw.standard_normal(shape, dtype=np.float32)
    if name.endswith("embedding_sum"):
        return normal
    if name.endswith(".scale") or ("norm" in name and name.endswith(".weight")):
        return 1 + 0.2 * normal
    if name.startswith("decoder.model.") and shape[0] == 1:
        normal *= np.float32(_LOUDNESS)
    if name.endswith(".bias"):
        return 0.1 * normal
    normal *= np.float32(1 / math.sqrt(_inputs(name, shape)))
    if name.endswith("in_projs.0.weight"):
        normal[: 2 * shape[1]] *= np.float32(_PEAK)
    return normal


def _inputs(name: str, shape: Shape) -> float:
    """Terms of one output's sum."""
    if "convtr" in name:
        return shape[0] * 2 if shape[1] > 1 else 2
    return math.prod(shape[1:])
