"""What a file of weights is, told from the names and shapes in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.csm.files import find_csm_files
from models.csm.names import PARTS, Layout, Match, canonical, match, part_name, part_shapes, tensor_shapes
from models.csm.shapes import KNOWN_SHAPES
from models.csm.tensor_files import FLOATS, TensorFile, open_tensor_file
from models.fetching import sha256_of
from models.mimi.checkpoint import CheckpointSource, MimiError

_WHOLE, _MIMI, _PROMPT = ", whole", "Mimi, the audio codec", "a voice prompt"
_STRANGE = "tensors, but nothing that CSM consists of"


@dataclass(frozen=True, slots=True)
class Inspection:
    """One file. `problems` is "" when it can be used as what `what` says."""

    path: Path
    what: str
    container: str
    layout: str
    """Naming family of CSM's tensors; "" for other files."""
    n_tensors: int
    n_parameters: int
    size_bytes: int
    dtypes: Mapping[str, int]
    """dtype -> number of tensors."""
    groups: Mapping[str, int]
    """Part of the model -> parameters."""
    metadata: Mapping[str, str]
    problems: str
    ignored: tuple[str, ...]
    sha256: Mapping[str, str]
    """File -> hex digest; empty when it was not asked for."""


def inspect(place: Path, *, hashed: bool = True) -> list[Inspection]:
    """Describe a file, or those of a voice's folder. Blocks; reads whole files only to hash them. Raises
    `CheckpointError` for a file that holds no tensors."""
    if not place.is_dir():
        return [inspect_file(place, hashed=hashed)]
    files = find_csm_files(place)
    parts = ((getattr(files, part), f"the {part} of") for part in PARTS)
    roles = ((files.base, _WHOLE), *parts, (files.mimi, _MIMI), (files.prompt, _PROMPT))
    return [_in_place(inspect_file(path, hashed=hashed), role) for path, role in roles if path is not None]


def _in_place(found: Inspection, role: str) -> Inspection:
    """A file that is sound, but not what its name says, cannot be used."""
    if role in found.what or found.problems:
        return found
    promised = {_WHOLE: "a whole model"}.get(role, role.removesuffix(" of"))
    return replace(found, problems=f"it has the name of {promised} and is something else")


def inspect_file(path: Path, *, hashed: bool = True) -> Inspection:
    """As `inspect`, for one file."""
    file = open_tensor_file(path)
    what, fit = _recognise(file)
    return Inspection(
        path=path,
        what=what,
        container=file.kind,
        layout=fit.layout if fit else "",
        n_tensors=len(file.shapes),
        n_parameters=sum(math.prod(size) for size in file.shapes.values()),
        size_bytes=sum(place.stat().st_size for place in file.files),
        dtypes=_counted(file),
        groups=_groups(file),
        metadata=file.metadata,
        problems=_problems(what, file, fit),
        ignored=fit.ignored if fit else (),
        sha256={str(place): sha256_of(place) for place in file.files} if hashed else {},
    )


def _recognise(file: TensorFile) -> tuple[str, Match | None]:
    """What it most looks like, and how it fits that."""
    if any(name.removeprefix("mimi.").startswith("quantizer.") for name in file.shapes):
        return _MIMI, None
    if "codes" in file.shapes and file.dtypes["codes"] not in FLOATS:
        return _PROMPT, None
    fits = [
        (f"{shape.name}{_WHOLE}" if part is None else f"the {part} of {shape.name}", fit)
        for shape in KNOWN_SHAPES
        for part in (None, *PARTS)
        if (fit := _fit(file, tensor_shapes(shape) if part is None else part_shapes(shape, part), part))
    ]
    if not fits:
        return _STRANGE, None
    return min(fits, key=lambda one: len(one[1].missing) + len(one[1].unexpected) + len(one[1].misshapen))


def _fit(file: TensorFile, wanted: Mapping[str, tuple[int, ...]], part: str | None) -> Match | None:
    rename: Callable[[str], tuple[str, Layout | None]] = canonical
    for known in PARTS:
        if part == known:
            rename = part_name(known)
    fit = match(file.shapes, wanted, rename)
    return fit if fit.entries else None


def _mimi_problems(path: Path) -> str:
    try:
        CheckpointSource(path)
    except MimiError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _problems(what: str, file: TensorFile, fit: Match | None) -> str:
    if what == _MIMI:
        return _mimi_problems(file.files[0])
    if what == _STRANGE:
        return "no tensor has a name that CSM, its parts, Mimi or a voice prompt would have"
    others = [f"{name} is {kind}, no plain tensor" for name, kind in list(file.others.items())[:6]]
    if fit is None:
        return ", ".join(others)
    wrong = [name for name, stored in fit.entries.items() if file.dtypes[stored] not in FLOATS]
    dtypes = [f"{len(wrong)} of a dtype that is not used for weights ({wrong[0]})"] if wrong else []
    return ", ".join([*([fit.problems] if fit.problems else []), *dtypes, *others])


def _counted(file: TensorFile) -> dict[str, int]:
    counts: dict[str, int] = {}
    for dtype in file.dtypes.values():
        name = str(dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + 1
    return counts


def _groups(file: TensorFile) -> dict[str, int]:
    groups: dict[str, int] = {}
    for name, size in file.shapes.items():
        group = canonical(name)[0].split(".")[0] or "(a bare tensor)"
        groups[group] = groups.get(group, 0) + math.prod(size)
    return groups
