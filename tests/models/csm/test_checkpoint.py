"""Checkpoints: every layout gives the same tensors, and what is not one is refused with a reason."""

import hashlib
import json
import logging
import os

import pytest
import torch
from safetensors.torch import save_file

from models.csm.checkpoint import (
    CheckpointError,
    Parts,
    open_checkpoint,
    open_part,
    pairs_from_halves,
)
from models.csm.files import find_csm_files
from models.csm.names import PARTS, part_shapes
from models.csm.shapes import CSM_TINY
from tests.models.csm.checkpoints import MICRO, as_csm_hf, as_transformers, halves_from_pairs, state


@pytest.fixture
def merged(tmp_path):
    path = tmp_path / "model_merged.pt"
    torch.save(state(), path)
    return path


def assert_holds(checkpoint, wanted=None):
    wanted = wanted or state()
    assert set(checkpoint) == set(wanted)
    for name, tensor in wanted.items():
        assert name in checkpoint
        assert torch.equal(checkpoint[name], tensor), name


def refused(path, parts=None):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, parts=parts, shape=MICRO)
    return caught.value


WRAPS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model and optimizer": lambda s: {"model": s, "optimizer": {"lr": 1e-4}},
    "module": lambda s: {"module": s},
    "compiled": lambda s: {f"_orig_mod.{n}": t for n, t in s.items()},
    "compiled stacks": lambda s: {n.replace("decoder.", "decoder._orig_mod."): t for n, t in s.items()},
    "prefixed": lambda s: {f"module.model.{n}": t for n, t in s.items()},
    "after setup_caches": lambda s: {**s, "backbone_causal_mask": torch.ones(4, 4, dtype=torch.bool)},
    "transformers": as_transformers,
    "transformers with Mimi": lambda s: {**as_transformers(s), "codec_model.x.weight": torch.ones(1)},
    "csm-hf": as_csm_hf,
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_all_wrappings_and_layouts_give_the_same_tensors(tmp_path, wrap):
    content = WRAPS[wrap](state())
    torch.save(content, tmp_path / "model.pt")
    assert_holds(open_checkpoint(tmp_path / "model.pt", shape=MICRO))
    if all(isinstance(value, torch.Tensor) for value in content.values()):  # safetensors has no nesting
        save_file(content, tmp_path / "model.safetensors")
        assert_holds(open_checkpoint(tmp_path / "model.safetensors", shape=MICRO))


def test_shards_are_read_through_their_index(tmp_path):
    content = as_transformers(state())
    names = sorted(content)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: content[name] for name in members}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: s for s, members in shards.items() for n in members}}))
    checkpoint = open_checkpoint(index, shape=MICRO)
    assert_holds(checkpoint)
    assert checkpoint.layout == "transformers"
    assert len(checkpoint.sha256) == 3
    (tmp_path / "b.safetensors").unlink()
    assert "needs b.safetensors beside it" in str(refused(index))


def test_an_index_that_promises_too_much_or_leaves_its_folder_is_refused(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}))
    assert refused(index).missing == ("y",)
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    assert "outside its folder" in str(refused(index))
    index.write_text("{}")
    assert "not an index" in str(refused(index))


def test_the_shape_is_recognised(tmp_path):
    tiny = state(CSM_TINY)
    torch.save(tiny, tmp_path / "ckpt.pt")
    checkpoint = open_checkpoint(tmp_path / "ckpt.pt", hashed=False)
    assert checkpoint.shape == CSM_TINY
    assert checkpoint.sha256 == {}
    assert torch.equal(checkpoint["audio_head"], tiny["audio_head"])


def test_tensors_come_in_the_wanted_dtype(tmp_path):
    path = tmp_path / "ckpt.pt"
    torch.save(state(dtype=torch.float32), path)
    with open_checkpoint(path, shape=MICRO) as checkpoint:
        assert checkpoint["audio_head"].dtype == torch.bfloat16
        assert_holds(checkpoint)
    assert "audio_head" not in checkpoint
    assert open_checkpoint(path, shape=MICRO, dtype=None)["audio_head"].dtype == torch.float32


def test_the_hash_is_told_and_logged(merged, caplog):
    wanted = hashlib.sha256(merged.read_bytes()).hexdigest()
    with caplog.at_level(logging.INFO, logger="models.csm.checkpoint"):
        assert open_checkpoint(merged, shape=MICRO).sha256 == {str(merged): wanted}
    assert wanted in caplog.text


