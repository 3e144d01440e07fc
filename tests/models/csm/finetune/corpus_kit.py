"""A corpus of a few sentences, made by the project, in Expresso's two layouts."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from models.base import Samples
from models.scripted import voiced_signal

RATE_HZ = 48_000


@dataclass(frozen=True)
class Sentence:
    key: str
    text: str
    split: str
    samples: Samples
    """48 kHz."""

    @property
    def speaker(self) -> str:
        return self.key.split("_")[0]

    @property
    def style(self) -> str:
        return self.key.split("_")[1]

    @property
    def place(self) -> str:
        return f"audio_48khz/read/{self.speaker}/{self.style}/base/{self.key}.wav"

    @property
    def wav(self) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, self.samples, RATE_HZ, format="WAV", subtype="PCM_16")
        return file.getvalue()


def sentences(n: int = 10, seconds: float = 0.64) -> list[Sentence]:
    """`n` of ex04, the last but one dev and the last test, and one of ex01."""
    made = []
    for number in range(1, n + 1):
        style = "default" if number % 2 else "happy"
        text = f"This is *sentence* number {number}."
        split = "test" if number == n else "dev" if number == n - 1 else "train"
        # Silence before and after, as recordings have it.
        audio = np.pad(voiced_signal(text, seconds, RATE_HZ), RATE_HZ // 50)
        made.append(Sentence(f"ex04_{style}_{number:05d}", text, split, audio))
    other = Sentence("ex01_default_00001", "Someone else.", "train", voiced_signal("x", 0.4, RATE_HZ))
    return [*made, other]


def write_folder(folder: Path, made: list[Sentence], *, splits: bool = True) -> Path:
    """Expresso as it lies unpacked."""
    for sentence in made:
        path = folder / sentence.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sentence.wav)
    lines = "".join(f"{sentence.key}\t{sentence.text}\n" for sentence in made)
    (folder / "read_transcriptions.txt").write_text(lines, "utf-8")
    if splits:
        (folder / "splits").mkdir(exist_ok=True)
        for split in ("train", "dev", "test"):
            keys = "".join(f"{sentence.key}\n" for sentence in made if sentence.split == split)
            (folder / "splits" / f"{split}.txt").write_text(keys, "utf-8")
    return folder


def write_tar(path: Path, folder: Path, *, reverse: bool = False) -> Path:
    """The folder as an archive whose members begin with `expresso/`."""
    with tarfile.open(path, "w") as tar:
        for file in sorted((file for file in folder.rglob("*") if file.is_file()), reverse=reverse):
            tar.add(file, f"expresso/{file.relative_to(folder)}")
    return path


def write_parquet(path: Path, made: list[Sentence], *, number_speakers: bool = False) -> Path:
    """The columns that the hub's copies have."""
    import pyarrow
    from pyarrow import parquet

    rows = [
        {
            "audio": {"bytes": sentence.wav, "path": f"{sentence.key}.wav"},
            "text": sentence.text,
            "speaker_id": int(sentence.speaker[2:]) if number_speakers else sentence.speaker,
            "style": sentence.style,
            "id": sentence.key,
        }
        for sentence in made
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=3)
    return path
