"""A run's state on disk: written beside and renamed, so that a kill at any moment leaves one whole."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from models.base import ModelError

STATE = "state.pt"
BEST = "best.pt"


class ResumeError(ModelError):
    """The folder holds a run that this one does not continue."""


@dataclass(frozen=True, slots=True)
class Best:
    """The validation's lowest loss so far and the step it was measured after."""

    step: int = 0
    loss: float = float("inf")


@dataclass(frozen=True, slots=True)
class State:
    step: int
    """Steps that are done."""
    best: Best
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_state(folder: Path, state: State, identity: Mapping[str, str]) -> None:
    write_whole(
        folder / STATE,
        {
            "step": state.step,
            "best": {"step": state.best.step, "loss": state.best.loss},
            "parameters": state.parameters,
            "optimizer": state.optimizer,
            "identity": dict(identity),
        },
    )


def load_state(folder: Path, identity: Mapping[str, str]) -> State | None:
    """None when nothing was saved yet. Raises `ResumeError` when what was saved had another `identity`
    (recipe, data, base): it names the difference."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        raise ResumeError(f"{path} is damaged ({error}): delete it to begin anew.") from error
    other = [
        _difference(name, saved["identity"].get(name, "absent"), value)
        for name, value in identity.items()
        if saved["identity"].get(name) != value
    ]
    if other:
        raise ResumeError(
            f"{folder} holds a run that was begun otherwise: {'; '.join(other)}. "
            "Repeat its options to go on with it, or give another --out."
        )
    return State(saved["step"], Best(**saved["best"]), saved["parameters"], saved["optimizer"])


def _difference(name: str, was: str, is_: str) -> str:
    """What stands differently in two forms of one setting; in those of a recipe, only the fields that do."""
    pairs = [text[text.find("(") + 1 :].rstrip(")").split(", ") for text in (was, is_)]
    if name == "recipe" and len(pairs[0]) == len(pairs[1]):
        differing = [pair for pair in zip(*pairs, strict=True) if pair[0] != pair[1]]
        was, is_ = (", ".join(part) for part in zip(*differing, strict=True))
    return f"{name} was {was}, is {is_}"


def write_whole(path: Path, content: Any) -> None:
    """`torch.save` that appears at `path` complete or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
