from pathlib import Path

import pytest
import torch

from models.csm.finetune.state import STATE, Best, ResumeError, State, load_state, save_state, write_whole

HELD = State(7, Best(5, 1.25), {"a": torch.arange(3.0)}, {"state": {}, "param_groups": [{"lr": 0.1}]})


def test_a_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path, {"data": "x"}) is None
    save_state(tmp_path, HELD, {"data": "x"})
    found = load_state(tmp_path, {"data": "x"})
    assert found is not None
    assert (found.step, found.best, found.optimizer) == (7, Best(5, 1.25), HELD.optimizer)
    assert torch.equal(found.parameters["a"], HELD.parameters["a"])


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    save_state(tmp_path, HELD, {"data": "x", "recipe": "slow"})
    with pytest.raises(ResumeError, match="recipe was slow, is fast"):
        load_state(tmp_path, {"data": "x", "recipe": "fast"})


def test_of_a_recipe_only_what_differs_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, HELD, {"recipe": "Recipe(steps=300, rate=0.1, seed=0)"})
    with pytest.raises(ResumeError, match=r"otherwise: recipe was steps=300, seed=0, is steps=400, seed=1\."):
        load_state(tmp_path, {"recipe": "Recipe(steps=400, rate=0.1, seed=1)"})


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    save_state(tmp_path, HELD, {})
    with pytest.raises(TypeError, match="pickle"):
        write_whole(tmp_path / STATE, {"step": (number for number in ())})
    found = load_state(tmp_path, {})
    assert found is not None and found.step == 7


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ResumeError, match=r"state\.pt"):
        load_state(tmp_path, {})
