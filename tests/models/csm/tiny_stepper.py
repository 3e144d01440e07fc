"""The real stepper over CSM and Mimi at their tiny sizes, with random weights."""

from functools import cache

import numpy as np
import torch

from models.csm.linear import Weights
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CODEBOOKS, CSM_TINY, MIMI_BINS, ROW_COLUMNS
from models.csm.stepper import TorchStepper
from models.csm.stepping import Rows
from models.mimi.own import OwnMimi
from models.mimi.random_mimi import random_mimi


@cache
def tiny_model(weights: Weights = "full") -> CsmModel:
    return CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3), dtype=torch.float32, weights=weights)


@cache
def tiny_codec() -> OwnMimi:
    return random_mimi(3, tiny=True)


def tiny_stepper(slots: int = 4, *, weights: Weights = "full", direct: bool = False) -> TorchStepper:
    return TorchStepper(tiny_model(weights), tiny_codec(), slots, 128, direct=direct)


def some_rows(seed: int, n_text: int = 5, n_audio: int = 3) -> Rows:
    rng = np.random.default_rng(seed)
    rows = np.full((n_text + n_audio, ROW_COLUMNS), -1, np.int32)
    rows[:n_audio, :CODEBOOKS] = rng.integers(0, MIMI_BINS, (n_audio, CODEBOOKS))
    rows[n_audio:, CODEBOOKS] = rng.integers(0, 128_000, n_text)
    return rows
