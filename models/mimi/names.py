"""Names and shapes of Mimi's tensors as moshi's state dict has them, and the other spellings of the same."""

import re

from models.mimi.config import BINS, CODEBOOKS, STEPS_PER_CODEC_FRAME, MimiConfig

Shape = tuple[int, ...]
Names = dict[str, Shape]

_RESIDUAL_KERNEL = 3
_OUTER_KERNEL = 7
_LAST_KERNEL = 3


def mimi_names(config: MimiConfig) -> Names:
    """Every tensor that decoding and encoding need. moshi's `_initialized` flags are not among them."""
    return decoder_names(config) | encoder_names(config)


def decoder_names(config: MimiConfig) -> Names:
    """With the codebooks, which the encoder uses too."""
    width = config.widest
    names: Names = {"upsample.convtr.convtr.convtr.weight": (config.dim, 1, 2 * STEPS_PER_CODEC_FRAME)}
    names |= _convolution("decoder.model.0", config.dim, width, _OUTER_KERNEL)
    index = 2
    for stride in config.strides:
        prefix = f"decoder.model.{index}.convtr.convtr"
        names[f"{prefix}.weight"] = (width, width // 2, 2 * stride)
        names[f"{prefix}.bias"] = (width // 2,)
        width //= 2
        names |= _residual(f"decoder.model.{index + 1}", width)
        index += 3
    names |= _convolution(f"decoder.model.{index}", width, 1, _LAST_KERNEL)
    names |= _transformer("decoder_transformer", config)
    for part in ("first", "rest"):
        names[f"quantizer.rvq_{part}.output_proj.weight"] = (config.dim, config.codebook_dim, 1)
    for prefix in codebook_prefixes():
        names[f"{prefix}.cluster_usage"] = (BINS,)
        names[f"{prefix}.embedding_sum"] = (BINS, config.codebook_dim)
    return names


def encoder_names(config: MimiConfig) -> Names:
    """Without the codebooks."""
    width = config.filters
    names = _convolution("encoder.model.0", 1, width, _OUTER_KERNEL)
    index = 1
    for stride in reversed(config.strides):
        names |= _residual(f"encoder.model.{index}", width)
        names |= _convolution(f"encoder.model.{index + 2}", width, 2 * width, 2 * stride)
        width *= 2
        index += 3
    names |= _convolution(f"encoder.model.{index + 1}", width, config.dim, _LAST_KERNEL)
    names |= _transformer("encoder_transformer", config)
    names["downsample.conv.conv.conv.weight"] = (config.dim, config.dim, 2 * STEPS_PER_CODEC_FRAME)
    for part in ("first", "rest"):
        names[f"quantizer.rvq_{part}.input_proj.weight"] = (config.codebook_dim, config.dim, 1)
    return names


def codebook_prefixes() -> list[str]:
    """Of the 32 codebooks in the order of the codes: 1 + 31."""
    parts = [("first", 0)] + [("rest", layer) for layer in range(CODEBOOKS - 1)]
    return [f"quantizer.rvq_{part}.vq.layers.{layer}._codebook" for part, layer in parts]


def canonical(name: str) -> str:
    """moshi's own name of a tensor that an older export or a container spells otherwise."""
    name = re.sub(r"^(model\.|mimi\.|module\.)+", "", name) if _wrapped(name) else name
    name = re.sub(r"\.self_attn\.in_proj(_weight|\.weight)$", ".self_attn.in_projs.0.weight", name)
    name = re.sub(r"\.self_attn\.out_proj\.weight$", ".self_attn.out_projs.0.weight", name)
    name = re.sub(r"\._codebook\.(embed_avg|embed_sum)$", "._codebook.embedding_sum", name)
    return re.sub(r"\._codebook\.cluster_size$", "._codebook.cluster_usage", name)


def ignorable(name: str) -> bool:
    """Bookkeeping of the training that inference has no use for."""
    return name.endswith(("._codebook._initialized", "._codebook.inited", "._codebook._embedding"))


def _wrapped(name: str) -> bool:
    return name.startswith(("model.", "mimi.", "module."))


def _convolution(prefix: str, inputs: int, outputs: int, kernel: int) -> Names:
    return {f"{prefix}.conv.conv.weight": (outputs, inputs, kernel), f"{prefix}.conv.conv.bias": (outputs,)}


def _residual(prefix: str, width: int) -> Names:
    return _convolution(f"{prefix}.block.1", width, width // 2, _RESIDUAL_KERNEL) | _convolution(
        f"{prefix}.block.3", width // 2, width, 1
    )


def _transformer(prefix: str, config: MimiConfig) -> Names:
    names: Names = {}
    dim = config.dim
    for layer in range(config.layers):
        at = f"{prefix}.transformer.layers.{layer}"
        names[f"{at}.self_attn.in_projs.0.weight"] = (3 * dim, dim)
        names[f"{at}.self_attn.out_projs.0.weight"] = (dim, dim)
        for norm in ("norm1", "norm2"):
            names[f"{at}.{norm}.weight"] = names[f"{at}.{norm}.bias"] = (dim,)
        names[f"{at}.linear1.weight"] = (config.ffn, dim)
        names[f"{at}.linear2.weight"] = (dim, config.ffn)
        for scale in ("layer_scale_1", "layer_scale_2"):
            names[f"{at}.{scale}.scale"] = (dim,)
    return names
