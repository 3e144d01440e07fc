"""CSM over torchtune 0.4.0's layers, as Sesame builds it; each CodecFrame whole, without caches."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchtune.models.llama3_2 import llama3_2
from torchtune.modules import TransformerDecoder

from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CONTEXT_ROWS, CsmShape, TransformerShape

Source = Callable[[str], Tensor]


def transformer(shape: TransformerShape, prefix: str, names: list[str], source: Source) -> TransformerDecoder:
    """torchtune's own module under torchtune's own names; strict."""
    module = llama3_2(
        vocab_size=1,
        num_layers=shape.layers,
        num_heads=shape.heads,
        num_kv_heads=shape.kv_heads,
        embed_dim=shape.dim,
        max_seq_len=CONTEXT_ROWS,
        intermediate_dim=shape.ffn,
        norm_eps=shape.norm_eps,
        rope_base=500_000,
        scale_factor=32,
    )
    module.tok_embeddings = nn.Identity()
    module.output = nn.Identity()
    state = {name.removeprefix(f"{prefix}."): source(name) for name in names if name.startswith(f"{prefix}.")}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


class TorchtuneCsm:
    """float32. `source` gives tensors by Sesame's names."""

    def __init__(self, shape: CsmShape, names: list[str], source: Source) -> None:
        self.backbone = transformer(shape.backbone, "backbone", names, source)
        self.decoder = transformer(shape.decoder, "decoder", names, source)
        self.text = source("text_embeddings.weight")
        self.audio = source("audio_embeddings.weight")
        self.projection = source("projection.weight")
        self.first_head = source("codebook0_head.weight")
        self.heads = source("audio_head")

    @torch.inference_mode()
    def hidden_states(self, rows: Tensor) -> Tensor:
        """(n, 33) with -1 for what is not valid -> (n, dim)."""
        offsets = torch.arange(CODEBOOKS) * AUDIO_VOCABULARY
        tokens = torch.cat([rows[:, :CODEBOOKS] + offsets, rows[:, CODEBOOKS:]], 1)
        valid = rows >= 0
        embedded = torch.cat(
            [
                self.audio[tokens[:, :CODEBOOKS].clamp(min=0)],
                self.text[tokens[:, CODEBOOKS:].clamp(min=0)],
            ],
            1,
        )
        return self.backbone((embedded * valid.unsqueeze(-1)).sum(1)[None])[0]

    @torch.inference_mode()
    def forced_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """(b, dim), (b, 32) -> (b, 32, 2051)."""
        offsets = torch.arange(CODEBOOKS - 1) * AUDIO_VOCABULARY
        inputs = torch.cat([hidden[:, None], self.audio[codes[:, :-1] + offsets]], 1) @ self.projection.T
        out = self.decoder(inputs)[:, 1:]
        rest = torch.einsum("bid,ido->bio", out, self.heads)
        return torch.cat([(hidden @ self.first_head.T)[:, None], rest], 1)
