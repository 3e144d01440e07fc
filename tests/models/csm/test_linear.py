import warnings

import pytest
import torch

from models.csm import linear as kinds
from models.csm.linear import W8A8, Dense, Int8, linear, quantise

CPU = torch.device("cpu")


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def off_by(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture(params=["eight bits", "seven bits"])
def w8a8(request, monkeypatch):
    if request.param == "seven bits":
        monkeypatch.setattr(kinds, "_saturates", lambda: True)
    return W8A8


@pytest.mark.parametrize(("out", "width"), [(64, 64), (2051, 128), (48, 2048)])
def test_eight_bits_are_near(w8a8, out, width):
    weight, x = normal(out, width), normal(7, width, seed=1)
    assert off_by(w8a8(weight)(x), x @ weight.T) < 0.03


def test_a_row_does_not_depend_on_its_batch():
    product, x = W8A8(normal(256, 512)), normal(9, 512, seed=1)
    alone = torch.cat([product(row[None]) for row in x])
    assert torch.equal(product(x), alone), "nor on the batch's size"
    loud = x.clone()
    loud[3] *= 1e6
    kept = torch.arange(9) != 3
    assert torch.equal(product(loud)[kept], alone[kept])


def test_rows_that_are_not_numbers_stay_so_and_harm_no_other():
    product, x = W8A8(normal(256, 512)), normal(5, 512, seed=1)
    clean = product(x)
    x[1, 7], x[2, 3], x[4] = float("nan"), float("inf"), 0.0
    found = product(x)
    assert not found[1].isfinite().any() and not found[2].isfinite().any()
    assert torch.equal(found[[0, 3]], clean[[0, 3]]) and not found[4].any()


def test_sums_of_the_largest_numbers_do_not_overflow(w8a8):
    product = w8a8(torch.ones(64, 2048))
    torch.testing.assert_close(product(torch.ones(2, 2048)), torch.full((2, 64), 2048.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(product(-torch.ones(2, 2048)), torch.full((2, 64), -2048.0), rtol=1e-5, atol=0)


def test_each_output_has_its_own_scale():
    weight = normal(64, 128) * torch.logspace(-4, 4, 64).unsqueeze(1)
    weight[5] = 0
    whole, scales = quantise(weight)
    assert whole.dtype == torch.int8 and whole.abs().amax(1).tolist() == [127] * 5 + [0] + [127] * 58
    assert ((whole * scales.unsqueeze(1) - weight).abs() <= scales.unsqueeze(1) * 0.5001).all()


@pytest.mark.parametrize("product", [W8A8, lambda weight: Int8(weight, torch.float32)])
def test_a_small_output_beside_large_ones_is_as_exact(product):
    weight, x = normal(64, 128) * torch.logspace(-4, 4, 64).unsqueeze(1), normal(9, 128, seed=1)
    found, expected = product(weight)(x), x @ weight.T
    assert ((found - expected).norm(dim=0) / expected.norm(dim=0)).max() < 0.05


def test_where_sums_saturate_activations_have_seven_bits(monkeypatch):
    monkeypatch.setattr(kinds, "_saturates", lambda: True)
    x = torch.cat([torch.ones(4, 1), normal(4, 63).clamp(-1, 1)], 1)
    found = W8A8(torch.eye(64))(x) * 63
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-3)


def test_weights_alone_in_eight_bits():
    weight, x = normal(2051, 128), normal(3, 128, seed=1)
    for dtype, limit in ((torch.float32, 0.02), (torch.bfloat16, 0.02)):
        product = Int8(weight, dtype)
        found = product(x.to(dtype))
        assert found.dtype == dtype and off_by(found.float(), x @ weight.T) < limit
        product._has_kernel = False
        assert off_by(product(x.to(dtype)).float(), found.float()) < 0.01


def test_kinds():
    weight, x = normal(16, 64), normal(2, 64)
    assert torch.equal(
        linear(weight.bfloat16(), "full", torch.float32, CPU)(x), x @ weight.bfloat16().float().T
    )
    assert isinstance(linear(weight, "w8a8", torch.float32, CPU), W8A8)
    assert isinstance(linear(weight, "int8", torch.float32, CPU), Int8)
    assert isinstance(linear(weight, "full", torch.float32, torch.device("meta")), Dense)


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        W8A8(normal(16, 64))(normal(1, 64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("out", "width"), [(2051, 1024), (3072, 2048), (1024, 8192)])
def test_weights_alone_in_eight_bits_on_a_gpu(out, width):
    weight, x = normal(out, width), normal(4, width, seed=1)
    product = Int8(weight.cuda(), torch.bfloat16)
    assert off_by(product(x.cuda().bfloat16()).float().cpu(), x @ weight.T) < 0.02
