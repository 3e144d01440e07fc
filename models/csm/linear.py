"""Matrix products with the weights whole, or in 8 bits. Every kind maps (n, in) to (n, out)."""

import functools
import warnings
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Literal["full", "w8a8", "int8"]
"""full: in the model's dtype. w8a8: weights and activations in 8 bits, for CPUs (FBGEMM). int8: weights
alone, for CUDA, where reading them is what takes the time."""


class Linear(Protocol):
    def __call__(self, x: Tensor) -> Tensor: ...


class Dense:
    def __init__(self, weight: Tensor) -> None:
        """`weight` (out, in)."""
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class W8A8:
    """8-bit weights, one scale per output; 8-bit activations, one scale per row.

    `quantized::linear_dynamic` takes one scale for the whole batch, so that one call would change another's
    bits. Here each row is divided by its own peak and the kernel quantises with a fixed scale; its sums are
    of integers, so a row's result does not depend on the batch, nor on its size.
    """

    def __init__(self, weight: Tensor) -> None:
        """`weight` (out, in) of any float dtype, on the CPU."""
        self._packed = _pack(weight.float())
        self._levels = 63 if _saturates() else 127

    def __call__(self, x: Tensor) -> Tensor:
        # The kernel's results are finite whatever it is given: a row of zeros becomes zeros, and one that is
        # not finite becomes so again, by the last product.
        peaks = x.abs().amax(-1, keepdim=True)
        return _product(x / peaks, self._levels, self._packed).mul_(peaks)


class Int8:
    """8-bit weights, one scale per output; activations stay in the model's dtype."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        """`weight` (out, in) of any float dtype."""
        on_cpu = weight.device.type == "cpu"
        self._weight, scales = quantise(weight.float().contiguous())
        self._scales = scales.to(dtype) if on_cpu else scales
        # CUDA's kernel (torch 2.9 to 2.13) has one thread add up a whole row of the weights, byte by byte:
        # widening them for cuBLAS is several times faster (pytorch#190529). Which dtypes and sizes the CPU's
        # takes differs between versions: it is asked.
        self._has_kernel = on_cpu
        if on_cpu:
            try:
                self(torch.ones(1, weight.shape[1], dtype=dtype))
            except (RuntimeError, NotImplementedError):
                self._has_kernel = False

    def __call__(self, x: Tensor) -> Tensor:
        if self._has_kernel:
            return torch._weight_int8pack_mm(x, self._weight, self._scales)
        return (F.linear(x, self._weight.to(x.dtype)) * self._scales).to(x.dtype)


def linear(weight: Tensor, kind: Weights, dtype: torch.dtype, device: torch.device) -> Linear:
    """`weight` (out, in) of any float dtype and device, made ready for its products."""
    if kind == "w8a8":
        return W8A8(weight)
    if kind == "int8":
        return Int8(weight.to(device), dtype)
    return Dense(weight.to(device=device, dtype=dtype).contiguous())


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) float32 -> int8 of the same shape in [-127, 127], and (out,) float32 scales."""
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    return (weight / scales.unsqueeze(1)).round_().to(torch.int8), scales


def _pack(weight: Tensor) -> object:
    quantised, scales = quantise(weight)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    with _deprecated_quietly():
        held = torch._make_per_channel_quantized_tensor(quantised, scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(held, None)


def _product(x: Tensor, levels: int, packed: object) -> Tensor:
    """x (n, in) float32 in [-1, 1]."""
    op = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    product: Tensor = op(x, 1 / levels, 128, packed)
    return product


@functools.cache
def _saturates() -> bool:
    """Without VNNI, FBGEMM adds pairs of products in 16 bits, which 8-bit activations overflow and 7-bit ones
    do not. The kernel itself is asked: its sums of the largest numbers are exact, or they are not."""
    packed = _pack(torch.ones(16, 64))
    return not torch.allclose(_product(torch.ones(1, 64), 127, packed), torch.tensor(64.0), rtol=1e-3)


class _deprecated_quietly(warnings.catch_warnings):
    """PyTorch warns of all its quantised tensors (pytorch#184982) and offers nothing else on CPUs."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message=r".*(deprecated|quantize_per_)", category=UserWarning)
