"""What a folder holds of a voice."""

import pytest

from models.csm.files import CheckpointError, find_csm_files


def fill(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


def test_a_merged_model_needs_no_parts(tmp_path):
    fill(tmp_path, "model_merged.pt", "model.safetensors", "decoder.pt", "mimi.safetensors", "tokenizer.json")
    files = find_csm_files(tmp_path)
    assert files.base == tmp_path / "model_merged.pt"
    assert files.parts is None
    assert files.mimi == tmp_path / "mimi.safetensors"
    assert files.tokenizer == tmp_path / "tokenizer.json"
    assert files.prompt is None


def test_parts_lie_over_any_other_base(tmp_path):
    fill(tmp_path, "ckpt.pt", "decoder.pt", "audio_head.pt", "projection.pt", "prompt.safetensors")
    files = find_csm_files(tmp_path)
    assert files.base == tmp_path / "ckpt.pt"
    assert files.parts is not None
    assert files.parts.audio_head == tmp_path / "audio_head.pt"
    assert files.prompt == tmp_path / "prompt.safetensors"


def test_parts_that_were_trained_together_stay_together(tmp_path):
    fill(tmp_path, "model.safetensors", "decoder.pt")
    with pytest.raises(CheckpointError, match=r"decoder\.pt but not audio_head\.pt and projection\.pt"):
        find_csm_files(tmp_path)


def test_a_file_stands_for_itself_and_its_neighbours(tmp_path):
    name = "tokenizer-e351c8d8-checkpoint125.safetensors"
    fill(tmp_path, "mine.pt", "model_merged.pt", name)
    files = find_csm_files(tmp_path / "mine.pt")
    assert files.base == tmp_path / "mine.pt"
    assert files.mimi == tmp_path / name


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        find_csm_files(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no CSM model"):
        find_csm_files(tmp_path)
    fill(tmp_path, "decoder.pt", "audio_head.pt", "projection.pt")
    with pytest.raises(CheckpointError, match="no base model"):
        find_csm_files(tmp_path)
