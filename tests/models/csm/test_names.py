"""Which names mean which tensor."""

import pytest

from models.csm.names import (
    canonical,
    is_ignorable,
    is_permuted,
    match,
    part_name,
    part_shapes,
    strip,
    tensor_shapes,
)
from models.csm.shapes import CSM_1B, CSM_TINY
from tests.models.csm.checkpoints import MICRO, as_csm_hf, as_transformers, state


def _count(shapes):
    total = 0
    for size in shapes.values():
        n = 1
        for extent in size:
            n *= extent
        total += n
    return total


def test_csm_1b_has_the_published_tensors_and_parameters():
    shapes = tensor_shapes(CSM_1B)
    assert len(shapes) == 187
    assert _count(shapes) == 1_552_791_552
    assert _count(part_shapes(CSM_1B, "decoder")) * 2 == 222_316_544  # bytes in bf16, as published
    assert _count(part_shapes(CSM_1B, "audio_head")) * 2 == 130_213_888
    assert _count(part_shapes(CSM_1B, "projection")) * 2 == 4_194_304
    assert _count(shapes) * 2 == 3_105_583_104
    assert [len(part_shapes(CSM_1B, part)) for part in ("decoder", "audio_head", "projection")] == [37, 1, 1]
    assert shapes["decoder.layers.3.attn.k_proj.weight"] == (256, 1024)
    assert shapes["audio_head"] == (31, 1024, 2051)


def test_wrapping_prefixes_are_stripped_wherever_they_stand():
    assert strip("module._orig_mod.decoder._orig_mod.norm.scale") == "decoder.norm.scale"
    assert strip("model.module.model.projection.weight") == "projection.weight"
    assert strip("backbone_model.norm.weight") == "backbone_model.norm.weight"


def test_every_name_of_each_family_comes_home():
    tensors = state()
    for renamed, family in (
        (tensors, "sesame"),
        (as_csm_hf(tensors), "csm-hf"),
        (as_transformers(tensors), "transformers"),
    ):
        fit = match({name: tuple(t.shape) for name, t in renamed.items()}, tensor_shapes(MICRO))
        assert fit.problems == ""
        assert fit.layout == family
        assert set(fit.entries) == set(tensors)


def test_only_q_and_k_of_the_half_split_families_are_permuted():
    q, v = "decoder.layers.0.attn.q_proj.weight", "decoder.layers.0.attn.v_proj.weight"
    assert is_permuted(q, "transformers")
    assert is_permuted(q.replace("q_proj", "k_proj"), "csm-hf")
    assert not is_permuted(q, "sesame")
    assert not is_permuted(v, "transformers")


@pytest.mark.parametrize(
    "name",
    [
        "backbone.layers.3.attn.kv_cache.k_cache",
        "decoder_causal_mask",
        "model.backbone_causal_mask",
        "decoder.layers.0.attn.pos_embeddings.cache",
        "backbone.layers.0.attn.pos_embeddings.theta",
        "codebook_embedding.weight",
        "backbone.layers.0.attn.q_proj.bias",
        "codec_model.decoder.layers.0.conv.weight",
        "backbone_model.embed_tokens.audio_tokens_offsets",
    ],
)
def test_leavings_of_other_programs_are_ignored(name):
    assert is_ignorable(name)
    wanted = tensor_shapes(MICRO)
    fit = match({**wanted, name: (3,)}, wanted)
    assert (fit.problems, fit.ignored) == ("", (name,))


@pytest.mark.parametrize(
    "name", ["backbone.norm.scale", "audio_head", "decoder.layers.0.attn.lora_A", "surprise"]
)
def test_nothing_else_is_ignored(name):
    assert not is_ignorable(name)


def test_missing_unexpected_and_misshapen_are_all_named():
    found = dict(tensor_shapes(MICRO))
    del found["decoder.norm.scale"]
    found["surprise"] = (1,)
    found["audio_head"] = (31, 2051, 8)
    fit = match(found, tensor_shapes(MICRO))
    assert fit.missing == ("decoder.norm.scale",)
    assert fit.unexpected == ("surprise",)
    assert fit.misshapen == ("audio_head (31, 2051, 8) instead of (31, 8, 2051)",)
    assert fit.problems.startswith("1 missing (decoder.norm.scale), 1 unexpected (surprise), 1 misshapen")


def test_two_names_for_one_tensor_are_refused_unless_they_are_the_tied_table():
    wanted = tensor_shapes(MICRO)
    fit = match({**wanted, "module.audio_head": wanted["audio_head"]}, wanted)
    assert fit.unexpected == ("module.audio_head beside audio_head",)
    theirs = {name: tuple(t.shape) for name, t in as_transformers(state()).items()}
    tied = "depth_decoder.model.embed_tokens.weight"
    assert match({**theirs, tied: wanted["audio_embeddings.weight"]}, wanted).problems == ""


def test_families_may_not_mix_in_one_file():
    wanted = tensor_shapes(MICRO)
    theirs = {name: tuple(t.shape) for name, t in as_csm_hf(state()).items()}
    mixed = {n: s for n, s in theirs.items() if not n.startswith("decoder")}
    mixed |= {n: s for n, s in wanted.items() if n.startswith("decoder")}
    assert "naming families mixed (csm-hf, sesame)" in match(mixed, wanted).problems


def test_parts_may_lack_their_own_prefix():
    rename = part_name("decoder")
    assert rename("layers.0.attn.q_proj.weight") == ("decoder.layers.0.attn.q_proj.weight", "sesame")
    assert rename("decoder._orig_mod.norm.scale")[0] == "decoder.norm.scale"
    assert rename("model.layers.1.self_attn.o_proj.weight") == (
        "decoder.layers.1.attn.output_proj.weight",
        "csm-hf",
    )
    for name in ("", "weight", "audio_head", "codebooks_head.weight", "depth_decoder.codebooks_head.weight"):
        assert part_name("audio_head")(name)[0] == "audio_head"
    for name in ("", "weight", "projection", "projection.weight", "inputs_embeds_projector.weight"):
        assert part_name("projection")(name)[0] == "projection.weight"


def test_tiny_has_the_same_kinds_of_tensors():
    assert {name.split(".")[0] for name in tensor_shapes(CSM_TINY)} == {
        name.split(".")[0] for name in tensor_shapes(CSM_1B)
    }
    assert canonical("surprise") == ("surprise", None)
