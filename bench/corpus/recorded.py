"""Turns from recorded human speech: a folder with audio files and `transcripts.csv` (`file|text`).

The pauses are the speaker's own: what stays under -40 dBFS for `SHORTEST_PAUSE_S` once the whole is at
-20 dBFS. Their silence is made digital, as everywhere in the corpus. Which words stand in which span is not
known: the first span has them all. They belong to the tuning part.
"""

import csv
from pathlib import Path

import numpy as np

from bench.corpus.building import SHORTEST_PAUSE_S
from bench.corpus.line import FULL_SCALE, band
from bench.corpus.model import Condition, Turn
from bench.corpus.speech import levelled
from pipeline.audible import voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.measure import utterances
from telephony.simulator.voices import read_audio

TRANSCRIPTS = "transcripts.csv"
_MARGIN = LINE_RATE_HZ // 50
_QUIET = Condition(
    noise="room", level_dbfs=-60.0, loss=0.0, echo_db=None, echo_delay_ms=0, delay_ms=60, jitter_ms=0, seed=0
)


def recorded(folder: Path) -> tuple[Turn, ...]:
    """One turn a file, voices as their readers' prefix (`LJ001-0001.flac`: `lj001`). Raises `OSError` and
    `telephony.simulator.VoiceUnavailable` for what cannot be read."""
    with (folder / TRANSCRIPTS).open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="|"))
    return tuple(_turn(folder / row["file"], row["text"]) for row in rows)


def _turn(path: Path, text: str) -> Turn:
    whole = levelled(band(read_audio(path).astype(np.float64) / FULL_SCALE), longest_silence_s=None)
    runs = utterances(voiced_runs(whole), SHORTEST_PAUSE_S)
    first = max(0, runs[0].start - _MARGIN)
    pcm = np.zeros(min(len(whole), runs[-1].stop + _MARGIN) - first, np.int16)
    spans = []
    for run in runs:
        start, stop = max(run.start - _MARGIN, first), min(run.stop + _MARGIN, len(whole))
        pcm[start - first : stop - first] = whole[start:stop]
        spans.append((start - first, stop - first))
    return Turn(
        id=path.stem,
        part="tuning",
        kind="recorded",
        voice=path.stem.partition("-")[0].lower(),
        text=text,
        question="",
        pcm=pcm,
        spans=tuple(spans),
        texts=(text, *("" for _ in spans[1:])),
        condition=_QUIET,
    )