def test_unpermuting_undoes_what_transformers_permutes():
    weight = torch.arange(32 * 3.0).view(32, 3)
    halves = halves_from_pairs(weight, heads=4)
    assert not torch.equal(halves, weight)
    assert torch.equal(pairs_from_halves(halves, heads=4), weight)
    assert halves[:8, 0].tolist() == weight[[0, 2, 4, 6, 1, 3, 5, 7], 0].tolist()


# --- parts of a fine-tune ---


def fine_tuned():
    """Another decoder, audio head and projection."""
    return {name: tensor + 1 for name, tensor in state().items() if name.split(".")[0] in PARTS}


PART_FORMS = {
    "as Sesame names them": lambda t: (
        {n.removeprefix("decoder."): v for n, v in t.items() if n.startswith("decoder.")},
        t["audio_head"],
        {"weight": t["projection.weight"]},
    ),
    "with prefixes": lambda t: (
        {n: v for n, v in t.items() if n.startswith("decoder.")},
        {"audio_head": t["audio_head"]},
        {"projection.weight": t["projection.weight"]},
    ),
    "parameters and wrappers": lambda t: (
        {"model": {n.replace("decoder.", "_orig_mod."): v for n, v in t.items() if n.startswith("decoder.")}},
        torch.nn.Parameter(t["audio_head"]),
        torch.nn.Parameter(t["projection.weight"]),
    ),
    "in a decoder's wrapper": lambda t: (
        {"decoder": {n.removeprefix("decoder."): v for n, v in t.items() if n.startswith("decoder.")}},
        {"state_dict": {"audio_head": t["audio_head"]}},
        {"projection": t["projection.weight"]},
    ),
    "in the layout of transformers": lambda t: (
        {n: v for n, v in as_transformers(t).items() if ".layers." in n or ".norm." in n},
        {"depth_decoder.codebooks_head.weight": t["audio_head"]},
        {"": t["projection.weight"]},
    ),
}


def save_parts(folder, tensors, form="as Sesame names them"):
    paths = [folder / f"{part}.pt" for part in PARTS]
    for path, content in zip(paths, PART_FORMS[form](tensors), strict=True):
        torch.save(content, path)
    return Parts(*paths)


@pytest.mark.parametrize("form", PART_FORMS)
@pytest.mark.parametrize("layout", ["sesame", "transformers"])
def test_parts_replace_exactly_their_own_tensors(tmp_path, form, layout):
    base = tmp_path / "model.safetensors"
    save_file(as_transformers(state()) if layout == "transformers" else state(), base)
    parts = save_parts(tmp_path, fine_tuned(), form)
    checkpoint = open_checkpoint(base, parts=parts, shape=MICRO)
    assert_holds(checkpoint, {**state(), **fine_tuned()})
    assert checkpoint.layout == layout
    assert len(checkpoint.sha256) == 4


def test_what_no_part_replaces_must_be_in_the_base(tmp_path):
    parts = save_parts(tmp_path, fine_tuned())
    torch.save({n: t for n, t in state().items() if n.split(".")[0] != "decoder"}, tmp_path / "ckpt.pt")
    error = refused(tmp_path / "ckpt.pt", Parts(projection=parts.projection))
    assert error.missing == tuple(part_shapes(MICRO, "decoder"))
    complete = open_checkpoint(tmp_path / "ckpt.pt", parts=Parts(decoder=parts.decoder), shape=MICRO)
    changed = {n: t for n, t in fine_tuned().items() if n.startswith("decoder.")}
    assert_holds(complete, {**state(), **changed})


def test_half_a_part_is_refused(tmp_path, merged):
    parts = save_parts(tmp_path, fine_tuned())
    half = dict(list(torch.load(parts.decoder).items())[:5])
    torch.save(half, parts.decoder)
    error = refused(merged, parts)
    assert len(error.missing) == len(part_shapes(MICRO, "decoder")) - 5
    assert "decoder.pt is not the decoder of csm-micro: 5 missing" in str(error)


def test_a_part_in_another_parts_place_is_refused(tmp_path, merged):
    parts = save_parts(tmp_path, fine_tuned())
    error = refused(merged, Parts(decoder=parts.audio_head))
    assert error.missing
    assert error.unexpected == ("a bare tensor",)
    error = refused(merged, Parts(projection=parts.audio_head))
    assert error.misshapen == ("projection.weight (31, 8, 2051) instead of (8, 16)",)


def test_a_part_is_read_by_itself(tmp_path):
    file, fit = open_part(save_parts(tmp_path, fine_tuned()).decoder, "decoder", MICRO)
    assert set(fit.entries) == set(part_shapes(MICRO, "decoder"))
    assert torch.equal(file.read(fit.entries["decoder.norm.scale"]), fine_tuned()["decoder.norm.scale"])


