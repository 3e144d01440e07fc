"""Ours against vectors that moshi gave (tests/golden/derive_mimi.py)."""

import pytest
import torch

from models.mimi.random_mimi import random_mimi
from tests.golden import mimi_case as case
from tests.models.mimi.golden import GOLDEN, LIMITS, answers, differences, kept_samples, load, stream_encoded


@pytest.fixture(scope="module")
def tiny():
    return random_mimi(case.SEED, tiny=True)


@pytest.fixture(scope="module")
def found(tiny):
    return differences(tiny)


@pytest.mark.parametrize("what", LIMITS)
def test_ours_agrees_with_moshi(found, what):
    assert found[what] <= LIMITS[what]


def test_how_a_stream_of_sound_is_cut_changes_no_code(tiny):
    codes = stream_encoded(tiny, torch.from_numpy(case.audio()), together=7)
    assert torch.equal(codes, torch.from_numpy(load()["stream_codes"]).long())


def test_mimi_at_its_own_size():
    found = answers(random_mimi(case.SEED), ("stream", "stream_codes"), case.FULL_CODEC_FRAMES)
    golden = load()
    apart = (kept_samples(found["stream"]) - torch.from_numpy(golden["full_stream"])).abs().max()
    assert apart <= LIMITS["stream"]
    assert torch.equal(found["stream_codes"], torch.from_numpy(golden["full_codes"]).long())


def test_the_vectors_can_tell_answers_apart():
    golden = load()
    assert GOLDEN.stat().st_size <= 60_000
    assert golden["stream"].std() > 0.05
    assert len(set(golden["stream_codes"].ravel().tolist())) > 500
    # From CodecFrame 125 on moshi's ring has let go of what its whole attention still sees.
    apart = abs(golden["stream"] - golden["whole"]).max(1)
    assert apart[:125].max() < 1e-6
    assert apart[125:].max() > 1e-4
    assert (golden["stream_codes"] != golden["whole_codes"]).any()
