from pathlib import Path

import pytest

pyarrow = pytest.importorskip("pyarrow")

from pyarrow import parquet  # noqa: E402

from models.csm.finetune.corpus import CorpusError, Wanted, open_corpus  # noqa: E402
from tests.models.csm.finetune.corpus_kit import sentences, write_parquet  # noqa: E402


def test_splits_are_made_when_there_are_none(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train-00000-of-00001.parquet", sentences(10))
    splits = {clip.key: clip.split for clip in open_corpus(file, Wanted()).clips()}
    assert splits["ex04_default_00009"] == splits["ex04_happy_00010"] == "test"
    assert splits["ex04_default_00007"] == splits["ex04_happy_00008"] == "dev"
    assert list(splits.values()).count("train") == 6


def test_a_file_of_any_name_is_known_by_its_beginning(tmp_path: Path) -> None:
    assert open_corpus(write_parquet(tmp_path / "expresso", sentences(6)), Wanted()).n_clips == 6


def test_splits_may_be_in_the_names_of_the_files(tmp_path: Path) -> None:
    made = sentences(6)
    write_parquet(tmp_path / "read" / "train-00000-of-00001.parquet", made[:4], number_speakers=True)
    write_parquet(tmp_path / "read" / "dev-00000-of-00001.parquet", made[4:], number_speakers=True)
    clips = list(open_corpus(tmp_path, Wanted()).clips())
    assert [clip.split for clip in clips] == ["dev"] * 2 + ["train"] * 4


def test_clips_without_sound_or_words_are_counted(tmp_path: Path) -> None:
    table = parquet.read_table(write_parquet(tmp_path / "a.parquet", sentences(6)))
    rows = table.to_pylist()
    rows[0]["audio"]["bytes"] = None
    rows[1]["text"] = "**"
    parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), tmp_path / "a.parquet")
    corpus = open_corpus(tmp_path / "a.parquet", Wanted())
    assert len(list(corpus.clips())) == 4
    assert corpus.skipped == {"without audio": 1, "without words": 1}


def test_other_columns_another_speaker_and_damage_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"sound": [1]}), file)
    with pytest.raises(CorpusError, match="no column audio, text"):
        open_corpus(file, Wanted())
    write_parquet(file, sentences(3))
    with pytest.raises(CorpusError, match="no clip of speaker ex02"):
        open_corpus(file, Wanted("ex02"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorpusError, match="cannot be read as parquet"):
        open_corpus(file, Wanted())
