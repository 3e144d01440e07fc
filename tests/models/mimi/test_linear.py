"""Packed products and plain ones."""

import pytest
import torch

from models.mimi import linear
from models.mimi.linear import Dense


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 5), (1, 2, 5), (4, 16, 5)])
def test_packed_or_not_it_is_the_same_product(monkeypatch, shape, with_bias):
    torch.manual_seed(1)
    weight, x = torch.randn(7, 5), torch.randn(shape)
    bias = torch.randn(7) if with_bias else None
    expected = x @ weight.T + (0 if bias is None else bias)
    assert torch.allclose(Dense(weight, bias)(x), expected, atol=1e-5)
    monkeypatch.setattr(linear, "_packs", lambda weight: False)
    assert torch.allclose(Dense(weight, bias)(x), expected, atol=1e-5)


def test_overlapping_rows():
    """Windows of a convolution, as they come: views whose rows share memory, in every row of the batch."""
    torch.manual_seed(1)
    weight, x = torch.randn(7, 6), torch.randn(3, 10, 2)
    seen = x.as_strided((3, 8, 6), (20, 2, 1))
    assert torch.allclose(Dense(weight)(seen), seen.clone() @ weight.T, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_other_rows_change_no_bit(rows):
    torch.manual_seed(1)
    product, x = Dense(torch.randn(512, 256)), torch.randn(rows, 256)
    other = x.clone()
    other[1:] = 100 * torch.randn(rows - 1, 256)
    assert torch.equal(product(x)[0], product(other)[0])


def test_nothing_is_packed_where_there_is_nothing():
    assert Dense(torch.empty(7, 5, device="meta"))(torch.empty(2, 5, device="meta")).shape == (2, 7)
