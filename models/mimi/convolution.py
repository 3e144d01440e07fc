"""Causal convolutions over time-major activations, each one matrix product.

Activations are (b, steps, channels) float32. A convolution carries from step to step the last inputs that its
kernel reaches back to, its *past* (b, kernel - stride, channels): zeros at the beginning. What comes back
beside the output is the past of the next call, so streaming and whole decoding are the same code.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models.mimi.linear import Dense

_SMALL = 100_000
"""Weights that are packed in less time than their windows are copied."""


class Layer(Protocol):
    """One stage of a stack."""

    def fresh(self, batch: int) -> list[Tensor]:
        """The past at the beginning of a stream, each (b, ...)."""
        ...

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]: ...


class Convolution:
    """Conv1d that reaches only into the past (moshi's `StreamingConv1d`, zero padding), ELU before it if
    `activated`. The past is kept as it was before the ELU, which leaves zeros zeros."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, stride: int = 1, activated: bool = False
    ) -> None:
        """`weight` (outputs, inputs, kernel) as in Conv1d; kernel >= stride."""
        outputs, self.inputs, self._kernel = weight.shape
        self._stride = stride
        self._reach = self._kernel - stride
        self._activated = activated
        self._bias = bias
        self._device = weight.device
        self._image: Tensor | None = None
        if _gains_by_image(weight, stride):
            self._image = weight[:, :, None].contiguous(memory_format=torch.channels_last)
        else:
            # Kernel before channels: so a window of time-major activations is a row of the product.
            self._product = Dense(weight.permute(0, 2, 1).reshape(outputs, -1), bias)

    def fresh(self, batch: int) -> list[Tensor]:
        if not self._reach:
            return []
        return [torch.zeros(batch, self._reach, self.inputs, device=self._device)]

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Overwrites `x` where the kernel reaches no step back."""
        after: list[Tensor] = []
        if self._reach:
            x = torch.cat((past[0], x), 1)
            after = [x[:, x.shape[1] - self._reach :].clone()]
        if self._activated:
            x = functional.elu_(x)
        if self._image is None:
            return self._product(windows(x, self._kernel, self._stride)), after
        y = functional.conv2d(x.transpose(1, 2)[:, :, None], self._image, self._bias)
        return y[:, :, 0].transpose(1, 2), after


def _gains_by_image(weight: Tensor, stride: int) -> bool:
    """oneDNN's convolution of a channels-last image one row high needs no copy of the windows, but packs the
    weights at every call. Not on CUDA, where cuDNN would round to TF32."""
    outputs, _, kernel = weight.shape
    on_cpu = weight.device.type == "cpu"
    return on_cpu and stride == 1 and kernel > 1 and outputs > 1 and weight.numel() <= _SMALL


class Transposed:
    """ELU, then ConvTranspose1d of kernel 2 * stride, cut at the right (moshi's `StreamingConvTranspose1d`).

    Each output block of `stride` samples depends on two inputs, this step's and the one before: a convolution
    of kernel 2 with `stride` times as many outputs. That is the transposed convolution's overlap-add done
    inside the product, and the past is one step of input instead of a tail of unfinished output.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """`weight` (inputs, outputs, 2 * stride) as in ConvTranspose1d."""
        _, self.outputs, kernel = weight.shape
        self.stride = kernel // 2
        halves = torch.unflatten(weight, 2, (2, self.stride)).flip(2)
        # (inputs, outputs, [earlier, this], offset) -> (offset, outputs, inputs, [earlier, this])
        taps = halves.permute(3, 1, 0, 2).flatten(0, 1)
        self._inner = Convolution(taps, bias.repeat(self.stride), activated=True)

    def fresh(self, batch: int) -> list[Tensor]:
        return self._inner.fresh(batch)

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, past = self._inner(x, past)
        return y.reshape(y.shape[0], y.shape[1] * self.stride, self.outputs), past


class ChannelwiseUpsampling:
    """Transposed convolution of stride 2 and kernel 4 within each channel, without bias."""

    def __init__(self, weight: Tensor) -> None:
        """`weight` (channels, 1, 4)."""
        taps = weight[:, 0].t().contiguous()
        self._this, self._earlier = taps[:2], taps[2:]

    def fresh(self, batch: int) -> list[Tensor]:
        return [self._this.new_zeros(batch, 1, self._this.shape[1])]

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        earlier = torch.cat((past[0], x[:, :-1]), 1)
        y = x[:, :, None] * self._this + earlier[:, :, None] * self._earlier
        return y.flatten(1, 2), [x[:, -1:]]


class Downsampling:
    """Convolution of kernel 4 and stride 2 whose past begins as the first step repeated, not as zeros."""

    def __init__(self, weight: Tensor) -> None:
        self._inner = Convolution(weight, None, stride=weight.shape[2] // 2)

    def fresh(self, batch: int) -> list[Tensor]:
        (zeros,) = self._inner.fresh(batch)
        return [zeros, zeros.new_zeros(batch, 1, 1, dtype=torch.bool)]

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, after = self._inner(x, [torch.where(past[1], past[0], x[:, :1])])
        return y, [*after, torch.ones_like(past[1])]


class Residual:
    """ELU, kernel 3 to half the channels, ELU, kernel 1 back, and the input added."""

    def __init__(self, narrow: Convolution, wide: Convolution) -> None:
        self._narrow, self._wide = narrow, wide

    def fresh(self, batch: int) -> list[Tensor]:
        return self._narrow.fresh(batch)

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, past = self._narrow(x, past)
        y, _ = self._wide(y, [])
        return y.add_(x), past


class Stack:
    """Layers one after the other; their pasts in one list."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._sizes = [len(layer.fresh(1)) for layer in layers]

    def alone(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """As calling it, one row of the batch after the other: where activations are large and weights are
        small, a single row's activations stay in the cache."""
        rows = [self(x[i : i + 1], [tensor[i : i + 1] for tensor in past]) for i in range(len(x))]
        after = [torch.cat(tensors) for tensors in zip(*(row[1] for row in rows), strict=True)]
        return torch.cat([row[0] for row in rows]), after

    def fresh(self, batch: int) -> list[Tensor]:
        return [tensor for layer in self._layers for tensor in layer.fresh(batch)]

    def __call__(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after: list[Tensor] = []
        at = 0
        for layer, size in zip(self._layers, self._sizes, strict=True):
            x, mine = layer(x, past[at : at + size])
            after += mine
            at += size
        return x, after


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(b, steps, c) -> (b, (steps - kernel) / stride + 1, kernel * c), each row a window's steps in order."""
    if kernel == 1:
        return x
    x = x.contiguous()
    batch, steps, channels = x.shape
    size = (batch, (steps - kernel) // stride + 1, kernel * channels)
    return x.as_strided(size, (steps * channels, stride * channels, 1))
