import torch

from models.csm.cache import KvCache, attend_batch, attend_rows
from models.csm.shapes import CSM_TINY

SHAPE = CSM_TINY.backbone


def a_cache(slots=4, rows=24):
    cache = KvCache.empty(SHAPE, slots, rows, dtype=torch.float32, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    cache.k.normal_(generator=generator)
    cache.v.normal_(generator=generator)
    return cache


def a_row(batch, seed=1):
    generator = torch.Generator().manual_seed(seed)
    heads = (SHAPE.heads, SHAPE.kv_heads, SHAPE.kv_heads)
    return [torch.randn(batch, n, SHAPE.head_dim, generator=generator) for n in heads]


def test_a_saved_beginning_is_restored_elsewhere():
    cache = a_cache()
    saved = cache.save(1, 7)
    kept = cache.k[:, 1, :, :7].clone()
    cache.forget(1)
    assert not cache.k[:, 1].any() and not cache.v[:, 1].any()
    rest = cache.k[:, 3, :, 7:].clone()
    cache.restore(saved, 3)
    assert torch.equal(cache.k[:, 3, :, :7], kept) and torch.equal(cache.k[:, 3, :, 7:], rest)


def test_forgetting_keeps_the_rows_before():
    cache = a_cache()
    before = cache.v.clone()
    cache.forget(2, kept=5)
    assert not cache.v[:, 2, :, 5:].any()
    before[:, 2, :, 5:] = 0
    assert torch.equal(cache.v, before)


def test_both_ways_to_attend_agree_and_leave_the_same_cache():
    positions, active = torch.tensor([9, 0, 15, 3]), torch.tensor([True, True, True, False])
    by_rows, at_once = a_cache(), a_cache()
    row = a_row(4)
    for layer in range(SHAPE.layers):
        one = attend_rows(by_rows, torch.arange(4), positions, active)(layer, *row)
        two = attend_batch(at_once, positions, active, span=16)(layer, *row)
        torch.testing.assert_close(one[:3], two[:3], rtol=1e-5, atol=1e-6)
        assert not one[3].any() and two[3].isfinite().all()
    assert torch.equal(by_rows.k, at_once.k) and torch.equal(by_rows.v, at_once.v)
    assert torch.equal(by_rows.k[:, 3], a_cache().k[:, 3]), "an inactive slot is as it was"
    assert torch.equal(by_rows.k[1, 2, :, 15], row[1][2])


def test_slots_may_stand_in_any_order_row_by_row():
    cache, row = a_cache(), a_row(2)
    active = torch.tensor([True, True])
    found = attend_rows(cache, torch.tensor([3, 1]), torch.tensor([5, 8]), active)(0, *row)
    swapped = [part.flip(0) for part in row]
    other = attend_rows(a_cache(), torch.tensor([1, 3]), torch.tensor([8, 5]), active)(0, *swapped)
    assert torch.equal(found, other.flip(0))


def test_rows_beyond_the_position_are_not_seen():
    cache, clean = a_cache(), a_cache()
    cache.k[:, :, :, 11:] = 1e4
    positions, active = torch.full((4,), 10), torch.ones(4).bool()
    one = attend_batch(cache, positions, active, span=24)(0, *a_row(4))
    assert torch.equal(one, attend_batch(clean, positions, active, span=24)(0, *a_row(4)))