# --- what is refused ---


def test_missing_unexpected_and_misshapen_tensors_are_listed(tmp_path):
    tensors = state()
    del tensors["backbone.layers.1.mlp.w2.weight"]
    tensors["backbone.layers.1.mlp.w4.weight"] = torch.ones(2)
    tensors["codebook0_head.weight"] = tensors["codebook0_head.weight"].T.contiguous()
    torch.save(tensors, tmp_path / "ckpt.pt")
    error = refused(tmp_path / "ckpt.pt")
    assert error.missing == ("backbone.layers.1.mlp.w2.weight",)
    assert error.unexpected == ("backbone.layers.1.mlp.w4.weight",)
    assert error.misshapen == ("codebook0_head.weight (16, 2051) instead of (2051, 16)",)
    for word in ("1 missing", "1 unexpected", "1 misshapen", "Nothing was loaded", "maya models inspect"):
        assert word in str(error)


def test_half_a_model_is_refused(tmp_path):
    torch.save({n: t for n, t in state().items() if n.startswith("backbone")}, tmp_path / "ckpt.pt")
    assert "decoder.layers.0.attn.q_proj.weight" in refused(tmp_path / "ckpt.pt").missing


def test_entries_that_are_no_tensors_are_refused(tmp_path):
    torch.save({**state(), "step": 5000}, tmp_path / "ckpt.pt")
    assert refused(tmp_path / "ckpt.pt").unexpected == ("step (int, no plain tensor)",)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("kept", [0, 7, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    path = tmp_path / f"model.{suffix}"
    torch.save(state(), path) if suffix == "pt" else save_file(state(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    message = str(refused(path))
    assert str(path) in message
    assert "Fetch it again" in message


class _Code:
    def __reduce__(self):
        return os.mkdir, ("pickled-code-ran",)


def test_pickled_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for archive in (True, False):
        torch.save(
            {**state(), "extra": _Code()}, tmp_path / "ckpt.pt", _use_new_zipfile_serialization=archive
        )
        message = str(refused(tmp_path / "ckpt.pt"))
        assert "holds pickled Python objects" in message
        assert "state_dict()" in message
    assert not (tmp_path / "pickled-code-ran").exists()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_dtypes_that_are_not_weights_are_refused(tmp_path, dtype, suffix):
    tensors = state()
    name = "decoder.layers.0.mlp.w1.weight"
    tensors[name] = tensors[name].to(dtype)
    path = tmp_path / f"model.{suffix}"
    torch.save(tensors, path) if suffix == "pt" else save_file(tensors, path)
    error = refused(path)
    assert error.misshapen == (name,)
    assert str(dtype).removeprefix("torch.") in str(error)


def test_sparse_tensors_are_refused(tmp_path):
    tensors = state()
    tensors["projection.weight"] = tensors["projection.weight"].to_sparse()
    torch.save(tensors, tmp_path / "ckpt.pt")
    error = refused(tmp_path / "ckpt.pt")
    assert error.missing == ("projection.weight",)
    assert error.unexpected == ("projection.weight (sparse_coo tensor, no plain tensor)",)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<html>404</html>", "neither a torch file nor safetensors"),
        (b"", "is empty"),
    ],
)
def test_other_files_are_refused(tmp_path, content, word):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert word in str(refused(tmp_path / "model.safetensors"))


def test_an_absent_file_is_refused(tmp_path):
    assert "cannot be read" in str(refused(tmp_path / "nothing.pt"))


def test_a_file_written_before_torch_1_6_still_loads(tmp_path):
    torch.save(state(), tmp_path / "ckpt.pt", _use_new_zipfile_serialization=False)
    assert_holds(open_checkpoint(tmp_path / "ckpt.pt", shape=MICRO))


def test_a_misnamed_file_is_known_by_its_content(tmp_path):
    save_file(state(), tmp_path / "ckpt.pt")
    torch.save(state(), tmp_path / "model.safetensors")
    assert_holds(open_checkpoint(tmp_path / "ckpt.pt", shape=MICRO))
    assert_holds(open_checkpoint(tmp_path / "model.safetensors", shape=MICRO))


def test_a_folders_files_open(tmp_path):
    torch.save(state(), tmp_path / "ckpt.pt")
    save_parts(tmp_path, fine_tuned())
    files = find_csm_files(tmp_path)
    checkpoint = open_checkpoint(files.base, parts=files.parts, shape=MICRO)
    assert_holds(checkpoint, {**state(), **fine_tuned()})
