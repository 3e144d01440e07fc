"""Files of named tensors, opened without reading or running what is in them."""

import json
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.csm.files import CheckpointError
from models.csm.names import WRAPPERS

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class TensorFile(ABC):
    """Tensors by the names that the file gives them. Reading one maps its pages, no more."""

    kind: Literal["torch", "safetensors", "safetensors shards"]
    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    others: dict[str, str]
    """Entries that are no plain tensors, name -> Python type, or how the tensor is laid out."""
    metadata: dict[str, str]

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """As stored, on the CPU."""


def open_tensor_file(path: Path) -> TensorFile:
    """Open a torch file (`weights_only`, mapped), a safetensors file or an index of safetensors shards; the
    content decides, not the name. Raises `CheckpointError`."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` where it came from"
        )
    if path.suffix == ".json":
        return _Shards(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return _Safetensors(path)
    if head.startswith(b"PK") or head[:1] == b"\x80":
        return _Torch(path)
    what = "is empty" if not head else "is neither a torch file nor safetensors"
    raise CheckpointError(f"{path} {what}. {_AGAIN}")


_AGAIN = "Fetch it again, and compare its SHA-256 with the one where it was published"


class _Torch(TensorFile):
    kind = "torch"

    def __init__(self, path: Path) -> None:
        content = _unwrapped(_load(path))
        self.metadata = {}
        self.files = (path,)
        self._tensors = {str(k): v.detach() for k, v in content.items() if _is_plain(v)}
        self.others = {str(k): _kind(v) for k, v in content.items() if not _is_plain(v)}
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def _load(path: Path) -> Any:
    try:
        try:
            if path.suffix == ".safetensors":  # torch.load would believe the name.
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):  # Written before torch 1.6: no archive to map.
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds pickled Python objects, not only tensors; loading it could run any code, so it "
            "was refused. Where it was made, save the state dict alone: torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or cut short. {_AGAIN}") from error


def _is_plain(entry: Any) -> TypeGuard[Tensor]:
    return isinstance(entry, Tensor) and entry.layout == torch.strided


def _kind(entry: Any) -> str:
    if not isinstance(entry, Tensor):
        return type(entry).__name__
    return str(entry.layout).removeprefix("torch.") + " tensor"


def _unwrapped(content: Any) -> dict[Any, Any]:
    if isinstance(content, Tensor):
        return {"": content}
    if not isinstance(content, Mapping):
        return {"its whole content": content}
    for key in (*WRAPPERS, "decoder"):
        if isinstance(content.get(key), Mapping):
            return dict(content[key])
    return dict(content)


class _Safetensors(TensorFile):
    kind = "safetensors"

    def __init__(self, path: Path) -> None:
        self.files = (path,)
        self.others = {}
        try:
            self._file = _open_safetensors(path)
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or cut short. {_AGAIN}") from error
        self.metadata = self._file.metadata() or {}
        self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        self.dtypes = {name: _DTYPES.get(part.get_dtype(), torch.int64) for name, part in slices.items()}

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


def _open_safetensors(path: Path) -> Any:
    """The library's own annotations stop at `Any`."""
    return safe_open(path, framework="pt", device="cpu")


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Shards(TensorFile):
    kind = "safetensors shards"

    def __init__(self, path: Path) -> None:
        try:
            places: dict[str, str] = dict(json.loads(path.read_text("utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not an index of safetensors shards. {_AGAIN}") from error
        names = sorted(set(places.values()))
        if odd := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{path} names shards outside its folder: {', '.join(odd)}")
        if absent := [name for name in names if not (path.parent / name).is_file()]:
            raise CheckpointError(f"{path} needs {', '.join(absent)} beside it: fetch what is missing")
        self._shards = {name: _Safetensors(path.parent / name) for name in names}
        self._places = places
        self.files = (path, *(path.parent / name for name in names))
        self.others = {}
        self.metadata = {}
        if lost := [name for name, place in places.items() if name not in self._shards[place].shapes]:
            raise CheckpointError(
                f"{path} promises tensors that its shards lack: {', '.join(lost[:6])}. {_AGAIN}", missing=lost
            )
        self.shapes = {name: self._shards[place].shapes[name] for name, place in places.items()}
        self.dtypes = {name: self._shards[place].dtypes[name] for name, place in places.items()}

    def read(self, name: str) -> Tensor:
        return self._shards[self._places[name]].read(name)
