"""The numbers of a fine-tune, and the optimizer they make."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a loss curve depends on, besides the data and the base model."""

    steps: int = 5000
    batch: int = 2048
    """CodecFrames per step."""
    rate: float = 1e-4
    """AdamW's learning rate for the decoder and the heads."""
    projection_rate: float = 3e-5
    weight_decay: float = 0.01
    """Of matrices; norms have none."""
    warm_up: int = 200
    """Steps."""
    final: float = 0.1
    """Share of the rate at the last step; a cosine leads there."""
    clip: float = 1.0
    """Greatest norm of all gradients together."""
    seed: int = 0
    evaluate_every: int = 250
    validation: int = 8192
    """CodecFrames that are validated on, spread evenly over the dev split; fewer if it holds fewer."""


def rate_share(step: int, recipe: Recipe) -> float:
    """Share of the learning rate at step 0, 1, ...: a straight rise over the warm-up, then a cosine."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - 1 - recipe.warm_up)
    return recipe.final + (1 - recipe.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(parameters: Mapping[str, Tensor], recipe: Recipe) -> torch.optim.AdamW:
    """Groups: matrices of the decoder and the heads, norms, the projection. Each remembers its full rate."""
    norms = [tensor for name, tensor in parameters.items() if name.endswith(".scale")]
    projection = [parameters["projection.weight"]]
    matrices = [
        t for name, t in parameters.items() if not name.endswith(".scale") and name != "projection.weight"
    ]
    groups = [
        {
            "params": matrices,
            "lr": recipe.rate,
            "full_rate": recipe.rate,
            "weight_decay": recipe.weight_decay,
        },
        {"params": norms, "lr": recipe.rate, "full_rate": recipe.rate, "weight_decay": 0.0},
        {
            "params": projection,
            "lr": recipe.projection_rate,
            "full_rate": recipe.projection_rate,
            "weight_decay": recipe.weight_decay,
        },
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * share
