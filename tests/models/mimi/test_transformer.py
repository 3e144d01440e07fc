"""The window, the ring and its two ways of attending."""

import pytest
import torch

from models.mimi.config import MIMI_TINY
from models.mimi.random_mimi import RandomSource
from models.mimi.transformer import Transformer, _attend_batch, _attend_each, _windowed

WINDOW = 10
HEADS, WIDTH = 2, 8


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def heads(*shape):
    return torch.randn(*shape, HEADS, 2, WIDTH)


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 20, 47])
def test_whole_attention_sees_itself_and_what_the_window_holds(steps):
    q, k, v = torch.randn(3, 1, HEADS, steps, WIDTH)
    heard = _windowed(q, k, v, WINDOW)
    for at in range(steps):
        since = max(0, at - WINDOW + 1)
        weights = (q[:, :, at : at + 1] @ k[:, :, since : at + 1].transpose(2, 3)).softmax(3)
        assert torch.allclose(heard[:, :, at : at + 1], weights @ v[:, :, since : at + 1], atol=1e-5)


def test_both_ways_of_attending_agree_and_leave_the_same_ring():
    """Three of five slots, each at another position, over more CodecFrames than the ring holds."""
    rings = [torch.zeros(2, 5, HEADS, WINDOW, WIDTH) for _ in range(2)]
    slots, positions = torch.tensor([3, 0, 4]), torch.tensor([0, 4, 8])
    for _ in range(12):
        q, k, v = heads(3), heads(3), heads(3)
        places = list(zip(slots.tolist(), positions.tolist(), strict=True))
        each = _attend_each(q, k, v, *rings[0], places)
        steps = positions[:, None] + torch.arange(2)
        # What a slot never wrote is masked in the one way and outside the view in the other.
        batch = _attend_batch(q, k, v, *rings[1], slots, steps)
        assert torch.allclose(each, batch, atol=1e-6)
        assert torch.equal(*rings)
        positions += 2


def test_a_full_ring_hides_from_the_first_step_what_the_second_overwrote():
    keys, values = torch.randn(2, 1, HEADS, WINDOW, WIDTH)
    q, k, v = heads(1), heads(1), heads(1)
    heard = _attend_each(q, k, v, keys, values, [(0, 24)])
    seen = [row for row in range(WINDOW) if row != 5]  # 24 and 25 lie in rows 4 and 5
    weights = (q[0, :, :1] @ keys[0][:, seen].transpose(1, 2)).softmax(2)
    assert torch.allclose(heard[0, :, :1], weights @ values[0][:, seen], atol=1e-6)
    assert torch.equal(keys[0, :, 4:6], k[0])


def test_a_stream_equals_the_whole_until_the_ring_is_full():
    model = Transformer("decoder_transformer", RandomSource(1, MIMI_TINY), MIMI_TINY)
    x = torch.randn(1, 260, MIMI_TINY.dim)
    whole = model.whole(x)
    for together in (2, 10):
        ring, slot = model.ring(2), torch.tensor([1])
        parts = [model.stream(piece, ring, slot) for piece in x.split(together, 1)]
        apart = (torch.cat(parts, 1) - whole).abs().amax((0, 2))
        assert apart[:250].max() < 1e-4
        assert apart[250:].max() > 1e-3
        assert ring.positions.tolist() == [0, 260]


def test_a_forgotten_slot_holds_no_trace_of_not_a_number():
    model = Transformer("decoder_transformer", RandomSource(1, MIMI_TINY), MIMI_TINY)
    ring = model.ring(2)
    both, x = torch.tensor([0, 1]), torch.randn(2, 2, MIMI_TINY.dim)
    model.stream(x, ring, both)
    model.stream(torch.stack((x[0], x[1] * torch.nan)), ring, both)
    ring.forget(1)
    assert ring.positions.tolist() == [4, 0]
    assert ring.keys.isfinite().all()
    assert ring.values.isfinite().all()
    assert ring.keys[:, 0].any()
