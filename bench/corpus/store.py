"""The corpus on disk: made on first use, kept in the user's cache under its digest, never distributed."""

import contextlib
import hashlib
import json
import os
import tempfile
import wave
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bench.corpus.building import build
from bench.corpus.line import heard
from bench.corpus.model import Condition, Corpus, Overlap, Turn
from bench.corpus.speech import has_flite
from bench.corpus.templates import PartName
from pipeline.line import LINE_RATE_HZ, Pcm

_ARCHIVE = "corpus.npz"


def corpus(part: PartName | None = None, progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """The corpus, or one part of it. The first call on a machine makes it: 20 s of one core; later ones read
    18 MB. Raises `VoiceUnavailable` without hibari."""
    whole = _cached()
    if whole is None:
        _keep(build(progress))
        _cached.cache_clear()
        whole = _cached()
    if whole is None:
        raise OSError(f"{_folder()} does not keep what is written there")
    return whole if part is None else whole.of(part)


def make(folder: Path | None = None, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Make the corpus if it is not there; returns where it lies. With `folder`, every item is also written
    there as WAV: `<id>.wav`, and turns as `<id>.heard.wav` too, with `corpus.json` for the truth. Blocks."""
    whole = corpus(progress=progress)
    if folder is None:
        return _folder()
    folder.mkdir(parents=True, exist_ok=True)
    items: tuple[Turn | Overlap, ...] = (*whole.turns, *whole.overlaps)
    for item in items:
        _write_wav(folder / f"{item.id}.wav", item.pcm)
    for turn in whole.turns:
        _write_wav(folder / f"{turn.id}.heard.wav", heard(turn))
    rows = [_row(item) for item in items]
    (folder / "corpus.json").write_text(
        json.dumps({"digest": whole.digest, "items": rows}, indent=1), "utf-8"
    )
    return folder


def digest() -> str:
    """Of all that decides the corpus: this package's files, hibari's version, whether flite is there."""
    state = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        state.update(source.read_bytes())
    with contextlib.suppress(PackageNotFoundError):
        state.update(version("hibari-tts").encode())
    state.update(b"flite" if has_flite() else b"")
    return state.hexdigest()[:16]


def _folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "maya" / f"corpus-{digest()}"


@lru_cache(maxsize=1)
def _cached() -> Corpus | None:
    archive = _folder() / _ARCHIVE
    if not archive.is_file():
        return None
    with np.load(archive) as stored:
        rows = json.loads(str(stored["rows"]))
        turns = tuple(_turn(row, stored[row["id"]]) for row in rows if "spans" in row)
        overlaps = tuple(_overlap(row, stored[row["id"]]) for row in rows if "spans" not in row)
    return Corpus(turns, overlaps, digest())


def _keep(whole: Corpus) -> None:
    items: tuple[Turn | Overlap, ...] = (*whole.turns, *whole.overlaps)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    # Two processes may make it at once: whoever is second replaces a file by an equal one.
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
        sounds: dict[str, Any] = {item.id: item.pcm for item in items}
        np.savez(file, rows=np.asarray(json.dumps([_row(item) for item in items])), **sounds)
    Path(file.name).replace(folder / _ARCHIVE)


def _row(item: Turn | Overlap) -> dict[str, Any]:
    row = {name: getattr(item, name) for name in item.__slots__ if name not in ("pcm", "condition")}
    return row | {"condition": asdict(item.condition)}


def _turn(row: dict[str, Any], pcm: Pcm) -> Turn:
    spans = tuple((start, stop) for start, stop in row["spans"])
    fields = {**row, "spans": spans, "texts": tuple(row["texts"]), "condition": Condition(**row["condition"])}
    return Turn(pcm=_frozen(pcm), **fields)


def _overlap(row: dict[str, Any], pcm: Pcm) -> Overlap:
    return Overlap(pcm=_frozen(pcm), **{**row, "condition": Condition(**row["condition"])})


def _frozen(pcm: Pcm) -> Pcm:
    pcm.flags.writeable = False
    return pcm


def _write_wav(path: Path, pcm: Pcm) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(LINE_RATE_HZ)
        sound.writeframes(pcm.astype("<i2").tobytes())
