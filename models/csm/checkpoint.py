"""A CSM checkpoint on disk as the model reads it: canonical names, tensors one at a time.

Sesame's, transformers' and csm-hf's files are accepted, whole or with a fine-tune's parts laid over them.
Coverage is complete or the checkpoint is refused; nothing is filled in.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from models.csm.files import CheckpointError, CsmFiles, Parts, find_csm_files
from models.csm.names import (
    PARTS,
    Layout,
    Match,
    Part,
    is_permuted,
    match,
    part_name,
    part_shapes,
    tensor_shapes,
)
from models.csm.shapes import KNOWN_SHAPES, CsmShape
from models.csm.tensor_files import FLOATS, TensorFile, open_tensor_file
from models.fetching import sha256_of

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CsmFiles",
    "Parts",
    "find_csm_files",
    "open_checkpoint",
    "open_part",
]

logger = logging.getLogger(__name__)


class Checkpoint:
    """Tensors by canonical name (`models.csm.names`), read and converted when asked for and not kept.

    Files stay mapped until `close` (or the end of a `with`)."""

    def __init__(
        self,
        shape: CsmShape,
        layout: Layout,
        sources: Mapping[str, tuple[TensorFile, str, Layout]],
        sha256: Mapping[str, str],
        dtype: torch.dtype | None,
    ) -> None:
        self.shape = shape
        self.layout = layout
        """Of the base."""
        self.sha256 = dict(sha256)
        """File -> hex digest; empty when it was not asked for."""
        self._sources = dict(sources)
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        file, stored, layout = self._sources[name]
        tensor = file.read(stored)
        if is_permuted(name, layout):
            tensor = pairs_from_halves(tensor, self._heads(name))
        return tensor if self._dtype is None else tensor.to(self._dtype)

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def _heads(self, name: str) -> int:
        stack = self.shape.backbone if name.startswith("backbone.") else self.shape.decoder
        return stack.heads if name.endswith("q_proj.weight") else stack.kv_heads

    def close(self) -> None:
        """Unmap the files; tensors that were handed out stay valid."""
        self._sources = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pairs_from_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a q or k projection, (heads * head_dim, dim): from rotated halves to rotated neighbours, the
    inverse of transformers' `convert_csm.py`."""
    half = weight.shape[0] // heads // 2
    return weight.view(heads, 2, half, -1).transpose(1, 2).reshape(weight.shape)


def open_checkpoint(
    path: Path,
    *,
    parts: Parts | None = None,
    shape: CsmShape | None = None,
    dtype: torch.dtype | None = torch.bfloat16,
    hashed: bool = True,
) -> Checkpoint:
    """Open a whole model, with `parts` laid over it. `shape` None finds it among `KNOWN_SHAPES`; `dtype`
    None hands tensors out as stored. `hashed` reads all files once and logs their SHA-256. Blocks. Raises
    `CheckpointError`."""
    base = open_tensor_file(path)
    shape = shape or nearest_shape(base)
    opened: dict[Part, tuple[TensorFile, Match]] = {}
    for part in PARTS:
        if parts and (place := getattr(parts, part)) is not None:
            opened[part] = open_part(place, part, shape)
    wanted = tensor_shapes(shape)
    replaced = {name for part in opened for name in part_shapes(shape, part)}
    fit = match(base.shapes, wanted, replaced=replaced)
    _check(base, fit, f"a whole {shape.name}")
    sources = {name: (base, stored, fit.layout) for name, stored in fit.entries.items()}
    for part, (file, part_fit) in opened.items():
        logger.info("%s replaces %s (%d tensors)", file.files[0], part, len(part_fit.entries))
        sources |= {name: (file, stored, part_fit.layout) for name, stored in part_fit.entries.items()}
    files = [place for file in (base, *(file for file, _ in opened.values())) for place in file.files]
    digests = {str(place): sha256_of(place) for place in files} if hashed else {}
    for place_name, digest in digests.items():
        logger.info("%s sha256 %s", place_name, digest)
    return Checkpoint(shape, fit.layout, {name: sources[name] for name in wanted}, digests, dtype)


def open_part(path: Path, part: Part, shape: CsmShape) -> tuple[TensorFile, Match]:
    """Open `decoder.pt`, `audio_head.pt` or `projection.pt`, complete or not at all. Raises
    `CheckpointError`."""
    file = open_tensor_file(path)
    fit = match(file.shapes, part_shapes(shape, part), part_name(part))
    _check(file, fit, f"the {part} of {shape.name}")
    return file, fit


def nearest_shape(file: TensorFile) -> CsmShape:
    """The known shape that fits a whole model's file best."""

    def distance(shape: CsmShape) -> int:
        fit = match(file.shapes, tensor_shapes(shape))
        return len(fit.missing) + len(fit.unexpected) + len(fit.misshapen)

    return min(KNOWN_SHAPES, key=distance)


def _check(file: TensorFile, fit: Match, what: str) -> None:
    path = file.files[0]
    unexpected = (
        *fit.unexpected,
        *(f"{name} ({kind}, no plain tensor)" for name, kind in file.others.items()),
    )
    if problems := Match({}, fit.layout, fit.missing, unexpected, fit.misshapen, fit.mixed).problems:
        raise CheckpointError(
            f"{path} is not {what}: {problems}. Nothing was loaded. "
            f"See what it is: maya models inspect {path}",
            missing=fit.missing,
            unexpected=unexpected,
            misshapen=fit.misshapen,
        )
    if wrong := [name for name, stored in fit.entries.items() if file.dtypes[stored] not in FLOATS]:
        dtype = str(file.dtypes[fit.entries[wrong[0]]]).removeprefix("torch.")
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{path} stores {wrong[0]}{more} as {dtype}: quantised or converted weights "
            "cannot be read. Take the file in bfloat16, float16 or float32",
            misshapen=wrong,
        )
    if fit.ignored:
        logger.info("%s: ignored %d entries that CSM does not need", path, len(fit.ignored))
