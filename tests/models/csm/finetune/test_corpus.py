from pathlib import Path

import pytest

from models.csm.finetune.corpus import (
    CorpusError,
    Wanted,
    clean_text,
    open_corpus,
    own_splits,
    parse_splits,
    same_speaker,
)
from tests.models.csm.finetune.corpus_kit import sentences, write_folder, write_parquet, write_tar


def test_long_files_cut_by_time_go_to_train_whole() -> None:
    texts = {
        "train": "ex04_default_00001\nex04_default_longform_00001\t(60.0s,)\n",
        "dev": "ex04_default_00002\n",
        "test": "ex04_default_longform_00001\t(,60.0s)\n\n",
    }
    assert parse_splits(texts) == {
        "ex04_default_00001": "train",
        "ex04_default_00002": "dev",
        "ex04_default_longform_00001": "train",
    }


def test_without_splits_the_last_ids_of_each_sub_style_are_held_out() -> None:
    keys = [f"ex04_sad_{number:05d}" for number in range(1, 51)]
    splits = own_splits([*keys[::-1], "ex04_sad_rare_00001"])
    assert [key for key, split in splits.items() if split == "test"] == keys[:-3:-1]
    assert [key for key, split in splits.items() if split == "dev"] == keys[-3:-5:-1]
    assert splits["ex04_sad_rare_00001"] == "train"


def test_a_speaker_may_be_a_name_or_a_number() -> None:
    assert same_speaker(4, "ex04") and same_speaker("EX04", "ex04") and same_speaker("anna", "Anna")
    assert not same_speaker("ex01", "ex04")


def test_emphasis_loses_its_asterisks() -> None:
    assert clean_text("  I *never* said  *that*.\n") == "I never said that."


def test_all_layouts_give_the_same_clips(tmp_path: Path) -> None:
    made = sentences()
    folder = write_folder(tmp_path / "expresso", made)
    tar = write_tar(tmp_path / "expresso.tar", folder)
    parquet = write_parquet(tmp_path / "hub" / "read" / "train-00000-of-00001.parquet", made)
    read = {
        path: sorted(open_corpus(path, Wanted(), splits=folder / "splits").clips(), key=lambda clip: clip.key)
        for path in (folder, tar, parquet.parent)
    }
    assert read[folder] == read[tar] == read[parquet.parent]
    assert [(clip.key, clip.split) for clip in read[tar]] == sorted(
        (sentence.key, sentence.split) for sentence in made if sentence.speaker == "ex04"
    )
    assert read[tar][0].text == "This is sentence number 1."


def test_styles_can_be_chosen(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, sentences())
    styles = {clip.style for clip in open_corpus(folder, Wanted(styles=("happy",))).clips()}
    assert styles == {"happy"}


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        open_corpus(tmp_path / "nowhere", Wanted())
    with pytest.raises(CorpusError, match=r"read_transcriptions\.txt"):
        open_corpus(tmp_path, Wanted())
    with pytest.raises(CorpusError, match="none of"):
        open_corpus(tmp_path, Wanted(), splits=tmp_path)
