"""Random weights: the same everywhere, and telling."""

import hashlib

import torch

from models.mimi.config import MIMI, MIMI_TINY
from models.mimi.names import mimi_names
from models.mimi.random_mimi import RandomSource, random_mimi, random_mimi_tensors


def test_the_same_bits_for_a_seed():
    one, again, other = (random_mimi_tensors(seed, tiny=True) for seed in (1, 1, 2))
    assert one.keys() == mimi_names(MIMI_TINY).keys()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    bits = one["decoder.model.0.conv.conv.weight"].numpy().tobytes()
    assert hashlib.sha256(bits).hexdigest()[:16] == "9d9f8888a2220e12"


def test_a_tensor_depends_on_its_name_alone():
    source = RandomSource(1, MIMI_TINY)
    assert torch.equal(source["downsample.conv.conv.conv.weight"], source["downsample.conv.conv.conv.weight"])
    one, other = (source[f"quantizer.rvq_rest.vq.layers.{i}._codebook.embedding_sum"] for i in (0, 1))
    assert not torch.equal(one, other)


def test_what_must_tell_an_implementation_apart():
    tensors = random_mimi_tensors(1, tiny=True)
    for name, tensor in tensors.items():
        if name.endswith("cluster_usage"):
            assert 0.1 <= tensor.min() < 0.2
            assert 5 < tensor.max() <= 10
        elif name.endswith(".scale"):
            assert 0.5 < tensor.mean() < 1.5
        assert tensor.numel() == 1 or tensor.std() > 0.001


def test_the_noise_fills_the_range_and_no_more():
    codes = torch.randint(0, 2048, (1, 30, 32), generator=torch.Generator().manual_seed(0))
    pcm = random_mimi(1, tiny=True).decode(codes)
    assert pcm.std() > 0.03
    assert pcm.abs().max() < 1.5


def test_mimis_own_size():
    shapes = mimi_names(MIMI)
    assert len(shapes) == 286
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 96_151_361
