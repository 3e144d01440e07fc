"""Mimi's transformers: causal, a window of 250 steps, interleaved RoPE, layer scales.

Whole, a step sees itself and the 249 before it. Streaming, moshi writes both steps of a CodecFrame into a
ring of 250 rows before either attends, so the first of the two sees one step less; that is kept, because
Kyutai's own streams are made so.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.mimi.config import STEPS_PER_CODEC_FRAME, MimiConfig
from models.mimi.linear import Dense
from models.mimi.source import Source

_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class LayerWeights:
    qkv: Dense
    out: Dense
    norm1: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    up: Dense
    down: Dense
    scale1: Tensor
    scale2: Tensor


@dataclass(frozen=True, slots=True)
class Ring:
    """Keys and values of the last `window` steps of several slots."""

    keys: Tensor
    """(layers, slots, heads, window, head_dim); the step at position p lies in row p % window."""
    values: Tensor
    positions: Tensor
    """(slots,) int64: steps so far."""

    def forget(self, slot: int) -> None:
        # Zeros, not stale rows: a masked key's weight is 0, and 0 times not-a-number is not 0.
        self.keys[:, slot].zero_()
        self.values[:, slot].zero_()
        self.positions[slot].zero_()


class Transformer:
    def __init__(self, prefix: str, source: Source, config: MimiConfig) -> None:
        self.config = config
        self.layers = [
            _layer(f"{prefix}.transformer.layers.{i}", source, config) for i in range(config.layers)
        ]
        pairs = torch.arange(config.head_dim // 2, dtype=torch.float32)
        frequencies = torch.exp(pairs * (-math.log(config.rope_base) * 2 / config.head_dim))
        self._frequencies = frequencies.to(self.layers[0].qkv.device)

    def ring(self, slots: int) -> Ring:
        c = self.config
        size = (c.layers, slots, c.heads, c.window, c.head_dim)
        like = self.layers[0].scale1
        return Ring(like.new_zeros(size), like.new_zeros(size), like.new_zeros(slots, dtype=torch.int64))

    def whole(self, x: Tensor) -> Tensor:
        """(b, steps, dim) from the beginning of a stream to its end."""
        rotation = self._rotation(torch.arange(x.shape[1], device=x.device)[None])
        for weights in self.layers:
            q, k, v = self._queries_keys_values(x, weights, rotation)
            x = self._finish(x, _windowed(q, k, v, self.config.window), weights)
        return x

    def stream(self, x: Tensor, ring: Ring, slots: Tensor) -> Tensor:
        """The next steps, a CodecFrame's or several, of some slots: (b, 2 * k, dim)."""
        positions = ring.positions.index_select(0, slots)
        steps = positions[:, None] + torch.arange(x.shape[1], device=x.device)
        rotation = self._rotation(steps)
        on_cpu = x.device.type == "cpu"
        # On the CPU each slot attends to exactly the rows that it has; elsewhere to all rows, masked, because
        # how many there are must not be asked of the device.
        places = (slots.tolist(), positions.tolist()) if on_cpu else None
        for number, weights in enumerate(self.layers):
            q, k, v = self._queries_keys_values(x, weights, rotation)
            keys, values = ring.keys[number], ring.values[number]
            parts = []
            for at in range(0, x.shape[1], STEPS_PER_CODEC_FRAME):
                pair = slice(at, at + STEPS_PER_CODEC_FRAME)
                q_, k_, v_ = q[:, :, pair], k[:, :, pair], v[:, :, pair]
                if places is not None:
                    rows = zip(*places, strict=True)
                    parts.append(_attend_each(q_, k_, v_, keys, values, [(s, p + at) for s, p in rows]))
                else:
                    parts.append(_attend_batch(q_, k_, v_, keys, values, slots, steps[:, pair]))
            heard = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
            x = self._finish(x, heard, weights)
        ring.positions.index_copy_(0, slots, positions + x.shape[1])
        return x

    def _rotation(self, steps: Tensor) -> Tensor:
        """(b, n) -> complex (b, 1, n, head_dim / 2)."""
        angles = self._frequencies * steps[:, None, :, None].float()
        return torch.complex(torch.cos(angles), torch.sin(angles))

    def _queries_keys_values(
        self, x: Tensor, weights: LayerWeights, rotation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each (b, heads, n, head_dim), the first two rotated."""
        normed = functional.layer_norm(x, x.shape[-1:], *weights.norm1, eps=_EPS)
        qkv = weights.qkv(normed)
        heads = self.config.heads
        qkv = qkv.view(*qkv.shape[:2], 3 * heads, -1).transpose(1, 2)
        pairs = torch.view_as_complex(torch.unflatten(qkv[:, : 2 * heads], 3, (-1, 2)))
        rotated = torch.view_as_real(pairs * rotation).flatten(3)
        return rotated[:, :heads], rotated[:, heads:], qkv[:, 2 * heads :]

    def _finish(self, x: Tensor, heard: Tensor, weights: LayerWeights) -> Tensor:
        """What follows the attention; `heard` (b, heads, n, head_dim)."""
        x = x + weights.scale1 * weights.out(heard.transpose(1, 2).flatten(2))
        normed = functional.layer_norm(x, x.shape[-1:], *weights.norm2, eps=_EPS)
        update = weights.down(functional.gelu(weights.up(normed)))
        return x + weights.scale2 * update


def _layer(at: str, source: Source, config: MimiConfig) -> LayerWeights:
    qkv = source[f"{at}.self_attn.in_projs.0.weight"].clone()
    # Logits are divided by the root of head_dim: by a power of 2, so dividing the weights is exact.
    qkv[: config.dim] *= config.head_dim**-0.5
    return LayerWeights(
        qkv=Dense(qkv),
        out=Dense(source[f"{at}.self_attn.out_projs.0.weight"]),
        norm1=(source[f"{at}.norm1.weight"], source[f"{at}.norm1.bias"]),
        norm2=(source[f"{at}.norm2.weight"], source[f"{at}.norm2.bias"]),
        up=Dense(source[f"{at}.linear1.weight"]),
        down=Dense(source[f"{at}.linear2.weight"]),
        scale1=source[f"{at}.layer_scale_1.scale"],
        scale2=source[f"{at}.layer_scale_2.scale"],
    )


def _windowed(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Whole attention, `window` queries at a time: memory grows with the length, not with its square."""
    parts = []
    for first in range(0, q.shape[2], window):
        last = min(first + window, q.shape[2])
        since = max(0, first - window + 1)
        back = torch.arange(first, last, device=q.device)[:, None] - torch.arange(
            since, last, device=q.device
        )
        mask = (back >= 0) & (back < window)
        keys, values = k[:, :, since:last], v[:, :, since:last]
        parts.append(
            functional.scaled_dot_product_attention(q[:, :, first:last], keys, values, mask, scale=1.0)
        )
    return torch.cat(parts, 2)


def _attend_each(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, places: list[tuple[int, int]]
) -> Tensor:
    """One CodecFrame's two steps. `places`: slot and position of each row of the batch."""
    window = keys.shape[2]
    out = []
    every_key, every_value = keys.unbind(), values.unbind()
    for q_, k_, v_, (slot, position) in zip(q.unbind(), k.unbind(), v.unbind(), places, strict=True):
        at, held = position % window, min(position + 2, window)
        mine, his = every_key[slot], every_value[slot]
        mine[:, at : at + 2] = k_
        his[:, at : at + 2] = v_
        if held < window:
            mine, his = mine[:, :held], his[:, :held]
        scores = torch.bmm(q_, mine.transpose(1, 2))
        scores[:, 0, at + 1] = -math.inf
        out.append(torch.bmm(torch.softmax(scores, 2), his))
    return torch.stack(out)


def _attend_batch(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, slots: Tensor, steps: Tensor
) -> Tensor:
    """The same without asking the device anything. `steps` (b, 2): positions."""
    window = keys.shape[2]
    rows = steps % window
    heads = torch.arange(keys.shape[1], device=q.device)[None, :, None]
    place = (slots[:, None, None], heads, rows[:, None, :])
    keys.index_put_(place, k)
    values.index_put_(place, v)
    # Row r holds the latest position not after this CodecFrame that is r modulo the window.
    held = steps[:, -1:] - (steps[:, -1:] - torch.arange(window, device=q.device)) % window
    mask = (held[:, None] >= 0) & (held[:, None] <= steps[:, :, None])
    mine, his = keys.index_select(0, slots), values.index_select(0, slots)
    return functional.scaled_dot_product_attention(q, mine, his, mask[:, None], scale=1.0)
