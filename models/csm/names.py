"""Which tensors CSM consists of, and under which names files hold them. Pure: names and shapes, no tensors.

Canonical names are those of Sesame's state dict (SesameAILabs/csm, `models.py`, over torchtune 0.4). Two
other families are known: transformers' (`convert_csm.py`) and csm-hf's (thomasgauthier/csm-hf,
`modeling_csm.py`). Both rotate halves of a head where torchtune rotates neighbouring pairs, so their q and k
rows are permuted; shapes cannot tell, only the naming can.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CsmShape, TransformerShape

Layout = Literal["sesame", "transformers", "csm-hf"]
Part = Literal["decoder", "audio_head", "projection"]
PARTS: tuple[Part, ...] = ("decoder", "audio_head", "projection")
WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
"""Keys under which training programs put the state dict."""

Shapes = Mapping[str, tuple[int, ...]]


def tensor_shapes(shape: CsmShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model, canonical name -> shape; 187 of them for CSM-1B. `audio_head` is (31, in,
    out), all other matrices are (out, in)."""
    wide, narrow = shape.backbone.dim, shape.decoder.dim
    return {
        "text_embeddings.weight": (shape.text_vocabulary, wide),
        "audio_embeddings.weight": (CODEBOOKS * AUDIO_VOCABULARY, wide),
        "projection.weight": (narrow, wide),
        "codebook0_head.weight": (AUDIO_VOCABULARY, wide),
        "audio_head": (CODEBOOKS - 1, narrow, AUDIO_VOCABULARY),
        **_transformer_shapes("backbone", shape.backbone),
        **_transformer_shapes("decoder", shape.decoder),
    }


def part_shapes(shape: CsmShape, part: Part) -> dict[str, tuple[int, ...]]:
    """The tensors of one separately published part: 37, 1 and 1 for CSM-1B."""
    return {name: size for name, size in tensor_shapes(shape).items() if name.split(".")[0] == part}


def _transformer_shapes(prefix: str, of: TransformerShape) -> dict[str, tuple[int, ...]]:
    keys = of.kv_heads * of.head_dim
    layer = {
        "attn.q_proj.weight": (of.dim, of.dim),
        "attn.k_proj.weight": (keys, of.dim),
        "attn.v_proj.weight": (keys, of.dim),
        "attn.output_proj.weight": (of.dim, of.dim),
        "mlp.w1.weight": (of.ffn, of.dim),
        "mlp.w2.weight": (of.dim, of.ffn),
        "mlp.w3.weight": (of.ffn, of.dim),
        "sa_norm.scale": (of.dim,),
        "mlp_norm.scale": (of.dim,),
    }
    layers = {f"{prefix}.layers.{i}.{name}": size for i in range(of.layers) for name, size in layer.items()}
    return {**layers, f"{prefix}.norm.scale": (of.dim,)}


def strip(name: str) -> str:
    """Remove what torch.compile (`_orig_mod.`, also inside a name) and wrappers put into names."""
    name = name.replace("_orig_mod.", "")
    while name.startswith(("module.", "model.")):
        name = name.split(".", 1)[1]
    return name


_IGNORABLE = re.compile(
    r"(^|\.)kv_cache\."  # torchtune's caches, saved after setup_caches()
    r"|(^|\.)(backbone|decoder)_causal_mask$"
    r"|\.(pos_embeddings|rope)\.(cache|theta)$|\.rotary_emb\.\w+$"
    r"|(^|\.)codebook_embedding\.weight$|\.bias$"  # csm-streaming's LoRA; CSM has no biases
    r"|\.audio_tokens_offsets$"
    r"|^codec_model\."  # transformers keeps Mimi in the same file
)


def is_ignorable(name: str) -> bool:
    """True for what some programs save beside the weights and CSM does not need."""
    return bool(_IGNORABLE.search(strip(name)))


_TRANSFORMERS_PREFIXES = {
    "backbone_model.embed_tokens.embed_audio_tokens.": "audio_embeddings.",
    "depth_decoder.model.embed_tokens.": "audio_embeddings.",
    "depth_decoder.model.inputs_embeds_projector.": "projection.",
    "depth_decoder.codebooks_head.weight": "audio_head",
    "embed_text_tokens.": "text_embeddings.",
    "lm_head.": "codebook0_head.",
    "backbone_model.": "backbone.",
    "depth_decoder.model.": "decoder.",
}
"""In order of precedence. The audio table is tied: a file holds it under either name or both."""
_HALF_SPLIT_LAYER = {
    "self_attn.q_proj.weight": "attn.q_proj.weight",
    "self_attn.k_proj.weight": "attn.k_proj.weight",
    "self_attn.v_proj.weight": "attn.v_proj.weight",
    "self_attn.o_proj.weight": "attn.output_proj.weight",
    "mlp.gate_proj.weight": "mlp.w1.weight",
    "mlp.down_proj.weight": "mlp.w2.weight",
    "mlp.up_proj.weight": "mlp.w3.weight",
    "input_layernorm.weight": "sa_norm.scale",
    "post_attention_layernorm.weight": "mlp_norm.scale",
}
_LAYER = re.compile(r"^(backbone|decoder)\.layers\.(\d+)\.(.+)$")


