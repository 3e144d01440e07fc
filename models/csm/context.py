"""What the model is shown of a conversation. Pure.

A slot's cache holds the voice prompt, the last turns, then the utterance to speak. When it is full it is
rebuilt with fewer turns; RoPE positions are absolute, so nothing can slide and every row behind the prompt
passes again. That is done rarely, and while the caller speaks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.csm.rows import NO_ROWS, segment_rows
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_S
from models.csm.stepping import Codes, Rows

SPARE_ROWS = 400
"""What `prepare` leaves free before an answer: one of 360 letters takes about as much."""
ROOMY_ROWS = 700
"""What it leaves while the caller has the floor: room for their turn too. With equal numbers, one rebuild in
four came between the caller's last word and the answer; with these, one in a thousand, and one in 150 within
an answer (reckoned for turns of 4 s, answers of 160 letters)."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Words and, where it is known, their sound."""

    speaker: int
    text: str
    codes: Codes | None = None


class Said:
    """One utterance of the voice, growing while it is spoken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.n_codec_frames = 0
        self._codes = np.zeros((64, CODEBOOKS), np.int32)

    def add(self, codes: Codes) -> None:
        """(32,) codes of one CodecFrame that was given out."""
        if self.n_codec_frames == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
        self._codes[self.n_codec_frames] = codes
        self.n_codec_frames += 1

    def drop(self, n_last: int) -> None:
        self.n_codec_frames = max(0, self.n_codec_frames - n_last)

    def codes(self, n: int | None = None) -> Codes:
        """(n, 32) int32: the first n, or all. A view."""
        chosen = self.n_codec_frames if n is None else min(n, self.n_codec_frames)
        return self._codes[:chosen]


def heard_segments(
    parts: Sequence[Said], speaker: int, *, words: str = "", heard_s: float | None = None
) -> list[Segment]:
    """An utterance, spoken in `parts`, as far as it was heard: all of it, or `words` and the CodecFrames that
    were played whole in `heard_s`."""
    if heard_s is None:
        return [Segment(speaker, part.text, part.codes()) for part in parts if part.n_codec_frames]
    left = math.floor(heard_s / CODEC_FRAME_S + 1e-6)
    segments: list[Segment] = []
    for part in parts:
        if left <= 0:
            break
        whole = left >= part.n_codec_frames
        text = part.text if whole else _heard_words(words, segments, part, left)
        if text:
            segments.append(Segment(speaker, text, part.codes(left)))
        left -= part.n_codec_frames
    return segments


def _heard_words(words: str, before: Sequence[Segment], part: Said, n_codec_frames: int) -> str:
    """The heard words of a part that was cut: what remains of `words` after the parts before, or, where the
    two were not written alike, a share of the part's words."""
    rest = " ".join(words.split())
    for segment in before:
        earlier = " ".join(segment.text.split())
        if not rest.startswith(earlier):
            own = part.text.split()
            return " ".join(own[: len(own) * n_codec_frames // part.n_codec_frames])
        rest = rest[len(earlier) :].strip()
    return rest


class Window:
    """Which of a conversation's segments the cache holds: all from `start` on."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: rows of the cache."""
        self._capacity = capacity
        self.start = 0
        self.rebuilds = 0

    def fit(
        self, lengths: Sequence[int], *, fixed: int, needed: int | None = None, roomy: bool = False
    ) -> int:
        """Rows left free once segments of these `lengths` follow `fixed` rows of prompt; the oldest are let
        go when fewer than `needed` are left (None: `SPARE_ROWS`, or `ROOMY_ROWS` where `roomy`), and then so
        many that half is free."""
        free = self._capacity - fixed
        self.start = min(self.start, len(lengths))
        left = free - sum(lengths[self.start :])
        spare = min(ROOMY_ROWS, free * 2 // 5) if roomy else min(SPARE_ROWS, free // 5)
        wanted = spare if needed is None else needed
        if left >= wanted:
            return left
        self.rebuilds += 1
        wanted = max(wanted, free // 2)
        while self.start < len(lengths) and left < wanted:
            left += lengths[self.start]
            self.start += 1
        return left


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The rows before an utterance's own."""

    rows: Rows
    room: int
    """Rows left in the cache."""


def build_context(
    prompt: Rows,
    segments: Sequence[Segment],
    window: Window,
    encode: Callable[[int, str], Sequence[int]],
    *,
    needed: int | None = None,
    roomy: bool = False,
) -> Context:
    """Prompt, then as many of the last `segments` as the window leaves; moves the window when it must.
    `encode(speaker, text)` gives the tokens of a text."""
    skipped = min(window.start, len(segments))
    built = [segment_rows(encode(s.speaker, s.text), s.codes) for s in segments[skipped:]]
    lengths = [0] * skipped + [len(rows) for rows in built]
    room = window.fit(lengths, fixed=len(prompt), needed=needed, roomy=roomy)
    kept = built[window.start - skipped :]
    return Context(np.concatenate([NO_ROWS, prompt, *kept]), room)
