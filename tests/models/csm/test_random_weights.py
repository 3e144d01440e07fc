import hashlib

import pytest
import torch

from models.csm import random_weights
from models.csm.checkpoint import open_checkpoint
from models.csm.model import CsmModel
from models.csm.names import tensor_shapes
from models.csm.random_weights import RandomTensors, save_random
from models.csm.sampling import Draw
from models.csm.shapes import CSM_1B, CSM_TINY

DRAWN = {
    "projection.weight": "ff3391fafddba1f9",
    "audio_head": "32994cbf91fc31fb",
    "backbone.layers.1.attn.q_proj.weight": "2e7e3b332122d57d",
    "decoder.norm.scale": "c4fd915d426d8640",
}


def digest(tensor):
    return hashlib.sha256(tensor.view(torch.int16).numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_bits_everywhere(name):
    assert digest(RandomTensors(CSM_TINY, 7)[name]) == DRAWN[name]


def test_seed_and_name_tell_tensors_apart():
    source = RandomTensors(CSM_TINY, 1)
    key, value = (source[f"backbone.layers.0.attn.{part}_proj.weight"] for part in "kv")
    assert digest(key) != digest(value)
    assert digest(key) != digest(RandomTensors(CSM_TINY, 2)["backbone.layers.0.attn.k_proj.weight"])
    assert torch.equal(key, source["backbone.layers.0.attn.k_proj.weight"]), "drawn anew, the same"


def test_chunks_do_not_show(monkeypatch):
    whole = RandomTensors(CSM_TINY)["audio_head"]
    monkeypatch.setattr(random_weights, "_CHUNK", 1000)
    assert torch.equal(RandomTensors(CSM_TINY)["audio_head"], whole)


def test_names_and_sizes_are_the_models():
    source = RandomTensors(CSM_1B)
    assert set(source) == set(tensor_shapes(CSM_1B)) and len(list(source)) == 187
    assert source["projection.weight"].shape == (1024, 2048)
    assert "text_embeddings.weight" in source and "lm_head.weight" not in source


def test_a_saved_folder_loads_like_the_real_one(tmp_path):
    save_random(tmp_path, CSM_TINY, 5)
    source, opened = RandomTensors(CSM_TINY, 5), open_checkpoint(tmp_path / "model_merged.pt", parts=None)
    assert opened.shape == CSM_TINY
    for name in source:
        assert torch.equal(opened[name].to(torch.bfloat16), source[name]), name
    assert {path.name for path in tmp_path.iterdir()} == {"model_merged.pt", "mimi.safetensors"}


def test_greedy_codes_vary():
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY))
    rows = torch.full((6, 33), -1)
    rows[:, 32] = torch.arange(6)
    cache, one = model.cache(1, 64), torch.zeros(1, dtype=torch.int64)
    hidden = model.prefill(cache, 0, rows, 0)[None]
    found = []
    for index in range(20):
        codes, _ = model.codec_frame(hidden, Draw(one, one + index, torch.zeros(1), one.bool()))
        found.append(codes[0])
        hidden = model.step(cache, codes, one + 6 + index, one, torch.ones(1).bool())
    spoken = torch.stack(found)
    assert len(spoken[:, 0].unique()) >= 10 and len(spoken.unique()) > 400


def test_attention_is_far_from_flat():
    """Scores of one query differ by more than 1 from key to key: a wrong mask or position shows."""
    source, shape = RandomTensors(CSM_TINY), CSM_TINY.backbone
    x = torch.randn(200, shape.dim, generator=torch.Generator().manual_seed(0))
    q, k = (x @ source[f"backbone.layers.0.attn.{part}_proj.weight"].float().T for part in "qk")
    scores = q[:, : shape.head_dim] @ k[:, : shape.head_dim].T / shape.head_dim**0.5
    assert scores.std(1).mean() > 1
