"""Convolutions as matrix products, against torch's own."""

import pytest
import torch
from torch.nn import functional

from models.mimi import convolution
from models.mimi.convolution import (
    ChannelwiseUpsampling,
    Convolution,
    Downsampling,
    Residual,
    Stack,
    Transposed,
    windows,
)

STEPS = 48


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def in_pieces(layer, x, sizes):
    past, out = layer.fresh(len(x)), []
    for piece in x.split(sizes, 1):
        y, past = layer(piece.clone(), past)
        out.append(y)
    return torch.cat(out, 1)


def by_torch(x, weight, bias, stride):
    padded = functional.pad(x.transpose(1, 2), (weight.shape[2] - stride, 0))
    return functional.conv1d(padded, weight, bias, stride).transpose(1, 2)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 1), (3, 1), (1, 1), (8, 4), (12, 6), (16, 8)])
def test_a_convolution_whole_and_in_pieces(monkeypatch, kernel, stride, large):
    monkeypatch.setattr(convolution, "_SMALL", 0 if large else 10**6)
    weight, bias, x = torch.randn(5, 3, kernel), torch.randn(5), torch.randn(2, STEPS, 3)
    layer = Convolution(weight, bias, stride=stride)
    expected = by_torch(x, weight, bias, stride)
    for sizes in ([STEPS], [stride] * (STEPS // stride), [STEPS // 2, STEPS // 2]):
        assert torch.allclose(in_pieces(layer, x, sizes), expected, atol=1e-5)


def test_an_activated_convolution_applies_elu_first_and_keeps_its_past_as_it_was():
    weight, bias, x = torch.randn(5, 3, 3), torch.randn(5), torch.randn(2, STEPS, 3)
    expected = by_torch(functional.elu(x), weight, bias, 1)
    layer = Convolution(weight, bias, activated=True)
    for sizes in ([STEPS], [1] * STEPS, [7, 2, 39]):
        assert torch.allclose(in_pieces(layer, x, sizes), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [2, 4, 5, 6, 8])
def test_a_transposed_convolution_whole_and_in_pieces(stride):
    weight, bias, x = torch.randn(3, 5, 2 * stride), torch.randn(5), torch.randn(2, STEPS, 3)
    expected = functional.conv_transpose1d(functional.elu(x).transpose(1, 2), weight, bias, stride)
    expected = expected[:, :, : STEPS * stride].transpose(1, 2)
    layer = Transposed(weight, bias)
    for sizes in ([STEPS], [1] * STEPS, [2, 44, 2]):
        assert torch.allclose(in_pieces(layer, x, sizes), expected, atol=1e-5)


def test_channelwise_upsampling():
    weight, x = torch.randn(6, 1, 4), torch.randn(2, STEPS, 6)
    expected = functional.conv_transpose1d(x.transpose(1, 2), weight, None, 2, groups=6)
    expected = expected[:, :, : 2 * STEPS].transpose(1, 2)
    for sizes in ([STEPS], [1] * STEPS):
        assert torch.allclose(in_pieces(ChannelwiseUpsampling(weight), x, sizes), expected, atol=1e-6)


def test_downsampling_begins_with_its_first_step_repeated():
    weight, x = torch.randn(6, 6, 4), torch.randn(2, STEPS, 6)
    padded = torch.cat((x[:, :1], x[:, :1], x), 1).transpose(1, 2)
    expected = functional.conv1d(padded, weight, None, 2).transpose(1, 2)
    for sizes in ([STEPS], [2] * (STEPS // 2), [4, 44]):
        assert torch.allclose(in_pieces(Downsampling(weight), x, sizes), expected, atol=1e-5)


def a_stack():
    shapes = ((2, 4, 3), (4, 2, 1))
    narrow, wide = (Convolution(torch.randn(s), torch.randn(s[0]), activated=True) for s in shapes)
    return Stack([Residual(narrow, wide), Convolution(torch.randn(3, 4, 5), torch.randn(3), activated=True)])


def test_a_stack_in_pieces_and_row_by_row():
    stack, x = a_stack(), torch.randn(4, STEPS, 4)
    whole, past = stack(x.clone(), stack.fresh(4))
    assert torch.allclose(in_pieces(stack, x, [3, 1, 44]), whole, atol=1e-5)
    alone, past_alone = stack.alone(x.clone(), stack.fresh(4))
    assert torch.allclose(alone, whole, atol=1e-5)
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(past, past_alone, strict=True))


def test_windows_overlap_without_a_copy():
    x = torch.arange(2 * 6 * 2.0).view(2, 6, 2)
    seen = windows(x, 3, 1)
    assert seen.shape == (2, 4, 6)
    assert seen.data_ptr() == x.data_ptr()
    assert torch.equal(seen[1, 2], x[1, 2:5].flatten())
    assert torch.equal(windows(x, 4, 2)[0, 1], x[0, 2:6].flatten())
