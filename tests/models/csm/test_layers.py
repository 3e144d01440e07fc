import torch

from models.csm.layers import attend_causal, attend_last, attend_masked, rms_norm, rotate, swiglu
from models.csm.rope import rope_table
from models.csm.shapes import RopeScaling, TransformerShape
from models.csm.transformer import Transformer, complex_turns


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def by_hand(q, k, v):
    """One query (heads, head_dim) over (kv_heads, n, head_dim), in float64: query head h reads h // group."""
    group = len(q) // len(k)
    out = []
    for head, query in enumerate(q.double()):
        scores = k[head // group].double() @ query / query.numel() ** 0.5
        out.append(torch.softmax(scores, 0) @ v[head // group].double())
    return torch.cat(out)


def test_rms_norm():
    x, scale = normal(3, 5, 64), normal(64, seed=1)
    wide = x.double()
    expected = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale
    torch.testing.assert_close(rms_norm(x, scale, 1e-5).double(), expected, rtol=1e-5, atol=1e-6)
    assert rms_norm(x.bfloat16(), scale, 1e-5).dtype == torch.bfloat16


def test_the_final_norm_has_the_shapes_epsilon():
    """Of no layers; on numbers so small that it is the epsilon that counts."""
    x, scale, shape = (
        normal(3, 64) * 1e-3,
        normal(64, seed=1),
        TransformerShape(0, 64, 0, 4, 4, norm_eps=1e-4),
    )
    found = Transformer(shape, [], scale)(x, torch.empty(0), lambda *_: x)
    torch.testing.assert_close(found, rms_norm(x, scale, 1e-4), rtol=0, atol=0)


def test_rotation_turns_neighbouring_pairs():
    angle = torch.tensor(0.3)
    turns = torch.polar(torch.ones(1, 2), torch.stack([angle, angle * 0])[None])
    found = rotate(torch.tensor([[[1.0, 0.0, 5.0, 7.0]]]), turns)
    expected = torch.tensor([[[angle.cos(), angle.sin(), 5.0, 7.0]]])
    torch.testing.assert_close(found, expected)


def test_scores_depend_on_the_distance_alone():
    turns = complex_turns(rope_table(64, 600, RopeScaling()))
    q, k = normal(1, 4, 64), normal(1, 4, 64, seed=1)

    def scores(query, key):
        return (rotate(q, turns[query : query + 1]) * rotate(k, turns[key : key + 1])).sum(-1)

    torch.testing.assert_close(scores(7, 3), scores(504, 500), rtol=1e-3, atol=1e-3)
    assert (scores(7, 3) - scores(8, 3)).abs().max() > 0.1


def test_swiglu_takes_the_gate_first():
    gate, up = normal(2, 8), normal(2, 8, seed=1)
    found = swiglu(torch.cat([gate, up], 1))
    torch.testing.assert_close(found, gate * torch.sigmoid(gate) * up)


def test_attention_of_the_last_position():
    q, k, v = normal(2, 6, 16), normal(2, 3, 9, 16, seed=1), normal(2, 3, 9, 16, seed=2)
    found = attend_last(q, k, v)
    for row in range(2):
        expected = by_hand(q[row], k[row], v[row])
        torch.testing.assert_close(found[row].double(), expected, rtol=1e-5, atol=1e-5)
    seen = torch.arange(9) < torch.tensor([[4], [9]])
    masked = attend_last(q, k, v, seen)
    expected = by_hand(q[0], k[0, :, :4], v[0, :, :4])
    torch.testing.assert_close(masked[0].double(), expected, rtol=1e-5, atol=1e-5)


def test_causal_attention_sees_the_past_and_itself():
    q, k, v = normal(2, 5, 6, 16), normal(2, 3, 9, 16, seed=1), normal(2, 3, 9, 16, seed=2)
    for skipped in (0, 4):  # n < m, and n == m
        keys, values = k[:, :, : 9 - skipped], v[:, :, : 9 - skipped]
        found = attend_causal(q, keys, values)
        for row in range(2):
            for i in range(5):
                end = keys.shape[2] - 4 + i
                expected = by_hand(q[row, i], keys[row, :, :end], values[row, :, :end])
                torch.testing.assert_close(found[row, i].double(), expected, rtol=1e-5, atol=1e-5)


def test_heads_of_a_group_as_more_queries_see_the_same():
    q, k, v = normal(2, 5, 6, 16), normal(2, 3, 9, 16, seed=1), normal(2, 3, 9, 16, seed=2)
    seen = torch.ones(5, 9, dtype=torch.bool).tril(4)
    torch.testing.assert_close(attend_masked(q, k, v, seen), attend_causal(q, k, v), rtol=1e-5, atol=1e-5)


def test_everything_can_be_differentiated():
    turns = complex_turns(rope_table(16, 5, RopeScaling()))
    leaves = [normal(5, 6, 16), normal(5, 3, 16, seed=1), normal(5, 3, 16, seed=2), normal(96, seed=3)]
    for leaf in leaves:
        leaf.requires_grad_()
    q, k, v, scale = leaves
    mixed = attend_causal(
        rotate(q, turns)[None], rotate(k, turns).transpose(0, 1)[None], v.transpose(0, 1)[None]
    )
    swiglu(rms_norm(mixed, scale, 1e-5)).square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any() for leaf in leaves)
