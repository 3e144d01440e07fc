"""Rows of the backbone, (n, 33) int32: what `models.csm.stepping.Rows` says, built from text and codes.

A segment of the context is its text rows, its audio rows, then END. Pure numpy.
"""

from collections.abc import Sequence

import numpy as np

from models.csm.shapes import CODEBOOKS, ROW_COLUMNS
from models.csm.stepping import Codes, Rows

NO_ROWS: Rows = np.zeros((0, ROW_COLUMNS), np.int32)
END_ROW: Rows = np.zeros((1, ROW_COLUMNS), np.int32)
"""32 zeros after an utterance's audio: the model's own sign that the utterance is over."""
END_ROW[0, CODEBOOKS] = -1
for _rows in (NO_ROWS, END_ROW):
    _rows.flags.writeable = False


def text_rows(tokens: Sequence[int]) -> Rows:
    """(n_tokens, 33): one token a row, no codes."""
    rows = np.full((len(tokens), ROW_COLUMNS), -1, np.int32)
    rows[:, CODEBOOKS] = tokens
    return rows


def audio_rows(codes: Codes) -> Rows:
    """(n_codec_frames, 33) from (n_codec_frames, 32): no text."""
    rows = np.full((len(codes), ROW_COLUMNS), -1, np.int32)
    rows[:, :CODEBOOKS] = codes
    return rows


def segment_rows(tokens: Sequence[int], codes: Codes | None) -> Rows:
    """What was said: its words, and its sound where there is one."""
    if codes is None or not len(codes):
        return text_rows(tokens)
    return np.concatenate([text_rows(tokens), audio_rows(codes), END_ROW])


def common_prefix(a: Rows, b: Rows) -> int:
    """How many rows both begin with."""
    n = min(len(a), len(b))
    differs = np.flatnonzero((a[:n] != b[:n]).any(axis=1))
    return int(differs[0]) if differs.size else n
