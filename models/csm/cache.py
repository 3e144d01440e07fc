"""Keys and values of the backbone, a place for each slot, and the ways to attend to them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.csm.layers import attend_causal, attend_last
from models.csm.shapes import TransformerShape
from models.csm.transformer import Attend


@dataclass(frozen=True, slots=True)
class KvCache:
    """Static; the caller keeps the books of how many rows of a slot are valid."""

    k: Tensor
    """(layers, slots, kv_heads, rows, head_dim)."""
    v: Tensor

    @staticmethod
    def empty(
        shape: TransformerShape, slots: int, rows: int, *, dtype: torch.dtype, device: torch.device
    ) -> "KvCache":
        # Zeros: a row that is masked out still takes part in the sums, multiplied by 0.
        sizes = (shape.layers, slots, shape.kv_heads, rows, shape.head_dim)
        return KvCache(
            torch.zeros(sizes, dtype=dtype, device=device), torch.zeros(sizes, dtype=dtype, device=device)
        )

    @property
    def slots(self) -> int:
        return self.k.shape[1]

    @property
    def rows(self) -> int:
        return self.k.shape[3]

    def forget(self, slot: int, kept: int = 0) -> None:
        """Wipe a slot from row `kept` on."""
        self.k[:, slot, :, kept:] = 0
        self.v[:, slot, :, kept:] = 0

    def save(self, slot: int, n_rows: int) -> tuple[Tensor, Tensor]:
        """Copies (layers, kv_heads, n_rows, head_dim) of the slot's first rows."""
        return self.k[:, slot, :, :n_rows].clone(), self.v[:, slot, :, :n_rows].clone()

    def restore(self, saved: tuple[Tensor, Tensor], slot: int) -> None:
        n_rows = saved[0].shape[2]
        self.k[:, slot, :, :n_rows] = saved[0]
        self.v[:, slot, :, :n_rows] = saved[1]


def attend_prefill(cache: KvCache, slot: int, start: int) -> Attend:
    """Rows start, start + 1, ... of one slot, each seeing the rows before it."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = cache.k[layer, slot], cache.v[layer, slot]
        end = start + len(k)
        keys[:, start:end] = k.transpose(0, 1)
        values[:, start:end] = v.transpose(0, 1)
        seen_k, seen_v = keys[None, :, :end], values[None, :, :end]
        return attend_causal(q[None].to(seen_k.dtype), seen_k, seen_v)[0].to(q.dtype)

    return attend


def attend_whole() -> Attend:
    """All rows of one sequence at once; nothing is kept."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_causal(q[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None])[0]

    return attend


def attend_rows(cache: KvCache, slots: Tensor, positions: Tensor, active: Tensor) -> Attend:
    """A new row of each active slot, slot by slot over exactly the keys there are. For CPUs, where reading
    the cache is the cost and the numbers are at hand. An inactive row's result is 0."""
    places = [
        (row, slot, position)
        for row, (slot, position, is_active) in enumerate(
            zip(slots.tolist(), positions.tolist(), active.tolist(), strict=True)
        )
        if is_active
    ]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = torch.zeros(len(q), q.shape[1] * q.shape[2], dtype=q.dtype)
        narrow = q.to(cache.k.dtype)
        for row, slot, position in places:
            keys, values = cache.k[layer, slot], cache.v[layer, slot]
            keys[:, position] = k[row]
            values[:, position] = v[row]
            end = position + 1
            mixed[row] = attend_last(narrow[row, None], keys[None, :, :end], values[None, :, :end])[0]
        return mixed

    return attend


def attend_batch(cache: KvCache, positions: Tensor, active: Tensor, span: int) -> Attend:
    """A new row of each active slot, all at once over the first `span` rows of the cache: batch row i is slot
    i. Nothing depends on the data, so it can be captured. An inactive row sees row 0 and its result means
    nothing."""
    batch = torch.arange(len(positions), device=positions.device)
    seen = torch.arange(span, device=positions.device) <= torch.where(active, positions, 0).unsqueeze(1)
    is_active = active[:, None, None]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = cache.k[layer, : len(q)], cache.v[layer, : len(q)]
        for held, new in ((keys, k), (values, v)):
            # An inactive slot may be full, or rest: what stands there stays.
            held[batch, :, positions] = torch.where(is_active, new.to(held.dtype), held[batch, :, positions])
        mixed = attend_last(q.to(keys.dtype), keys[:, :, :span], values[:, :, :span], seen)
        return mixed.to(q.dtype)

    return attend


class DecoderCache:
    """The decoder's keys and values of one CodecFrame: 32 positions, forgotten with it. All rows of a batch
    are at the same position, a constant of the program."""

    def __init__(self, shape: TransformerShape, batch: int, rows: int, like: Tensor) -> None:
        sizes = (2, shape.layers, batch, shape.kv_heads, rows, shape.head_dim)
        self._held = torch.empty(sizes, dtype=like.dtype, device=like.device)

    def first_two(self) -> Attend:
        """Rows are (batch, 2) flattened: positions 0 and 1."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._held[0, layer, :, :, :2], self._held[1, layer, :, :, :2]
            keys.copy_(k.reshape(-1, 2, *k.shape[1:]).transpose(1, 2))
            values.copy_(v.reshape(-1, 2, *v.shape[1:]).transpose(1, 2))
            return attend_causal(q.reshape(-1, 2, *q.shape[1:]), keys, values).flatten(0, 1)

        return attend

    def at(self, position: int) -> Attend:
        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._held[0, layer], self._held[1, layer]
            keys[:, :, position] = k
            values[:, :, position] = v
            return attend_last(q, keys[:, :, : position + 1], values[:, :, : position + 1])

        return attend
