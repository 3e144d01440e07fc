"""Choosing the next token, greedy unless a call asks otherwise, and noticing when a reply runs into a loop.

A repetition penalty would bend facts ("eight to six" said of Monday may not be said of Tuesday), so the guard
changes no choice: it ends a reply that repeats one block of tokens over and over, as small models do.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.base import Sampling

_RANGE = 16.0
"""What is less likely than exp(-16) of the likeliest is not looked at: a vocabulary has 150,000 tokens."""
LOOP_REPEATS = 3
LOOP_MIN_TOKENS = 12
"""A loop is LOOP_REPEATS equal blocks in a row that fill at least this many tokens."""
LOOP_MAX_PERIOD = 48


def greedy(logits: NDArray[np.float32]) -> int:
    """The most likely token of (vocabulary_size,) float32; the lowest id on a tie. Raises `ValueError` when
    the logits are not numbers."""
    token = int(logits.argmax())
    if not np.isfinite(logits[token]):
        raise ValueError("the model's logits are not finite numbers")
    return token


class Sampler:
    """Chooses one call's tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._chance = np.random.default_rng(sampling.seed)

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """A token by (vocabulary_size,) float32. Raises `ValueError` when the logits are not numbers."""
        likeliest = greedy(logits)
        if self._sampling.temperature == 0:
            return likeliest
        candidates = np.flatnonzero(logits > logits[likeliest] - _RANGE * self._sampling.temperature)
        weights = np.exp(
            (logits[candidates] - logits[likeliest]) / self._sampling.temperature, dtype=np.float64
        )
        order = np.argsort(-weights, kind="stable")
        heaped = np.cumsum(weights[order])
        kept = int(np.searchsorted(heaped, self._sampling.top_p * heaped[-1])) + 1
        drawn = self._chance.random() * heaped[min(kept, len(order)) - 1]
        return int(candidates[order[int(np.searchsorted(heaped, drawn, side="right"))]])


def probability(tokens: Sequence[int], logits: NDArray[np.float32]) -> float:
    """That one of `tokens` comes next: their share of the softmax of (vocabulary_size,) float32. Raises
    `ValueError` when the logits are not numbers."""
    weights = np.exp(logits - logits.max())
    share = float(weights[list(tokens)].sum() / weights.sum())
    if not math.isfinite(share):
        raise ValueError("the model's logits are not finite numbers")
    return share


def looping(tokens: Sequence[int]) -> bool:
    """Does the end of `tokens` repeat one block of at most LOOP_MAX_PERIOD tokens?"""
    total = len(tokens)
    for period in range(1, min(LOOP_MAX_PERIOD, total // LOOP_REPEATS) + 1):
        span = max(LOOP_REPEATS * period, LOOP_MIN_TOKENS)
        if span <= total and all(tokens[-i] == tokens[-i - period] for i in range(1, span - period + 1)):
            return True
    return False
