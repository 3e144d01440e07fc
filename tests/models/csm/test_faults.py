"""Each mistake that is easily made in CSM, made on purpose: the golden vectors must reject it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.csm import cache
from models.csm.building import Builder
from models.csm.layers import attend_causal, attend_last
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CSM_TINY
from tests.golden import csm_case as case
from tests.models.csm.checkpoints import halves_from_pairs
from tests.models.csm.golden import LIMITS, differences, rejected

BY_FAR = 10
"""A fault must exceed its limit this many times: it is found by more than luck."""


class Altered:
    """The golden weights, some of them changed."""

    def __init__(self, change):
        self._source = RandomTensors(CSM_TINY, case.SEED)
        self._change = change

    def __contains__(self, name):
        return name in self._source

    def __getitem__(self, name):
        return self._change(name, self._source[name])


def altered(change, shape=CSM_TINY):
    return CsmModel(shape, Altered(change))


def unchanged(_name, tensor):
    return tensor


def assert_rejected(model, expected, shape=CSM_TINY):
    found = differences(model, shape)
    assert set(expected) <= rejected(found), found
    assert all(not found[what] <= BY_FAR * LIMITS[what] for what in expected), found


def stack_of(name):
    return CSM_TINY.backbone if name.startswith("backbone") else CSM_TINY.decoder


# --- weights read wrongly ---


@pytest.mark.parametrize(
    ("stack", "expected"), [("backbone", {"hidden", "steps", "greedy"}), ("decoder", {"logits", "greedy"})]
)
def test_rope_layout(stack, expected):
    """q and k of a file of transformers, taken as they are."""

    def change(name, tensor):
        if not name.startswith(stack) or not name.endswith(("q_proj.weight", "k_proj.weight")):
            return tensor
        of = stack_of(name)
        return halves_from_pairs(tensor, of.heads if "q_proj" in name else of.kv_heads)

    assert_rejected(altered(change), expected)


def test_gqa_grouping():
    """Query heads dealt out to key heads in turn, not in runs."""
    of = CSM_TINY.backbone
    order = torch.arange(of.heads).view(of.kv_heads, -1).T.reshape(-1)

    def change(name, tensor):
        if name.startswith("backbone") and name.endswith("q_proj.weight"):
            return tensor.view(of.heads, -1, of.dim)[order].reshape(tensor.shape)
        if name.startswith("backbone") and name.endswith("output_proj.weight"):
            return tensor.view(of.dim, of.heads, -1)[:, order].reshape(tensor.shape)
        return tensor

    assert_rejected(altered(change), {"hidden", "steps", "greedy"})


def test_gate_and_up_exchanged():
    names = {"w1": "w3", "w3": "w1"}
    source = RandomTensors(CSM_TINY, case.SEED)

    def change(name, tensor):
        for one, other in names.items():
            if f"mlp.{one}." in name:
                return source[name.replace(one, other)]
        return tensor

    assert_rejected(altered(change), {"hidden", "logits"})


@pytest.mark.parametrize("first", [0, 1, 30])
def test_two_codebooks_swapped_in_the_embeddings(first):
    def change(name, tensor):
        if name != "audio_embeddings.weight":
            return tensor
        table = tensor.view(CODEBOOKS, AUDIO_VOCABULARY, -1).clone()
        table[[first, first + 1]] = table[[first + 1, first]]
        return table.view(tensor.shape)

    assert_rejected(altered(change), {"hidden", "logits"})


@pytest.mark.parametrize("first", [0, 15, 29])
def test_two_codebooks_swapped_in_the_heads(first):
    def change(name, tensor):
        if name != "audio_head":
            return tensor
        order = torch.arange(len(tensor))
        order[[first, first + 1]] = order[[first + 1, first]]
        return tensor[order]

    assert_rejected(altered(change), {"logits", "logsumexp", "greedy"})


def test_a_shape_with_another_norm_epsilon():
    backbone = replace(CSM_TINY.backbone, norm_eps=1e-3)
    shape = replace(CSM_TINY, backbone=backbone)
    assert_rejected(altered(unchanged, shape), {"hidden", "logits"}, shape)


# --- positions ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor": 1.0},
        {"factor": 8.0},
        {"low_frequency_factor": 2.0},
        {"original_rows": 4096},
        {"base": 10_000.0},
    ],
    ids=str,
)
def test_rope_scaling(wrong):
    shape = replace(CSM_TINY, rope=replace(CSM_TINY.rope, **wrong))
    assert_rejected(altered(unchanged, shape), {"rope", "hidden"}, shape)


def test_positions_of_the_decoder_begin_at_one():
    model = altered(unchanged)
    model._decoder_turns = model._rope(CSM_TINY.decoder.head_dim, CODEBOOKS + 1)[1:]
    # Relative positions do not change, so the numbers do not either: this is no fault, and shows it.
    assert rejected(differences(model, CSM_TINY)) == set()


def test_position_of_the_hidden_state_repeated_for_codebook_0():
    model = altered(unchanged)
    right = model._rope(CSM_TINY.decoder.head_dim, CODEBOOKS)
    model._decoder_turns = torch.cat([right[:1], right[:-1]])
    assert_rejected(model, {"logits", "greedy"})


# --- masks and windows ---


def test_rows_see_what_comes_after_them(monkeypatch):
    def all_seen(q, k, v):
        groups = q.shape[2] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        return F.scaled_dot_product_attention(q.transpose(1, 2), k, v).transpose(1, 2).flatten(2)

    monkeypatch.setattr(cache, "attend_causal", all_seen)
    assert_rejected(altered(unchanged), {"hidden", "steps"})


@pytest.mark.parametrize("name", ["attend_last", "attend_causal"])
def test_the_window_begins_a_row_late(monkeypatch, name):
    """The first key is forgotten, where there is more than one."""
    right = {"attend_last": attend_last, "attend_causal": attend_causal}[name]

    def late(q, k, v, *mask):
        if (name == "attend_causal" and q.shape[1] == k.shape[2]) or k.shape[2] < 3:
            return right(q, k, v, *mask)
        return right(q, k[:, :, 1:], v[:, :, 1:], *mask)

    monkeypatch.setattr(cache, name, late)
    assert_rejected(altered(unchanged), {"steps"})


def test_a_decode_step_does_not_see_its_own_row(monkeypatch):
    def short(q, k, v, *mask):
        return attend_last(q, k[:, :, :-1], v[:, :, :-1], *mask)

    monkeypatch.setattr(cache, "attend_last", short)
    assert_rejected(altered(unchanged), {"steps", "logits", "greedy"})


def test_columns_that_are_not_valid_count_as_zeros(monkeypatch):
    right = CsmModel._embed_rows
    monkeypatch.setattr(CsmModel, "_embed_rows", lambda self, rows: right(self, rows.clamp(min=0)))
    assert_rejected(altered(unchanged), {"hidden", "greedy"})


# --- the decoder's loop ---


def test_projection_replaced_but_the_input_table_not_rebuilt(monkeypatch):
    """A model that was loaded with another projection, then given the right one."""
    right = RandomTensors(CSM_TINY, case.SEED)["projection.weight"]
    model = altered(lambda name, tensor: tensor.flip(0) if name == "projection.weight" else tensor)
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "input_table", lambda *_: model._inputs)
        model.replace_parts(projection=right)
    assert_rejected(model, {"logits", "greedy"})
    model.replace_parts(projection=right)
    assert rejected(differences(model, CSM_TINY)) == set()


def test_the_decoder_reads_its_codes_from_the_next_codebooks_table(monkeypatch):
    right = CsmModel._input

    def next_table(self, codebook, codes):
        return right(self, min(codebook + 1, CODEBOOKS - 2), codes)

    monkeypatch.setattr(CsmModel, "_input", next_table)
    assert_rejected(altered(unchanged), {"logits", "greedy"})
