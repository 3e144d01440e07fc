"""The loop: decoder, heads and projection on cached features; the best of them by validation loss is kept.

Nothing is random but the order of the CodecFrames, which is a function of seed and step. So a run that is
killed and taken up again goes through the same numbers as one that is not.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.base import ModelFailed
from models.csm.finetune.dataset import Dataset
from models.csm.finetune.loss import Frozen, codebook0_loss, codebook_losses
from models.csm.finetune.order import members
from models.csm.finetune.recipe import Recipe, make_optimizer, rate_share, set_rate
from models.csm.finetune.record import CODEBOOK_COLUMNS, Record
from models.csm.finetune.state import BEST, Best, State, load_state, save_state, write_whole


@dataclass(frozen=True, slots=True)
class Step:
    """What is told after each step."""

    step: int
    """Steps that are done."""
    train_loss: float
    val_loss: float | None
    best: Best


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on; all is called on the loop's thread."""

    step: Callable[[Step], None] = lambda step: None
    sample: Callable[[int, Mapping[str, Tensor]], None] = lambda step, parameters: None
    """Every `sample_every` steps: the step's number and the tensors as they are then."""
    sample_every: int = 0
    """0: never."""


class Trainer:
    """One run in one folder. Goes on where a run with the same identity stopped."""

    def __init__(
        self,
        frozen: Frozen,
        parameters: Mapping[str, Tensor],
        recipe: Recipe,
        folder: Path,
        *,
        identity: Mapping[str, str],
        device: str = "cpu",
        at_once: int = 512,
    ) -> None:
        """`parameters` are the base's, copied in float32. `at_once` CodecFrames go through the decoder
        together (memory). Raises `ResumeError`."""
        self._frozen = frozen
        self._recipe = recipe
        self._folder = folder
        self._device = device
        self._at_once = at_once
        self._identity = {**identity, "recipe": str(recipe), "at once": str(at_once)}
        state = load_state(folder, self._identity)
        start = state.parameters if state else parameters
        self.parameters = {
            name: tensor.detach().to(device, torch.float32, copy=True).requires_grad_()
            for name, tensor in start.items()
        }
        self._optimizer = make_optimizer(self.parameters, recipe)
        self.done, self.best, self._begun = 0, Best(), state is not None
        if state:
            self._optimizer.load_state_dict(state.optimizer)
            self.done, self.best = state.step, state.best

    def run(self, train: Dataset, validation: Dataset, watch: Watch = Watch()) -> Best:
        """Train to the recipe's last step. Raises `ModelFailed` when the loss is no longer finite."""
        validation = validation.spread(self._recipe.validation)
        record = Record(self._folder, self.done)
        try:
            if not self._begun:
                self._measure(record, validation, {"step": 0.0})
            while self.done < self._recipe.steps:
                self._step(record, train, validation, watch)
        finally:
            record.close()
        return self.best

    def best_parameters(self) -> dict[str, Tensor]:
        """The tensors with the lowest validation loss, float32 on the CPU."""
        tensors: dict[str, Tensor] = torch.load(self._folder / BEST, map_location="cpu", weights_only=True)
        return tensors

    def _step(self, record: Record, train: Dataset, validation: Dataset, watch: Watch) -> None:
        share = rate_share(self.done, self._recipe)
        set_rate(self._optimizer, share)
        loss, norm = self._gradients(train)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise ModelFailed(f"the loss is not finite at step {self.done + 1}: try a lower rate")
        self._optimizer.step()
        self.done += 1
        row = {
            "step": float(self.done),
            "train_loss": loss,
            "rate": self._recipe.rate * share,
            "gradient_norm": norm,
        }
        val_loss = None
        if self.done % self._recipe.evaluate_every == 0 or self.done == self._recipe.steps:
            val_loss = self._measure(record, validation, row)
        else:
            record.add(row)
        if watch.sample_every and self.done % watch.sample_every == 0:
            watch.sample(self.done, self.parameters)
        watch.step(Step(self.done, loss, val_loss, self.best))

    def _gradients(self, train: Dataset) -> tuple[float, float]:
        """Leave the clipped gradients of one batch; returns its loss and their norm before clipping."""
        recipe = self._recipe
        numbers = members(self.done, recipe.batch, len(train), recipe.seed)
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self._device)
        for part in np.split(numbers, range(self._at_once, len(numbers), self._at_once)):
            hidden, codes = train.pick(part, self._device)
            with self._computing():
                loss = codebook_losses(self._frozen, self.parameters, hidden, codes).mean()
                loss = loss * (len(part) / len(numbers))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), recipe.clip)
        return float(total), float(norm)

    def _measure(self, record: Record, validation: Dataset, row: Mapping[str, float]) -> float:
        """Validate, record the row, keep the tensors if they are the best, save the state."""
        losses = self.validate(validation)
        val_loss = float(losses[1:].mean())
        columns = dict(zip(CODEBOOK_COLUMNS, losses.tolist(), strict=True))
        record.add({**row, "val_loss": val_loss, **columns})
        record.flush()
        if val_loss < self.best.loss:
            self.best = Best(self.done, val_loss)
            write_whole(self._folder / BEST, self._on_cpu())
        state = State(self.done, self.best, self._on_cpu(), self._optimizer.state_dict())
        save_state(self._folder, state, self._identity)
        return val_loss

    @torch.no_grad()
    def validate(self, validation: Dataset) -> Tensor:
        """Cross-entropy per codebook, (32,) float64: codebook 0's beside the others."""
        total = torch.zeros(32, dtype=torch.float64)
        numbers = np.arange(len(validation))
        for part in np.split(numbers, range(self._at_once, len(numbers), self._at_once)):
            hidden, codes = validation.pick(part, self._device)
            with self._computing():
                trained = codebook_losses(self._frozen, self.parameters, hidden, codes)
            losses = torch.cat([codebook0_loss(self._frozen, hidden, codes)[None], trained.float()])
            total += losses.to("cpu", torch.float64) * len(part)
        return total / len(numbers)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Plain attention: over 32 positions it is quick, and its gradients are the same on every run."""
        cuda = self._device.startswith("cuda")
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cuda", torch.bfloat16, enabled=cuda):
            yield

    def _on_cpu(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in self.parameters.items()}
