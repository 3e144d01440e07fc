"""Our CSM beside torchtune's layers and transformers' frame loop, on shapes that the golden vectors lack."""

import numpy as np
import pytest
import torch
from torchtune.models.llama3_1 import Llama3ScaledRoPE

from models.csm.checkpoint import open_checkpoint
from models.csm.model import CsmModel
from models.csm.names import tensor_shapes
from models.csm.random_weights import RandomTensors
from models.csm.rope import rope_table
from models.csm.shapes import CONTEXT_ROWS, CSM_TINY, CsmShape, RopeScaling, TransformerShape
from tests.golden import csm_case as case
from tests.golden import derive_csm
from tests.models.csm.checkpoints import as_transformers
from tests.models.csm.golden import GOLDEN, greedy
from tests.peers import transformers_csm as theirs
from tests.peers.torchtune_csm import TorchtuneCsm

GROUPED = CsmShape(
    "csm-grouped",
    backbone=TransformerShape(layers=3, dim=96, ffn=160, heads=6, kv_heads=2),
    decoder=TransformerShape(layers=2, dim=64, ffn=96, heads=8, kv_heads=2),
    text_vocabulary=128_256,
)
"""Grouped heads in both stacks: the tiny decoder has but one key head."""
LOGITS = 1e-4


@pytest.fixture(scope="module", params=[CSM_TINY, GROUPED], ids=lambda shape: shape.name)
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def source(shape):
    return RandomTensors(shape, seed=11)


@pytest.fixture(scope="module")
def ours(shape, source):
    return CsmModel(shape, source)


@pytest.fixture(scope="module")
def torchtune(shape, source):
    return TorchtuneCsm(shape, list(tensor_shapes(shape)), lambda name: source[name].float())


@pytest.fixture(scope="module")
def transformers(shape, source):
    state = as_transformers({name: source[name].float() for name in source}, shape)
    return theirs.build(shape, state)


@pytest.fixture(scope="module")
def rows():
    return torch.from_numpy(case.rows())


@pytest.mark.parametrize("head_dim", case.HEAD_DIMS)
def test_rope_at_every_position(head_dim):
    reference = Llama3ScaledRoPE(head_dim, CONTEXT_ROWS, 500_000, 32).cache
    apart = (rope_table(head_dim, CONTEXT_ROWS, RopeScaling()) - reference).abs().amax((1, 2))
    assert apart.shape == (CONTEXT_ROWS,)
    assert apart.max() <= 1e-5


def test_hidden_states_beside_torchtune(ours, torchtune, rows):
    assert (ours.hidden_states(rows) - torchtune.hidden_states(rows.long())).abs().max() <= LOGITS


def test_all_32_heads_beside_torchtune_and_transformers(ours, torchtune, transformers, rows):
    hidden = torchtune.hidden_states(rows.long())[-6:]
    codes = torch.from_numpy(case.codes(6, stream=900))
    logits = ours.forced_logits(hidden, codes)
    assert logits.shape == (6, 32, 2051)
    assert (logits - torchtune.forced_logits(hidden, codes)).abs().max() <= LOGITS
    assert (logits - theirs.forced_logits(transformers, hidden, codes)).abs().max() <= LOGITS


def test_greedy_codes_beside_transformers_own_loop(ours, transformers, rows):
    inputs = theirs.embedded(transformers, case.segments(), case.last_text())
    said = theirs.greedy(transformers, inputs, 5)
    assert said.shape == (5, 32)
    assert torch.equal(greedy(ours, rows, 5), said)


@pytest.mark.parametrize("shard_size", ["2GB", "10MB"])
def test_what_transformers_saves_is_read_back(shape, source, transformers, tmp_path, shard_size):
    codec = transformers.codec_model
    transformers.codec_model = torch.nn.Linear(2, 2)  # a stand-in for Mimi's tensors, to be ignored
    try:
        transformers.save_pretrained(tmp_path, max_shard_size=shard_size)
    finally:
        transformers.codec_model = codec
    index = tmp_path / "model.safetensors.index.json"
    path = index if index.exists() else tmp_path / "model.safetensors"
    assert index.exists() == (shard_size == "10MB")
    checkpoint = open_checkpoint(path, shape=shape)
    assert checkpoint.layout == "transformers"
    assert set(checkpoint) == set(source)
    for name in source:
        assert torch.equal(checkpoint[name], source[name]), name


def test_transformers_stops_at_31_zeros(source, shape):
    """Sesame goes on unless all 32 are 0. Weights whose heads prefer 0, but for the last one's 7."""
    state = {name: source[name].float() for name in source}
    for name in ("codebook0_head.weight", "audio_head"):
        state[name] = torch.zeros_like(state[name])
    state["audio_head"][-1, :, 7] = 1.0
    state["decoder.norm.scale"] = torch.ones_like(state["decoder.norm.scale"])
    model = theirs.build(shape, as_transformers(state, shape))
    inputs = theirs.embedded(model, case.segments(), case.last_text())
    hidden = theirs.hidden_states(model, inputs)[-1:]
    last = theirs.forced_logits(model, hidden, torch.zeros(1, 32, dtype=torch.long))[0, -1]
    if last[7] < 0:  # the sum of the last hidden state decides the sign
        model.depth_decoder.codebooks_head.weight.data[-1, :, 7] *= -1
    said = theirs.greedy(model, inputs, 4)
    assert said.tolist() == [[0] * 31 + [7]]


def test_the_golden_vectors_are_what_the_references_say(tmp_path, capsys):
    assert derive_csm.derive(tmp_path / "csm.npz")
    with np.load(GOLDEN) as kept, np.load(tmp_path / "csm.npz") as fresh:
        assert set(kept) == set(fresh)
        for name in kept:
            assert np.abs(kept[name].astype(float) - fresh[name].astype(float)).max() <= 1e-4, name
