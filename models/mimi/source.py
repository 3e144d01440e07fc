"""Where tensors come from: a file, or drawn at random."""

from typing import Protocol

from torch import Tensor


class Source(Protocol):
    """Tensors by moshi's names (`names.py`), float32, on the device where they are to be used."""

    def __getitem__(self, name: str) -> Tensor: ...
