"""`maya models inspect`: what a file is, and what is wrong with it."""

import hashlib
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import CommandError
from models.csm.inspection import inspect
from models.csm.names import PARTS
from models.csm.shapes import CSM_TINY
from models.mimi.random_mimi import save_random_mimi
from tests.models.csm.checkpoints import as_transformers, state


@pytest.fixture(scope="module")
def tiny():
    return state(CSM_TINY)


def only(path):
    (found,) = inspect(path)
    return found


def test_a_whole_model_is_known_in_each_layout(tmp_path, tiny):
    save_file(as_transformers(tiny, CSM_TINY), tmp_path / "model.safetensors")
    found = only(tmp_path / "model.safetensors")
    assert (found.what, found.layout, found.problems) == ("csm-tiny, whole", "transformers", "")
    assert found.n_tensors == len(tiny)
    assert found.n_parameters == sum(tensor.numel() for tensor in tiny.values())
    assert found.dtypes == {"bfloat16": len(tiny)}
    assert found.groups["audio_head"] == 31 * 32 * 2051
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert list(found.sha256.values()) == [digest]


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_known(tmp_path, tiny, part):
    tensors = {n.removeprefix("decoder."): t for n, t in tiny.items() if n.split(".")[0] == part}
    torch.save(tensors if part == "decoder" else next(iter(tensors.values())), tmp_path / "some.pt")
    found = only(tmp_path / "some.pt")
    assert (found.what, found.problems) == (f"the {part} of csm-tiny", "")


def test_a_damaged_model_is_described_and_its_problems_named(tmp_path, tiny):
    half = {n: t for n, t in tiny.items() if "layers.1" not in n}
    half["audio_head"] = half["audio_head"].to(torch.int8)
    torch.save({"model": {**half, "step": 3}}, tmp_path / "ckpt.pt")
    found = only(tmp_path / "ckpt.pt")
    assert found.what == "csm-tiny, whole"
    for word in ("18 missing", "dtype that is not used", "step is int, no plain tensor"):
        assert word in found.problems


def test_mimi_prompts_and_strangers_are_told_apart(tmp_path):
    save_random_mimi(tmp_path / "mimi.safetensors", tiny=True)
    assert only(tmp_path / "mimi.safetensors").what.startswith("Mimi")
    prompt = tmp_path / "prompt.safetensors"
    save_file({"codes": torch.zeros(3, 32, dtype=torch.int32)}, prompt, metadata={"text": "Hello."})
    assert only(prompt).what == "a voice prompt"
    assert only(prompt).metadata["text"] == "Hello."
    torch.save({"conv1.weight": torch.ones(3, 3)}, tmp_path / "other.pt")
    found = only(tmp_path / "other.pt")
    assert "nothing that CSM consists of" in found.what
    assert "no tensor has a name" in found.problems


def test_half_of_mimi_is_not_sound(tmp_path):
    save_random_mimi(tmp_path / "mimi.safetensors", tiny=True)
    assert only(tmp_path / "mimi.safetensors").problems == ""
    tensors = load_file(tmp_path / "mimi.safetensors")
    half = {name: tensor for name, tensor in tensors.items() if not name.startswith("encoder")}
    save_file(half, tmp_path / "mimi.safetensors")
    found = only(tmp_path / "mimi.safetensors")
    assert found.what.startswith("Mimi") and "missing" in found.problems


def test_a_file_under_anothers_name_is_a_problem_of_its_folder(tmp_path, tiny):
    save_random_mimi(tmp_path / "model_merged.pt", tiny=True)
    torch.save(tiny, tmp_path / "mimi.safetensors")
    base, mimi = inspect(tmp_path, hashed=False)
    assert base.what.startswith("Mimi") and "something else" in base.problems
    assert mimi.what == "csm-tiny, whole" and "something else" in mimi.problems
    assert only(tmp_path / "mimi.safetensors").problems == "", "a file alone is what it is"


def test_the_command_tells_and_fails_when_something_is_wrong(tmp_path, tiny):
    torch.save(tiny, tmp_path / "model_merged.pt")
    save_random_mimi(tmp_path / "mimi.safetensors", tiny=True)
    run = CliRunner().invoke(app, ["models", "inspect", str(tmp_path)])
    assert run.exit_code == 0
    assert "model_merged.pt: csm-tiny, whole" in run.output
    assert "Mimi, the audio codec" in run.output
    assert run.output.count("sound") == 2
    run = CliRunner().invoke(app, ["models", "inspect", str(tmp_path / "model_merged.pt"), "--json"])
    assert json.loads(run.output)[0]["what"] == "csm-tiny, whole"
    half = {name: tensor for name, tensor in tiny.items() if name != "decoder.norm.scale"}
    torch.save(half, tmp_path / "model_merged.pt")
    run = CliRunner().invoke(app, ["models", "inspect", "--no-sha256", str(tmp_path / "model_merged.pt")])
    assert isinstance(run.exception, CommandError)
    assert "1 missing (decoder.norm.scale)" in run.output


def test_the_command_says_what_it_needs(tmp_path, monkeypatch):
    for module in ("models.csm.inspection", "models.csm.tensor_files"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    run = CliRunner().invoke(app, ["models", "inspect", str(tmp_path)])
    assert isinstance(run.exception, CommandError)
    assert "maya-voice[csm]" in str(run.exception)
