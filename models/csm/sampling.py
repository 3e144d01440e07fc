"""Choosing codes from logits: top-k with Gumbel noise as a function of seed, CodecFrame, codebook and code.

The noise comes from a counter-based generator (splitmix64's finaliser), so it does not depend on which rows
share the batch, keeps no state, and never waits for the device. Adding T * noise to the logits and taking the
greatest is a draw from softmax(logits / T); T = 0 takes the most probable code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.csm.shapes import CODEBOOKS, MIMI_BINS

TOP_K = 50
"""Sesame's default for every codebook (`generator.py`)."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_UNIFORM_BITS = 23
"""k + 1/2 must be a float32 for every k below 2**bits, else the noise may be infinite."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How each row of a batch chooses its codes; all on the model's device."""

    seeds: Tensor
    """(b,) int64."""
    index: Tensor
    """(b,) int64: the CodecFrame's number in its utterance."""
    temperature: Tensor
    """(b,) float32; 0 takes the most probable code."""
    may_end: Tensor
    """(b,) bool; False: codebook 0 may not be 0."""


def noise_keys(seeds: Tensor, index: Tensor) -> Tensor:
    """(b,) and (b,) int64 -> (b, 32) int64, one for each codebook."""
    codec_frames = _mixed(_mixed(seeds + _GOLDEN) ^ (index * _MIX_2 + _GOLDEN))
    codebooks = torch.arange(1, CODEBOOKS + 1, device=seeds.device) * _GOLDEN
    return _mixed(codec_frames.unsqueeze(1) + codebooks)


def gumbel(keys: Tensor, codes: Tensor) -> Tensor:
    """Standard Gumbel noise, float32 and finite, of int64 `keys` and `codes` that broadcast."""
    bits = _mixed(keys + (codes + 1) * _GOLDEN)
    uniform = (_shifted(bits, 64 - _UNIFORM_BITS).float() + 0.5) * 2.0**-_UNIFORM_BITS
    return -torch.log(-torch.log(uniform))


class Noise:
    """Of a batch's draws."""

    def __init__(self, draw: Draw, *, ahead: bool) -> None:
        """`ahead`: make the noise of every code at once, as a GPU likes it; else only what is asked for. The
        numbers are the same."""
        self._keys = noise_keys(draw.seeds, draw.index)
        self._table: Tensor | None = None
        if ahead:
            codes = torch.arange(MIMI_BINS, device=draw.seeds.device)
            self._table = gumbel(self._keys.unsqueeze(2), codes)

    def of(self, codebook: int, codes: Tensor) -> Tensor:
        """(b, k) int64 -> (b, k) float32."""
        if self._table is None:
            return gumbel(self._keys[:, codebook, None], codes)
        return self._table[:, codebook].gather(1, codes)


def choose(logits: Tensor, codebook: int, noise: Noise, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Choose a code in [0, 2048) for each row of `logits` (b, 2051), at its temperature (b,) float32.
    Returns (b,) int64, and (b,) float32: the greatest logit, not finite where a logit was not-a-number or
    infinity."""
    best, codes = logits[:, :MIMI_BINS].float().topk(TOP_K, dim=1)
    noisy = best + temperature.unsqueeze(1) * noise.of(codebook, codes)
    return codes.gather(1, noisy.argmax(1, keepdim=True)).squeeze(1), best[:, 0]


def without_end(logits: Tensor, may_end: Tensor) -> Tensor:
    """Codebook 0's logits (b, 2051), code 0 of them out of reach where `may_end` (b,) is false."""
    barred = logits.clone()
    barred[:, 0] = torch.where(may_end, logits[:, 0], -torch.inf)
    return barred


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _MIX_1
    x = (x ^ _shifted(x, 27)) * _MIX_2
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shift right with zeros coming in; torch's `>>` of int64 brings the sign in."""
    return (x >> by) & ((1 << (64 - by)) - 1)
