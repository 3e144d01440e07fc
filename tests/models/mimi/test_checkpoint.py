"""Mimi's file: what it may look like, and what is refused."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.base import ModelError
from models.mimi.checkpoint import MIMI_FILE, CheckpointSource, MimiError, open_mimi
from models.mimi.config import MIMI_TINY
from models.mimi.names import mimi_names
from models.mimi.opening import open_codec
from models.mimi.random_mimi import random_mimi, save_random_mimi

CODES = torch.arange(3 * 32).view(1, 3, 32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("mimi") / MIMI_FILE
    save_random_mimi(file, 4, tiny=True)
    return file


@pytest.fixture
def tensors(file):
    return load_file(file)


def refusal(tensors, tmp_path):
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(MimiError) as refused:
        open_mimi(tmp_path / "changed.safetensors")
    return str(refused.value)


def test_what_was_saved_is_what_was_drawn(file):
    drawn = random_mimi(4, tiny=True)
    opened = open_codec("own", file)
    assert torch.equal(opened.decode(CODES), drawn.decode(CODES))
    audio = drawn.decode(CODES)
    assert torch.equal(opened.encode(audio), drawn.encode(audio))


def test_the_hash_is_in_the_log(file, caplog):
    with caplog.at_level("INFO"):
        open_mimi(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in caplog.text


def test_a_file_that_shrank_since_it_was_opened(file, tmp_path):
    """The encoder is read when it is first needed."""
    copy = tmp_path / "mimi.safetensors"
    copy.write_bytes(file.read_bytes())
    codec = open_mimi(copy)
    copy.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(MimiError, match="changed since it was opened"):
        codec.encoder(1)


def test_a_folder_is_searched(file, tmp_path):
    assert open_mimi(file.parent).config is MIMI_TINY
    (tmp_path / "mimi.safetensors").write_bytes(file.read_bytes())
    assert open_mimi(tmp_path).config is MIMI_TINY
    with pytest.raises(MimiError, match=r"neither .*checkpoint125"):
        open_mimi(tmp_path.parent / tmp_path.name / "..")


def test_names_of_older_exports_are_understood(tensors, tmp_path):
    """Kyutai's own file says in_proj_weight and out_proj.weight; a container may put a prefix before all."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("in_projs.0.weight", "in_proj_weight").replace("out_projs.0", "out_proj")
        name = name.replace("embedding_sum", "embed_sum").replace("cluster_usage", "cluster_size")
        renamed[f"mimi.{name}"] = tensor
    save_file(renamed, tmp_path / "older.safetensors")
    opened = open_mimi(tmp_path / "older.safetensors")
    assert torch.equal(opened.decode(CODES), random_mimi(4, tiny=True).decode(CODES))


def test_half_precision_is_widened(tensors, tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(half, tmp_path / "half.safetensors")
    assert open_mimi(tmp_path / "half.safetensors").decode(CODES).dtype == torch.float32


def test_missing_unexpected_and_misshapen_are_listed(tensors, tmp_path):
    del tensors["upsample.convtr.convtr.convtr.weight"]
    tensors["decoder.model.15.conv.conv.bias"] = torch.zeros(1)
    tensors["encoder.model.0.conv.conv.bias"] = torch.zeros(5)
    message = refusal(tensors, tmp_path)
    assert "1 missing: upsample.convtr.convtr.convtr.weight" in message
    assert "1 unexpected: decoder.model.15.conv.conv.bias" in message
    assert "1 misshapen: encoder.model.0.conv.conv.bias (5,) instead of (4,)" in message
    assert MIMI_FILE in message


def test_another_model_is_refused_in_one_screen(tmp_path):
    message = refusal({f"layers.{i}.weight": torch.zeros(2) for i in range(100)}, tmp_path)
    assert "100 unexpected: layers.0.weight" in message
    assert "and 92 more" in message
    assert "286 missing" in message
    assert len(message) < 2000


def test_half_covered(tensors, tmp_path):
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("encoder")}
    assert f"{len(tensors) - len(kept)} missing: encoder" in refusal(kept, tmp_path)


def test_two_names_for_one_tensor(tensors, tmp_path):
    name = "decoder_transformer.transformer.layers.0.self_attn.in_projs.0.weight"
    tensors[name.replace("in_projs.0.weight", "in_proj_weight")] = tensors[name].clone()
    assert "twice" in refusal(tensors, tmp_path)


def test_integers(tensors, tmp_path):
    tensors["encoder.model.0.conv.conv.bias"] = torch.zeros(4, dtype=torch.int8)
    assert "not floating point: encoder.model.0.conv.conv.bias (I8)" in refusal(tensors, tmp_path)


@pytest.mark.parametrize("length", [0, 4, 100, 50_000, -1])
def test_truncated(file, tmp_path, length):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:length])
    with pytest.raises(MimiError, match="not a whole safetensors file"):
        open_mimi(cut)


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        open_mimi(tmp_path / "mimi.safetensors")


def test_a_pickle_is_not_read(tmp_path):
    torch.save({"model": {}}, tmp_path / "mimi.pt")
    with pytest.raises(MimiError, match="not a whole safetensors file"):
        open_mimi(tmp_path / "mimi.pt")


def test_every_tensor_is_asked_for(file):
    asked = set()

    class Counting(CheckpointSource):
        def __getitem__(self, name):
            asked.add(name)
            return super().__getitem__(name)

    from models.mimi.own import OwnMimi

    OwnMimi(Counting(file), MIMI_TINY).encoder(1)
    assert asked == set(mimi_names(MIMI_TINY))
