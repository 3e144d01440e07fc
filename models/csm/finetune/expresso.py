"""Expresso as it is published, in its tar or unpacked: read_transcriptions.txt, splits/*.txt and
audio_48khz/read/SPEAKER/STYLE/KIND/ID.wav. The tar is read in place: one pass over its headers, then the
wanted files in order.

Source: Nguyen et al., "EXPRESSO: A Benchmark and Analysis of Discrete Expressive Speech Resynthesis", 2023,
and the README of the archive.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from models.csm.finetune.corpus import (
    SPLITS,
    Clip,
    CorpusError,
    Split,
    Wanted,
    clean_text,
    parse_splits,
    split_all,
)

_TRANSCRIPTIONS = "read_transcriptions.txt"


class Tree(Protocol):
    """Named files."""

    name: str

    def names(self) -> list[str]:
        """Relative, with forward slashes, in the order in which reading them is quick."""
        ...

    def read(self, name: str) -> bytes: ...


class FolderTree:
    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def names(self) -> list[str]:
        files = (path for path in self._folder.rglob("*") if path.suffix in (".txt", ".wav"))
        return sorted(path.relative_to(self._folder).as_posix() for path in files)

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


class TarTree:
    """An archive, which may be 36 GB: nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        """Raises `CorpusError` when the file is no tar or ends too early."""
        self.name = str(path)
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115
            members = [member for member in self._tar if member.isfile()]
        except (tarfile.TarError, EOFError, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(":")
            raise CorpusError(
                f"{path} is neither a tar nor parquet, or it is cut off ({reason}): fetch it again."
            ) from error
        self._members = {member.name: member for member in members}

    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> bytes:
        file = self._tar.extractfile(self._members[name])
        if file is None:
            raise CorpusError(f"{self.name}: {name} is no file.")
        data = file.read()
        if len(data) != self._members[name].size:
            raise CorpusError(f"{self.name} is cut off within {name}: fetch it again.")
        return data


class TreeCorpus:
    def __init__(self, tree: Tree, wanted: Wanted, given: Mapping[str, Split] | None = None) -> None:
        """Raises `CorpusError` when there are no transcriptions or nothing of the wanted speaker."""
        self.skipped: Counter[str] = Counter()
        self._tree = tree
        names = tree.names()
        self._texts = self._transcriptions(names)
        self._paths = {
            PurePosixPath(name).stem: name
            for name in names
            if (found := _place(name)) and wanted.takes(*found)
        }
        if not self._paths:
            raise CorpusError(
                f"{tree.name}: no audio_48khz/read/{wanted.speaker}/STYLE/KIND/*.wav"
                + (f" of the styles {', '.join(wanted.styles)}." if wanted.styles else ".")
            )
        self.n_clips = len(self._paths)
        styles = {key: _place(name) or ("", "") for key, name in self._paths.items()}
        self._styles = {key: style for key, (_, style) in styles.items()}
        self._splits = split_all(self._styles, given or self._own_splits(names))

    def clips(self) -> Iterator[Clip]:
        self.skipped.clear()
        for key, name in self._paths.items():
            if key not in self._splits:
                self.skipped["in no split"] += 1
            elif not (text := clean_text(self._texts.get(key, ""))):
                self.skipped["without words"] += 1
            else:
                yield Clip(key, text, self._styles[key], self._splits[key], self._tree.read(name))

    def _transcriptions(self, names: list[str]) -> dict[str, str]:
        found = next((name for name in names if PurePosixPath(name).name == _TRANSCRIPTIONS), None)
        if found is None:
            raise CorpusError(
                f"{self._tree.name} holds neither {_TRANSCRIPTIONS} nor *.parquet: give Expresso's tar, its"
                " unpacked folder, or parquet files."
            )
        lines = self._tree.read(found).decode("utf-8").splitlines()
        return {key.strip(): text for key, tab, text in (line.partition("\t") for line in lines) if tab}

    def _own_splits(self, names: list[str]) -> dict[str, Split]:
        texts = {
            split: self._tree.read(name).decode("utf-8")
            for split in SPLITS
            for name in names
            if PurePosixPath(name).parts[-2:] == ("splits", f"{split}.txt")
        }
        return parse_splits(texts)


def _place(name: str) -> tuple[str, str] | None:
    """Speaker and style of a read recording; None for every other file."""
    parts = PurePosixPath(name).parts
    if not name.endswith(".wav") or len(parts) < 6 or parts[-6:-4] != ("audio_48khz", "read"):
        return None
    return parts[-4], parts[-3]