def canonical(name: str) -> tuple[str, Layout | None]:
    """The canonical name, and the family that the name gives away (None: it could be any). A name that
    nobody uses comes back as it is."""
    name = strip(name)
    layout: Layout | None = None
    for prefix, ours in _TRANSFORMERS_PREFIXES.items():
        if name.startswith(prefix):
            name, layout = ours + name[len(prefix) :], "transformers"
            break
    if name in ("backbone.norm.weight", "decoder.norm.weight"):
        return name.replace("weight", "scale"), layout or "csm-hf"
    if match := _LAYER.match(name):
        stack, number, rest = match.groups()
        if rest in _HALF_SPLIT_LAYER:
            return f"{stack}.layers.{number}.{_HALF_SPLIT_LAYER[rest]}", layout or "csm-hf"
        if rest in _HALF_SPLIT_LAYER.values():
            return name, layout or "sesame"
    return name, layout


def part_name(part: Part) -> Callable[[str], tuple[str, Layout | None]]:
    """`canonical` for a file that holds one part: names there may lack the part's own prefix, and a bare
    tensor has the name ""."""

    def rename(name: str) -> tuple[str, Layout | None]:
        name = strip(name)
        if part == "decoder":
            return canonical(name if name.startswith(("decoder.", "depth_decoder.")) else f"decoder.{name}")
        if name in _BARE[part]:
            return ("audio_head" if part == "audio_head" else "projection.weight"), None
        return canonical(name)

    return rename


_BARE: dict[Part, tuple[str, ...]] = {
    "decoder": (),
    "audio_head": ("", "weight", "audio_head.weight", "codebooks_head.weight"),
    "projection": ("", "weight", "projection", "inputs_embeds_projector.weight"),
}


def is_permuted(name: str, layout: Layout) -> bool:
    """Whether a file of this layout holds the canonical `name` with its heads' rows split in halves."""
    return layout != "sesame" and name.endswith(("attn.q_proj.weight", "attn.k_proj.weight"))


@dataclass(frozen=True, slots=True)
class Match:
    """Names and shapes of a file held against what is wanted. Sound when `problems` is empty."""

    entries: Mapping[str, str]
    """Canonical name -> name in the file, for every tensor that fits."""
    layout: Layout
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    mixed: tuple[Layout, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def problems(self) -> str:
        """One sentence, or "" when the file holds exactly what is wanted."""
        parts = [
            f"{len(names)} {word} ({_some(names)})"
            for word, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("misshapen", self.misshapen),
                ("naming families mixed", self.mixed),
            )
            if names
        ]
        return ", ".join(parts)


def match(
    found: Shapes,
    wanted: Shapes,
    rename: Callable[[str], tuple[str, Layout | None]] = canonical,
    *,
    replaced: Iterable[str] = (),
) -> Match:
    """Hold a file's names and shapes against the wanted canonical ones. Tensors named in `replaced` come
    from another file: they may be absent here."""
    entries: dict[str, str] = {}
    unexpected: list[str] = []
    misshapen: list[str] = []
    ignored: list[str] = []
    layouts: set[Layout] = set()
    for name, size in found.items():
        ours, layout = rename(name)
        if ours not in wanted:
            (ignored if is_ignorable(name) else unexpected).append(name or "a bare tensor")
        elif ours in entries:
            tied = ours == "audio_embeddings.weight" and layout == "transformers"
            (ignored if tied else unexpected).append(f"{name} beside {entries[ours]}")
        else:
            entries[ours] = name
            if layout:
                layouts.add(layout)
            if tuple(size) != wanted[ours]:
                misshapen.append(f"{ours} {tuple(size)} instead of {wanted[ours]}")
    known = sorted(layouts)
    return Match(
        entries=entries,
        layout=known[0] if known else "sesame",
        missing=tuple(name for name in wanted if name not in entries and name not in set(replaced)),
        unexpected=tuple(unexpected),
        misshapen=tuple(misshapen),
        mixed=tuple(known) if len(known) > 1 else (),
        ignored=tuple(ignored),
    )


def _some(names: tuple[str, ...], most: int = 6) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
