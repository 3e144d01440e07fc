"""Reads Mimi's weights: Kyutai's `tokenizer-e351c8d8-checkpoint125.safetensors`, or one of the tiny size.

Every tensor is matched by name and shape before any is read; what does not fit is listed.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.base import ModelError
from models.mimi.config import KNOWN_CONFIGS, MIMI, MimiConfig
from models.mimi.names import Shape, canonical, ignorable, mimi_names
from models.mimi.own import OwnMimi

_log = logging.getLogger(__name__)

MIMI_FILE = "tokenizer-e351c8d8-checkpoint125.safetensors"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_LISTED = 8


class MimiError(ModelError):
    """A file is not Mimi's weights, or not whole: says what is missing, unexpected or misshapen."""


class CheckpointSource:
    """A `Source` over a safetensors file, each tensor read when it is asked for. Raises `MimiError`."""

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        self.path = path
        self._device = device
        try:
            file: Any = safe_open(path, framework="pt", device="cpu")
            headers = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise MimiError(
                f"{path}: no such file; expected Mimi's weights ({MIMI_FILE}; see `maya models list`)"
            ) from None
        except (SafetensorError, OSError) as error:
            raise MimiError(
                f"{path}: not a whole safetensors file ({error}); expected {MIMI_FILE}: fetch it again"
            ) from error
        self._file = file
        needed = [name for name in headers if not ignorable(name)]
        self._names = {canonical(name): name for name in needed}
        if twice := [name for name in needed if self._names[canonical(name)] != name]:
            raise MimiError(f"{path}: {_listed('there twice under two names', twice)}")
        shapes = {name: tuple(headers[raw].get_shape()) for name, raw in self._names.items()}
        types = {name: str(headers[raw].get_dtype()) for name, raw in self._names.items()}
        self.config = _check(path, shapes, types)

    def __getitem__(self, name: str) -> Tensor:
        try:
            tensor = self._file.get_tensor(self._names[name])
        except (SafetensorError, OSError) as error:
            raise MimiError(f"{self.path}: cannot read {name}: {error}") from error
        return tensor.to(self._device, torch.float32)  # type: ignore[no-any-return]


def open_mimi(path: Path, device: str | torch.device = "cpu") -> OwnMimi:
    """Blocks for about a second. `path`: the file, or a folder that holds it. Raises `MimiError`."""
    file = mimi_file(path)
    source = CheckpointSource(file, device)
    _log.info("Mimi: %s (%s) on %s", file, source.config.name, device)
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
