"""The files that a fine-tune leaves, all in bfloat16 and under Sesame's names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from models.csm.files import MERGED
from models.csm.finetune.state import write_whole
from models.fetching import sha256_of


class Base(Protocol):
    """The whole model that the trained tensors came from; `models.csm.checkpoint.Checkpoint` is one."""

    def __getitem__(self, name: str) -> Tensor: ...

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Exported:
    path: Path
    tensor_bytes: int
    """Of the tensors alone; the file is a little longer."""
    file_bytes: int
    sha256: str


def export(folder: Path, base: Base, trained: Mapping[str, Tensor]) -> list[Exported]:
    """Write decoder.pt (the decoder's state dict), audio_head.pt (a bare tensor), projection.pt (a linear
    layer's state dict) and model_merged.pt (all 187). `trained` has canonical names."""
    narrow = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in trained.items()
    }
    stem = "decoder."
    decoder = {name.removeprefix(stem): t for name, t in narrow.items() if name.startswith(stem)}
    projection = {"weight": narrow["projection.weight"]}
    merged = {
        name: narrow[name] if name in narrow else _alone(base[name].to(torch.bfloat16)) for name in base
    }
    return [
        _write(folder / "decoder.pt", decoder, decoder),
        _write(folder / "audio_head.pt", narrow["audio_head"], {"": narrow["audio_head"]}),
        _write(folder / "projection.pt", projection, projection),
        _write(folder / MERGED, merged, merged),
    ]


def _alone(tensor: Tensor) -> Tensor:
    """A part of a larger storage would be saved with all of that storage."""
    own = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if own else tensor.clone()


def _write(path: Path, content: object, tensors: Mapping[str, Tensor]) -> Exported:
    write_whole(path, content)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return Exported(path, n_bytes, path.stat().st_size, sha256_of(path))
