"""Ours against vectors that torchtune and transformers gave (tests/golden/derive_csm.py)."""

import pytest
import torch

from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_TINY
from tests.golden import csm_case as case
from tests.models.csm.golden import GOLDEN, LIMITS, differences, greedy, load


@pytest.fixture(scope="module")
def model():
    return CsmModel(CSM_TINY, RandomTensors(CSM_TINY, case.SEED))


@pytest.fixture(scope="module")
def found(model):
    return differences(model, CSM_TINY)


@pytest.mark.parametrize("what", LIMITS)
def test_ours_agrees_with_the_reference(found, what):
    assert found[what] <= LIMITS[what]


def test_the_vectors_can_tell_answers_apart():
    """Weights that give every row the same answer would agree with anything."""
    golden = load()
    assert GOLDEN.stat().st_size <= 120_000
    assert len(set(golden["greedy"].ravel().tolist())) > 200
    assert golden["logits"].std() > 1
    assert len(case.rows()) == 549


def test_the_reference_loop_stops_at_31_zeros_and_none_is_among_the_vectors():
    """transformers ends at 31 zero codes, Sesame at 32: the two agree as long as neither occurs."""
    assert (load()["greedy"][:, :-1] != 0).any(axis=1).all()


def test_batch_attention_gives_the_same_codes(model):
    """The way that CUDA takes, on the CPU."""
    model.cache_attention = "batch"
    try:
        said = greedy(model, torch.from_numpy(case.rows()), case.GREEDY_CODEC_FRAMES)
    finally:
        model.cache_attention = "rows"
    assert said.tolist() == load()["greedy"].tolist()
