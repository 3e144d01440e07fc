"""CSM: a backbone over rows of the conversation, and a decoder that says the 32 codes of a CodecFrame.

Prefill and decode step are two functions. `step` and `codec_frame` read nothing back from the device, so that
on CUDA a whole tick can be captured; on the CPU a decode step attends slot by slot instead.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.csm.building import Builder, TensorSource
from models.csm.cache import (
    DecoderCache,
    KvCache,
    attend_batch,
    attend_prefill,
    attend_rows,
    attend_whole,
)
from models.csm.linear import Dense, Weights
from models.csm.rope import rope_table
from models.csm.sampling import Draw, Noise, choose, without_end
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CONTEXT_ROWS, CsmShape
from models.csm.transformer import complex_turns

_Choose = Callable[[int, Tensor], Tensor]
"""(codebook, logits (b, 2051)) -> codes (b,)."""


class CsmModel:
    def __init__(
        self,
        shape: CsmShape,
        tensors: TensorSource,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: Weights = "full",
    ) -> None:
        """Blocks while the tensors are read, each once. `dtype` is of activations and of whole weights;
        "w8a8" is for the CPU in float32."""
        self.shape = shape
        self.dtype = dtype
        self.device = torch.device(device)
        if weights == "w8a8" and (self.device.type != "cpu" or dtype != torch.float32):
            raise ValueError("w8a8 weights are for the CPU, with float32 activations")
        if self.device.type == "cuda":
            # sglang-omni's CSM met crashes in cuDNN's attention on Hopper (its PR 800).
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.cache_attention: Literal["rows", "batch"] = "rows" if self.device.type == "cpu" else "batch"
        self.parts = 0
        """Changes when parts are replaced: the memory of those before may be another tensor's."""
        build = self._build = Builder(weights, dtype, self.device)
        with torch.no_grad():
            self._text_embeddings = build.table(tensors["text_embeddings.weight"])
            self._audio_embeddings = build.table(tensors["audio_embeddings.weight"])
            self._backbone = build.transformer(shape.backbone, tensors, "backbone")
            self._first_head = build.linear(tensors["codebook0_head.weight"])
            self.replace_parts(
                decoder=tensors, audio_head=tensors["audio_head"], projection=tensors["projection.weight"]
            )
        self._offsets = torch.arange(CODEBOOKS, device=self.device) * AUDIO_VOCABULARY
        self._turns = self._rope(shape.backbone.head_dim, CONTEXT_ROWS)
        self._decoder_turns = self._rope(shape.decoder.head_dim, CODEBOOKS)

    @torch.no_grad()
    def replace_parts(
        self,
        *,
        decoder: TensorSource | None = None,
        audio_head: Tensor | None = None,
        projection: Tensor | None = None,
    ) -> None:
        """Put other parts in: `decoder` with names "decoder...", `audio_head` (31, dim, 2051), `projection`
        (decoder dim, backbone dim)."""
        build = self._build
        self.parts += 1
        if decoder is not None:
            self._decoder = build.transformer(self.shape.decoder, decoder, "decoder")
        if audio_head is not None:
            self._heads = build.audio_heads(audio_head)
        if projection is not None:
            self._projection = Dense(projection.to(device=self.device, dtype=self.dtype, copy=True))
            self._inputs = build.input_table(self._audio_embeddings, projection)

    def cache(self, slots: int, rows: int = CONTEXT_ROWS) -> KvCache:
        """In the model's dtype; bfloat16 beside 8-bit weights, whose rounding is coarser."""
        dtype = self.dtype if self._build.kind == "full" else torch.bfloat16
        return KvCache.empty(self.shape.backbone, slots, rows, dtype=dtype, device=self.device)

    @torch.inference_mode()
    def prefill(self, cache: KvCache, slot: int, rows: Tensor, start: int) -> Tensor:
        """Evaluate `rows` (n, 33) as rows start, start + 1, ... of the slot. Returns (dim,): the last row's
        hidden state after the final norm."""
        end = start + len(rows)
        if not len(rows) or end > cache.rows:
            raise ValueError(f"rows {start} to {end} do not fit a cache of {cache.rows}")
        x = self._embed_rows(rows.to(self.device))
        return self._backbone(x, self._turns[start:end], attend_prefill(cache, slot, start))[-1]

    @torch.inference_mode()
    def hidden_states(self, rows: Tensor) -> Tensor:
        """Evaluate (n, 33) whole, keeping nothing -> (n, dim) after the final norm."""
        x = self._embed_rows(rows.to(self.device))
        return self._backbone(x, self._turns[: len(rows)], attend_whole())

    @torch.inference_mode()
    def step(
        self,
        cache: KvCache,
        codes: Tensor,
        positions: Tensor,
        slots: Tensor,
        active: Tensor,
        *,
        span: int | None = None,
    ) -> Tensor:
        """One CodecFrame more in each active slot: `codes` (b, 32) int64, `positions` (b,) int64 the rows to
        write, `slots` (b,) int64, `active` (b,) bool. Returns (b, dim) after the final norm; an inactive row
        is finite, means nothing and changes nothing. Off the CPU batch row i must be slot i, and no active
        position may reach `span`, which bounds what is read of the cache."""
        positions = torch.where(active, positions, 0)
        x = self._embed_codes(codes)
        if self.cache_attention == "rows":
            attend = attend_rows(cache, slots, positions, active)
        else:
            attend = attend_batch(cache, positions, active, span or cache.rows)
        return self._backbone(x, self._turns.index_select(0, positions), attend)

    @torch.inference_mode()
    def codec_frame(self, hidden: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Sample the 32 codes that follow `hidden` (b, dim). Returns (b, 32) int64 in [0, 2048), and (b,)
        bool: were the row's logits finite?"""
        noise = Noise(draw, ahead=self.device.type != "cpu")
        codes: list[Tensor] = []
        best: list[Tensor] = []

        def sample(codebook: int, logits: Tensor) -> Tensor:
            if codebook == 0:
                logits = without_end(logits, draw.may_end)
            chosen, top = choose(logits, codebook, noise, draw.temperature)
            codes.append(chosen)
            best.append(top)
            return chosen

        self._say(hidden, sample)
        return torch.stack(codes, 1), torch.stack(best, 1).isfinite().all(1)

    @torch.inference_mode()
    def forced_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """(b, dim) and (b, 32) -> (b, 32, 2051) float32: each codebook's logits after these codes."""
        logits: list[Tensor] = []

        def force(codebook: int, found: Tensor) -> Tensor:
            logits.append(found.float())
            return codes[:, codebook]

        self._say(hidden, force)
        return torch.stack(logits, 1)

    def _say(self, hidden: Tensor, pick: _Choose) -> None:
        """31 passes of the decoder. The first takes two positions, `hidden` and codebook 0's code; that of
        codebook 31 is never an input."""
        batch = len(hidden)
        code = pick(0, self._first_head(hidden))
        pair = torch.stack([self._projection(hidden), self._input(0, code)], 1).flatten(0, 1)
        held = DecoderCache(self.shape.decoder, batch, CODEBOOKS, pair)
        out = self._decoder(pair, self._decoder_turns[:2].repeat(batch, 1), held.first_two())[1::2]
        code = pick(1, self._heads[0](out))
        for codebook in range(2, CODEBOOKS):
            turns = self._decoder_turns[codebook].expand(batch, -1)
            out = self._decoder(self._input(codebook - 1, code), turns, held.at(codebook))
            code = pick(codebook, self._heads[codebook - 1](out))

    def _input(self, codebook: int, codes: Tensor) -> Tensor:
        return F.embedding(codes + codebook * AUDIO_VOCABULARY, self._inputs).to(self.dtype)

    def _embed_codes(self, codes: Tensor) -> Tensor:
        """(n, 32) -> (n, dim)."""
        return F.embedding(codes + self._offsets, self._audio_embeddings).float().sum(1).to(self.dtype)

    def _embed_rows(self, rows: Tensor) -> Tensor:
        """(n, 33) -> (n, dim): the sum over the columns that are valid."""
        rows = rows.long()
        valid = (rows >= 0).unsqueeze(-1)
        rows = rows.clamp(min=0)
        total = F.embedding(rows[:, CODEBOOKS], self._text_embeddings).float() * valid[:, CODEBOOKS]
        for codebook in range(CODEBOOKS):
            found = F.embedding(rows[:, codebook] + codebook * AUDIO_VOCABULARY, self._audio_embeddings)
            total += found.float() * valid[:, codebook]
        return total.to(self.dtype)

    def _rope(self, head_dim: int, rows: int) -> Tensor:
        return complex_turns(rope_table(head_dim, rows, self.shape.rope)).to(self.device)
