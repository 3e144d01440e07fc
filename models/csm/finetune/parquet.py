"""Expresso as parquet: columns audio {bytes, path}, text, speaker_id, style, id, as on the hub."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.csm.finetune.corpus import Clip, CorpusError, Split, Wanted, clean_text, split_all

_COLUMNS = ("audio", "text", "speaker_id", "style", "id")
_MAGIC = b"PAR1"
"""Every parquet file begins with it, whatever its name."""
_ROWS_AT_ONCE = 16
"""A row is a few megabytes of audio."""
_PART_OF_FILE: Mapping[str, Split] = {"train": "train", "dev": "dev", "validation": "dev", "test": "test"}


def parquet_files(path: Path) -> list[Path]:
    """`path` itself or the parquet files below it, in order; empty when it is another kind of corpus."""
    if path.is_dir():
        return sorted(path.rglob("*.parquet"))
    with path.open("rb") as file:
        return [path] if path.suffix == ".parquet" or file.read(4) == _MAGIC else []


class ParquetCorpus:
    """Splits are those given, else those of the files' names (train-*, dev-* or validation-*, test-*) when
    there are several, else made by Expresso's rule."""

    def __init__(
        self, files: Sequence[Path], wanted: Wanted, given: Mapping[str, Split] | None = None
    ) -> None:
        """Reads the small columns. Raises `CorpusError` for other columns and for an absent speaker."""
        self.skipped: Counter[str] = Counter()
        self._files = list(files)
        self._wanted = wanted
        keys: list[str] = []
        named: dict[str, Split] = {}
        for file in self._files:
            for row in self._rows(file, _COLUMNS[2:]):
                keys.append(row["id"])
                if part := _part(file):
                    named[row["id"]] = part
        if not keys:
            place = files[0] if len(files) == 1 else files[0].parent
            styles = f" in the styles {', '.join(wanted.styles)}" if wanted.styles else ""
            raise CorpusError(f"{place}: no clip of speaker {wanted.speaker}{styles}.")
        self.n_clips = len(keys)
        from_names = named if len(set(named.values())) > 1 else {}
        self._splits = split_all(keys, given or from_names)

    def clips(self) -> Iterator[Clip]:
        self.skipped.clear()
        for file in self._files:
            for row in self._rows(file, _COLUMNS):
                key, text, audio = row["id"], clean_text(row["text"] or ""), row["audio"]["bytes"]
                if key not in self._splits:
                    self.skipped["in no split"] += 1
                elif not text:
                    self.skipped["without words"] += 1
                elif not audio:
                    self.skipped["without audio"] += 1
                else:
                    yield Clip(key, text, row["style"], self._splits[key], audio)

    def _rows(self, file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Rows of the wanted speaker and styles."""
        parquet = _pyarrow_parquet()
        try:
            with parquet.ParquetFile(file) as table:
                missing = [name for name in _COLUMNS if name not in table.schema_arrow.names]
                if missing:
                    raise CorpusError(f"{file} has no column {', '.join(missing)}: not Expresso's layout.")
                for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                    for row in batch.to_pylist():
                        if self._wanted.takes(row["speaker_id"], row["style"]):
                            yield row
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise CorpusError(f"{file} cannot be read as parquet: {error}") from error


def _part(file: Path) -> Split | None:
    return _PART_OF_FILE.get(file.name.split("-")[0].removesuffix(".parquet"))


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise CorpusError("reading parquet needs pyarrow: pip install 'maya-voice[finetune]'") from error
    return parquet
