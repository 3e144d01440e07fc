"""Ours held against the golden vectors: how far apart, for each thing that is kept."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.csm.model import CsmModel
from models.csm.rope import rope_table
from models.csm.sampling import Draw
from models.csm.shapes import CsmShape
from tests.golden import csm_case as case

GOLDEN = Path(__file__).parents[2] / "golden" / "csm.npz"
LIMITS = {"rope": 1e-5, "hidden": 1e-4, "steps": 1e-4, "logits": 1e-4, "logsumexp": 1e-4, "greedy": 0.0}


def load() -> dict[str, NDArray[np.float32]]:
    with np.load(GOLDEN) as file:
        return dict(file)


def greedy(model: CsmModel, rows: Tensor, n_codec_frames: int) -> Tensor:
    """(n, 32): prefill in chunks, then most probable codes, one decode step each."""
    cache = model.cache(1, len(rows) + n_codec_frames)
    for start in range(0, len(rows), 96):
        hidden = model.prefill(cache, 0, rows[start : start + 96], start)[None]
    slots, active = torch.tensor([0]), torch.tensor([True])
    said = []
    for index in range(n_codec_frames):
        codes, finite = model.codec_frame(hidden, most_probable(index))
        assert finite.all()
        said.append(codes[0])
        hidden = model.step(cache, codes, torch.tensor([len(rows) + index]), slots, active)
    return torch.stack(said)


def most_probable(index: int) -> Draw:
    return Draw(
        seeds=torch.tensor([0]),
        index=torch.tensor([index]),
        temperature=torch.tensor([0.0]),
        may_end=torch.tensor([True]),
    )


def differences(model: CsmModel, shape: CsmShape) -> dict[str, float]:
    """Greatest absolute difference from the golden vectors, for each key of `LIMITS`."""
    golden = load()
    rows = torch.from_numpy(case.rows())
    hidden = model.hidden_states(rows)
    logits = model.forced_logits(hidden[list(case.FORCED_ROWS)], torch.from_numpy(case.forced_codes()))
    entries = torch.from_numpy(case.kept_entries()).expand(len(case.FORCED_ROWS), -1, -1)
    return {
        "hidden": _apart(hidden[list(case.HIDDEN_ROWS)], golden["hidden"]),
        "steps": _apart(_by_steps(model, rows), golden["hidden"]),
        "logits": _apart(logits.gather(2, entries), golden["logits"]),
        "logsumexp": _apart(logits.logsumexp(2), golden["logsumexp"]),
        "greedy": _apart(greedy(model, rows, case.GREEDY_CODEC_FRAMES), golden["greedy"]),
        "rope": max(
            _apart(rope_table(dim, 2048, shape.rope)[list(case.ROPE_POSITIONS)], golden[f"rope_{dim}"])
            for dim in case.HEAD_DIMS
        ),
    }


def rejected(found: Mapping[str, float]) -> set[str]:
    """What is further away than its limit; not-a-number is."""
    return {what for what, limit in LIMITS.items() if not found[what] <= limit}


def _by_steps(model: CsmModel, rows: Tensor) -> Tensor:
    """The hidden states that were kept, by prefills that end there; rows of sound, where possible, by decode
    steps."""
    cache = model.cache(2, len(rows))
    kept, start = [], 0
    for row in case.HIDDEN_ROWS:
        if row > start:
            model.prefill(cache, 1, rows[start:row], start)
        if int(rows[row, 0]) >= 0:
            codes, position = rows[row : row + 1, :32].long(), torch.tensor([row])
            kept.append(model.step(cache, codes, position, torch.tensor([1]), torch.tensor([True]))[0])
        else:
            kept.append(model.prefill(cache, 1, rows[row : row + 1], row))
        start = row + 1
    return torch.stack(kept)


def _apart(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    return float((ours.double() - torch.from_numpy(theirs).double()).abs().max())
