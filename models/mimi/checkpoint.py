"""Reads Mimi's weights: Kyutai's `tokenizer-e351c8d8-checkpoint125.safetensors`, or one of the tiny size.

Every tensor is matched by name and shape before any is read; what does not fit is listed.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.base import ModelError
from models.fetching import sha256_of
from models.mimi.config import KNOWN_CONFIGS, MIMI, MimiConfig
from models.mimi.names import Shape, canonical, ignorable, mimi_names
from models.mimi.own import OwnMimi

_log = logging.getLogger(__name__)

MIMI_FILE = "tokenizer-e351c8d8-checkpoint125.safetensors"
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LISTED = 8


class MimiError(ModelError):
    """A file is not Mimi's weights, or not whole: says what is missing, unexpected or misshapen."""


class CheckpointSource:
    """A `Source` over a safetensors file, each tensor read when it is asked for. Raises `MimiError`.

    Tensors are read, not mapped: of a mapped file all that was ever read counts as memory of the process for
    as long as one tensor lives.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        self.path = path
        self._device = device
        header = _header(path)
        needed = [name for name in header if not ignorable(name)]
        names = {canonical(name): name for name in needed}
        if twice := [name for name in needed if names[canonical(name)] != name]:
            raise MimiError(f"{path}: {_listed('there twice under two names', twice)}")
        self._places = {name: header[raw] for name, raw in names.items()}
        shapes = {name: place.shape for name, place in self._places.items()}
        self.config = _check(path, shapes, {name: place.dtype for name, place in self._places.items()})

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        content = bytearray(place.end - place.begin)
        try:
            with self.path.open("rb") as file:
                file.seek(place.begin)
                whole = file.readinto(content) == len(content)
        except OSError as error:
            raise MimiError(f"{self.path}: cannot read {name}: {error}") from error
        if not whole:
            raise MimiError(f"{self.path}: ends within {name}; it has changed since it was opened")
        tensor = torch.frombuffer(content, dtype=_FLOATS[place.dtype]).view(place.shape)
        return tensor.to(self._device, torch.float32)


@dataclass(frozen=True, slots=True)
class _Place:
    """Of one tensor in a file: bytes from `begin` to `end`."""

    dtype: str
    shape: Shape
    begin: int
    end: int


def _header(path: Path) -> dict[str, _Place]:
    """Where each tensor lies: https://github.com/huggingface/safetensors, "Format"."""
    try:
        with safe_open(path, framework="pt"):
            pass  # judges the header and the length
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise MimiError(
            f"{path}: no such file; expected Mimi's weights ({MIMI_FILE}; see `maya models list`)"
        ) from None
    except (SafetensorError, OSError) as error:
        raise MimiError(
            f"{path}: not a whole safetensors file ({error}); expected {MIMI_FILE}: fetch it again"
        ) from error
    header.pop("__metadata__", None)
    return {
        name: _Place(
            entry["dtype"], tuple(entry["shape"]), *(8 + length + offset for offset in entry["data_offsets"])
        )
        for name, entry in header.items()
    }


def open_mimi(path: Path, device: str | torch.device = "cpu") -> OwnMimi:
    """Blocks for a second or two. `path`: the file, or a folder that holds it. Raises `MimiError`."""
    file = mimi_file(path)
    source = CheckpointSource(file, device)
    _log.info("%s (%s, on %s) sha256 %s", file, source.config.name, device, sha256_of(file))
    return OwnMimi(source, source.config, device)


def mimi_file(path: Path) -> Path:
    """The weights in a folder: Kyutai's name, else `mimi.safetensors`."""
    if not path.is_dir():
        return path
    for name in (MIMI_FILE, "mimi.safetensors"):
        if (path / name).is_file():
            return path / name
    raise MimiError(f"{path}: holds neither {MIMI_FILE} nor mimi.safetensors")


def _check(path: Path, shapes: dict[str, Shape], types: dict[str, str]) -> MimiConfig:
    """Which size it is; raises when nothing, or not all of it, fits."""
    config = _nearest(shapes)
    expected = mimi_names(config)
    faults = [
        _listed("missing", sorted(expected.keys() - shapes.keys())),
        _listed("unexpected", sorted(shapes.keys() - expected.keys())),
        _listed(
            "misshapen",
            [
                f"{n} {shapes[n]} instead of {expected[n]}"
                for n in expected
                if shapes.get(n, expected[n]) != expected[n]
            ],
        ),
        _listed(
            "not floating point",
            [f"{n} ({types[n]})" for n in expected if types.get(n, "F32") not in _FLOATS],
        ),
    ]
    if any(faults):
        described = "; ".join(fault for fault in faults if fault)
        raise MimiError(f"{path}: not the weights of Mimi ({config.name}): {described}. Expected {MIMI_FILE}")
    return config


def _nearest(shapes: dict[str, Shape]) -> MimiConfig:
    def fitting(config: MimiConfig) -> int:
        return sum(shapes.get(name) == shape for name, shape in mimi_names(config).items())

    return max(KNOWN_CONFIGS, key=lambda config: (fitting(config), config is MIMI))


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"
