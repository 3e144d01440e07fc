"""Spoken sentences with their words: one speaker of a corpus, clip by clip."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from models.base import ModelError

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_HELD_OUT = 0.04
"""Share of each style that becomes dev, and as much again test, when a corpus brings no splits."""


class CorpusError(ModelError):
    """A corpus cannot be read; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Clip:
    key: str
    """The corpus's id, as in `ex04_default_00001`."""
    text: str
    style: str
    split: Split
    audio: bytes = field(repr=False)
    """A whole audio file: wav, flac, whatever libsndfile reads."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which clips of a corpus are read."""

    speaker: str = "ex04"
    styles: tuple[str, ...] = ()
    """Empty: every style."""

    def takes(self, speaker: object, style: str) -> bool:
        return same_speaker(speaker, self.speaker) and (not self.styles or style in self.styles)


class Corpus(Protocol):
    n_clips: int
    """How many there are, before those that are skipped for what is found in them."""
    skipped: Counter[str]
    """Clips left out so far, by reason."""

    def clips(self) -> Iterator[Clip]:
        """Every clip that is wanted, in the corpus's order; one clip's audio is held at a time."""
        ...


def open_corpus(path: Path, wanted: Wanted, *, splits: Path | None = None) -> Corpus:
    """Expresso's tar, its unpacked folder, or parquet files (one, or a folder of them). `splits` is a folder
    with train.txt, dev.txt and test.txt for a corpus that has none. Raises `CorpusError`."""
    from models.csm.finetune.expresso import FolderTree, TarTree, TreeCorpus
    from models.csm.finetune.parquet import ParquetCorpus, parquet_files

    given = read_splits(splits) if splits else {}
    if not path.exists():
        raise CorpusError(f"{path} does not exist: give Expresso's tar, its folder, or parquet files.")
    if files := parquet_files(path):
        return ParquetCorpus(files, wanted, given)
    tree = FolderTree(path) if path.is_dir() else TarTree(path)
    return TreeCorpus(tree, wanted, given)


def read_splits(folder: Path) -> dict[str, Split]:
    """Ids by split from train.txt, dev.txt and test.txt. Raises `CorpusError` when none is there."""
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    texts = {split: file.read_text("utf-8") for split, file in files.items() if file.is_file()}
    if not texts:
        raise CorpusError(f"{folder} holds none of train.txt, dev.txt, test.txt.")
    return parse_splits(texts)


def parse_splits(texts: Mapping[Split, str]) -> dict[str, Split]:
    """Each line is an id, or an id and a span of time, as in `ex04_default_longform_00001<TAB>(60.0s,)`.

    Expresso cuts its long files by time and its transcriptions know no times. Such a file goes to train as a
    whole, and its parts in dev and test are given up: no sound of it is then validated on.
    """
    found: dict[str, Split] = {}
    for split, text in texts.items():
        for line in text.splitlines():
            key, _, span = line.strip().partition("\t")
            if key and not key.startswith("#"):
                found[key] = "train" if span.strip() else split
    return found


def own_splits(keys: Iterable[str]) -> dict[str, Split]:
    """Expresso's rule for short files: of each sub-style, `ex04_default_emphasis` in
    `ex04_default_emphasis_00001`, the last ids are test, those before them dev. A sub-style of fewer than
    three clips is all train."""
    by_style: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        by_style[key.rpartition("_")[0]].append(key)
    found: dict[str, Split] = {}
    for style in by_style.values():
        ordered = sorted(style)
        held = max(1, round(_HELD_OUT * len(ordered))) if len(ordered) >= 3 else 0
        for place, key in enumerate(reversed(ordered)):
            found[key] = "test" if place < held else "dev" if place < 2 * held else "train"
    return found


def split_all(keys: Iterable[str], given: Mapping[str, Split]) -> dict[str, Split]:
    """The split of each id: the given one, or the rule's where none was given at all. Ids that given splits
    do not name (Expresso's singing) are absent."""
    return {key: given[key] for key in keys if key in given} if given else own_splits(keys)


def same_speaker(named: object, wanted: str) -> bool:
    """`ex04`, `EX04`, 4 and `4` are one speaker."""
    return _speaker(str(named)) == _speaker(wanted)


def _speaker(name: str) -> str:
    name = name.strip().lower()
    return str(int(name.removeprefix("ex"))) if name.removeprefix("ex").isdigit() else name


def clean_text(text: str) -> str:
    """Words as they are read: `*emphasis*` without its asterisks, single spaces."""
    return re.sub(r"\s+", " ", text.replace("*", "")).strip()
