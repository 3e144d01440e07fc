"""CSM of transformers 5.23.0, with the numbers of its published checkpoint and weights that are given."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration, MimiConfig

from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, MIMI_BINS, CsmShape, TransformerShape

AUDIO, AUDIO_END = 128_002, 128_003
"""Placeholders among text tokens: one for each CodecFrame, one for the end of a sound."""
_AUDIO_TABLE = "backbone_model.embed_tokens.embed_audio_tokens.weight"
NEVER = list(range(MIMI_BINS, AUDIO_VOCABULARY))


def configuration(shape: CsmShape) -> CsmConfig:
    """Never from transformers' defaults: they have no RoPE scaling. The scaling is written as in the
    published checkpoint, where its numbers are other ones that mean the same."""
    return CsmConfig(
        **_stack(shape.backbone, low=0.125, high=0.5, original=1024),
        text_vocab_size=shape.text_vocabulary,
        depth_decoder_config={
            **_stack(shape.decoder, low=0.001953125, high=0.0078125, original=16),
            "backbone_hidden_size": shape.backbone.dim,
        },
        codec_config=MimiConfig().to_dict(),  # never made: codes go in and come out
        attn_implementation="eager",
    )


def _stack(of: TransformerShape, *, low: float, high: float, original: int) -> dict[str, object]:
    return {
        "num_hidden_layers": of.layers,
        "hidden_size": of.dim,
        "intermediate_size": of.ffn,
        "num_attention_heads": of.heads,
        "num_key_value_heads": of.kv_heads,
        "rms_norm_eps": of.norm_eps,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 32.0,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        },
    }


def build(shape: CsmShape, state: dict[str, Tensor]) -> CsmForConditionalGeneration:
    """`state` under transformers' names, float32; strict but for the codec, which stays untouched."""
    with torch.device("meta"):
        model = CsmForConditionalGeneration(configuration(shape))
    tied = {"depth_decoder.model.embed_tokens.weight": state[_AUDIO_TABLE]}
    missing, unexpected = model.load_state_dict(state | tied, strict=False, assign=True)
    wrong = [name for name in missing if not name.startswith("codec_model.")]
    if wrong or unexpected:
        raise ValueError(f"missing {wrong}, unexpected {unexpected}")
    _make_rope_tables(model)
    return model.eval().requires_grad_(False)


def _make_rope_tables(model: CsmForConditionalGeneration) -> None:
    """Buffers that no checkpoint holds were not made on the meta device."""
    for stack in (model.backbone_model, model.depth_decoder.model):
        stack.rotary_emb = type(stack.rotary_emb)(stack.config)
    table = model.backbone_model.embed_tokens
    table.audio_tokens_offsets = torch.arange(CODEBOOKS) * AUDIO_VOCABULARY


def embedded(
    model: CsmForConditionalGeneration,
    segments: Sequence[tuple[list[int], NDArray[np.int64]]],
    last_text: list[int],
) -> Tensor:
    """The conversation as transformers itself merges text and sound: (1, n, dim)."""
    tokens: list[int] = []
    for said, codes in segments:
        tokens += [*said, *[AUDIO] * len(codes), AUDIO_END]
    spoken = [torch.from_numpy(codes) for _, codes in segments]
    lengths = torch.tensor([len(codes) for codes in spoken])
    handed_out = iter(spoken)
    # One sample stands for one CodecFrame; the codec hands out the codes that are given.
    model.codec_model.encode = lambda _audio: SimpleNamespace(audio_codes=next(handed_out).T[None])
    model.codec_model.get_audio_codes_mask = lambda mask: mask[:, : int(lengths.max())]
    merged = model._merge_input_ids_with_input_values(
        input_ids=torch.tensor([[*tokens, *last_text]]),
        input_values=torch.zeros(1, 1, int(lengths.sum())),
        input_values_cutoffs=lengths.cumsum(0)[None],
    )
    return merged["inputs_embeds"]


@torch.inference_mode()
def hidden_states(model: CsmForConditionalGeneration, inputs: Tensor) -> Tensor:
    """(1, n, dim) -> (n, dim)."""
    return model.backbone_model(inputs_embeds=inputs).last_hidden_state[0]


@torch.inference_mode()
def forced_logits(model: CsmForConditionalGeneration, hidden: Tensor, codes: Tensor) -> Tensor:
    """(b, dim), (b, 32) -> (b, 32, 2051)."""
    ids = torch.cat([torch.zeros(len(codes), 1, dtype=torch.long), codes[:, :-1]], 1)
    rest = model.depth_decoder(input_ids=ids, backbone_last_hidden_state=hidden).logits
    return torch.cat([model.lm_head(hidden)[:, None], rest], 1)


@torch.inference_mode()
def greedy(model: CsmForConditionalGeneration, inputs: Tensor, n_codec_frames: int) -> Tensor:
    """Its own generation loop, most probable codes below 2048: (n, 32), fewer where it found an end. It
    stops at 31 zeros, Sesame at 32."""
    return model.generate(
        inputs_embeds=inputs,
        max_new_tokens=n_codec_frames,
        do_sample=False,
        suppress_tokens=NEVER,
        depth_decoder_do_sample=False,
        depth_decoder_suppress_tokens=NEVER,
    )[0]
