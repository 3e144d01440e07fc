from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import ModelFailed
from models.csm.finetune.dataset import Dataset
from models.csm.finetune.loss import Frozen, trained_names
from models.csm.finetune.recipe import Recipe
from models.csm.finetune.record import METRICS, read_metrics
from models.csm.finetune.state import ResumeError
from models.csm.finetune.training import Step, Trainer, Watch
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_TINY

RECIPE = Recipe(steps=12, batch=24, rate=1e-2, warm_up=3, evaluate_every=4, validation=16)
SOURCE = RandomTensors(CSM_TINY, 2)


def data(n: int, seed: int) -> Dataset:
    """CodecFrames whose codes follow from their hidden states, so that there is something to learn."""
    numbers = np.random.default_rng(seed)
    kinds = numbers.integers(0, 4, n)
    codes = (kinds[:, None] * 37 + np.arange(32) * 5) % 2048
    hidden = np.random.default_rng(0).standard_normal((4, CSM_TINY.backbone.dim))[kinds]
    return Dataset(torch.from_numpy(codes.astype(np.int16)), torch.from_numpy(hidden).to(torch.bfloat16))


def trainer(folder: Path, recipe: Recipe = RECIPE, identity: str = "x", device: str = "cpu") -> Trainer:
    folder.mkdir(exist_ok=True)
    embeddings, head = (
        SOURCE[name].to(device) for name in ("audio_embeddings.weight", "codebook0_head.weight")
    )
    return Trainer(
        Frozen.of(CSM_TINY, embeddings, head),
        {name: SOURCE[name] for name in trained_names(CSM_TINY)},
        recipe,
        folder,
        identity={"data": identity},
        device=device,
        at_once=10,
    )


class Killed(Exception):
    pass


def killed_after(step: int) -> Watch:
    def watch(told: Step) -> None:
        if told.step == step:
            raise Killed

    return Watch(watch)


def test_validation_loss_falls_and_codebook_0_stays(whole: tuple[Path, Trainer]) -> None:
    folder, run = whole
    metrics = read_metrics(folder)
    measured = [loss for loss in metrics["val_loss"] if loss == loss]
    assert len(measured) == 4 and measured[-1] < 0.7 * measured[0]
    assert run.best.loss == pytest.approx(measured[-1])
    assert len({loss for loss in metrics["val_codebook_0"] if loss == loss}) == 1
    assert metrics["step"] == list(range(13))


def test_the_best_tensors_are_kept(whole: tuple[Path, Trainer]) -> None:
    _, run = whole
    best, wanted = run.best_parameters(), run.parameters
    assert run.best.step == 12
    assert all(torch.equal(best[name], tensor.detach()) for name, tensor in wanted.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trainer]:
    folder = tmp_path_factory.mktemp("whole")
    run = trainer(folder)
    run.run(data(100, 1), data(20, 2))
    return folder, run


@pytest.mark.parametrize("killed_at", [1, 4, 6, 11])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, whole: tuple[Path, Trainer], killed_at: int
) -> None:
    folder, unharmed = whole
    with pytest.raises(Killed):
        trainer(tmp_path / "killed").run(data(100, 1), data(20, 2), killed_after(killed_at))
    resumed = trainer(tmp_path / "killed")
    assert resumed.done == killed_at // 4 * 4
    resumed.run(data(100, 1), data(20, 2))
    assert (tmp_path / "killed" / METRICS).read_bytes() == (folder / METRICS).read_bytes()
    assert resumed.best == unharmed.best
    assert all(torch.equal(resumed.parameters[name], tensor) for name, tensor in unharmed.parameters.items())


def test_the_size_of_a_pass_changes_a_gradient_only_by_rounding(tmp_path: Path) -> None:
    gradients: list[dict[str, Tensor]] = []
    for at_once in (24, 7):
        run = trainer(tmp_path / str(at_once))
        run._at_once = at_once
        run._gradients(data(100, 1))
        gradients.append({n: t.grad.clone() for n, t in run.parameters.items() if t.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    trainer(tmp_path).run(data(100, 1), data(20, 2))
    steps: list[Step] = []
    trainer(tmp_path).run(data(100, 1), data(20, 2), Watch(steps.append))
    assert steps == []


def test_other_data_or_another_recipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trainer(tmp_path).run(data(100, 1), data(20, 2), killed_after(5))
    with pytest.raises(ResumeError, match="data was x, is y"):
        trainer(tmp_path, identity="y")
    with pytest.raises(ResumeError, match="recipe was"):
        trainer(tmp_path, Recipe(steps=13))


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    broken = data(100, 1)
    broken.hidden[:] = float("nan")
    with pytest.raises(ModelFailed, match="step 1"):
        trainer(tmp_path).run(broken, data(20, 2))


def test_samples_are_asked_for_at_their_steps(tmp_path: Path) -> None:
    asked: list[int] = []
    watch = Watch(sample=lambda step, _: asked.append(step), sample_every=5)
    trainer(tmp_path).run(data(100, 1), data(20, 2), watch)
    assert asked == [5, 10]


@pytest.mark.gpu
def test_a_gpu_trains_in_bfloat16_and_goes_on_alike(tmp_path: Path, whole: tuple[Path, Trainer]) -> None:
    unharmed = trainer(tmp_path / "whole", device="cuda")
    unharmed.run(data(100, 1), data(20, 2))
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", device="cuda").run(data(100, 1), data(20, 2), killed_after(6))
    resumed = trainer(tmp_path / "killed", device="cuda")
    resumed.run(data(100, 1), data(20, 2))
    assert all(tensor.dtype == torch.float32 for tensor in resumed.parameters.values())
    files = [tmp_path / name / METRICS for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert resumed.best.loss == pytest.approx(whole[1].best.loss, rel=0.02)
