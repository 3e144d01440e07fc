import pytest
import torch

from models.csm.finetune.recipe import Recipe, make_optimizer, rate_share, set_rate


def test_the_rate_rises_then_falls_to_its_final_share() -> None:
    recipe = Recipe(steps=1000, warm_up=100, final=0.1)
    shares = [rate_share(step, recipe) for step in range(1000)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[99] == shares[100] == 1.0
    assert shares[99:] == sorted(shares[99:], reverse=True)
    assert shares[550] == pytest.approx(0.55, abs=0.01)
    assert shares[-1] == pytest.approx(0.1)


def test_each_group_has_its_rate_and_decay() -> None:
    tensors = {
        "decoder.norm.scale": torch.ones(2, requires_grad=True),
        "audio_head": torch.ones(2, 2, requires_grad=True),
        "projection.weight": torch.ones(2, 2, requires_grad=True),
    }
    optimizer = make_optimizer(tensors, Recipe(rate=1e-3, projection_rate=1e-4, weight_decay=0.5))
    set_rate(optimizer, 0.5)
    found = [(group["params"][0], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert [(rate, decay) for _, rate, decay in found] == [(5e-4, 0.5), (5e-4, 0.0), (5e-5, 0.5)]
    assert found[0][0] is tensors["audio_head"] and found[2][0] is tensors["projection.weight"]
