from pathlib import Path

import pytest

from models.csm.finetune.corpus import CorpusError, Wanted, open_corpus
from models.csm.finetune.expresso import FolderTree, TarTree, TreeCorpus
from tests.models.csm.finetune.corpus_kit import sentences, write_folder, write_tar


def test_transcriptions_may_come_last_in_the_tar(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", sentences())
    tar = write_tar(tmp_path / "x.tar", folder, reverse=True)
    assert len(list(open_corpus(tar, Wanted()).clips())) == 10


def test_clips_without_words_or_split_are_counted(tmp_path: Path) -> None:
    made = sentences()
    folder = write_folder(tmp_path, made)
    lines = (folder / "read_transcriptions.txt").read_text().splitlines(keepends=True)
    (folder / "read_transcriptions.txt").write_text("".join(lines[1:]))
    (folder / "splits" / "test.txt").write_text("")
    corpus = TreeCorpus(FolderTree(folder), Wanted())
    assert len(list(corpus.clips())) == 8
    assert corpus.skipped == {"without words": 1, "in no split": 1}


def test_other_recordings_are_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, sentences(4))
    stray = (
        folder / "audio_48khz" / "conversational" / "ex04-ex01" / "happy" / "x" / "ex04-ex01_happy_001.wav"
    )
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stereo")
    assert len(list(open_corpus(folder, Wanted()).clips())) == 4


def test_an_absent_speaker_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, sentences(3))
    with pytest.raises(CorpusError, match="read/ex02"):
        open_corpus(folder, Wanted("ex02"))


def test_a_tar_that_is_none_or_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "expresso.tar"
    path.write_bytes(b"not a tar")
    with pytest.raises(CorpusError, match="neither a tar nor parquet"):
        open_corpus(path, Wanted())
    whole = write_tar(tmp_path / "whole.tar", write_folder(tmp_path / "x", sentences(4))).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError):
        list(open_corpus(path, Wanted()).clips())


def test_a_tar_is_read_in_place(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", write_folder(tmp_path / "x", sentences(3)))
    tree = TarTree(tar)
    assert tree.read("expresso/splits/dev.txt") == b"ex04_happy_00002\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.tar"]
