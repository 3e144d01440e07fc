"""Matrix products with fixed weights. On a CPU oneDNN's, whose weights are packed once: two rows times Mimi's
matrices take half to two thirds of the time that BLAS takes, sixteen rows half."""

import platform
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class Dense:
    """y = x W^T + b in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """`weight` (outputs, inputs), `bias` (outputs,)."""
        self.outputs, self.inputs = weight.shape
        self.device = weight.device
        self._bias = bias
        self._packed = _packs(weight)
        self._weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self._packed:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return y
        return functional.linear(x, self._weight, self._bias)


def _packs(weight: Tensor) -> bool:
    # torch's compiler emits the same two operators, but no public function does. Elsewhere than on x86 they
    # may be there and want other shapes.
    return (
        weight.device.type == "cpu"
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
