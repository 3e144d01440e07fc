"""What remains to be spoken of a clause whose replica was lost. Pure.

A voice that says equal texts with equal samples, and quickly, says the clause again, and what was delivered
is left out. From any other voice the rest of the words is asked for: from the word that was cut, where the
voice tells when words sound; else from where the words must be at the pace at which people speak.
"""

from collections.abc import Sequence

import numpy as np

from models.base import Samples

Span = tuple[float, float]

SEAM_S = 0.010
"""So much of what was delivered is compared with what is said again, and so long new sound fades in."""
HEARD_SHARE = 0.7
"""A word that was heard so far is not said again: it is understood, and would sound twice."""
PACE_S = 0.067
"""Seconds a character, where nothing better is known."""
CATCH_UP_S = 0.15
"""Longer than this nobody waits for what is said again to reach the place where it broke off."""
_ALIKE = 0.02
"""Largest difference between samples that are the same sound."""


class Said:
    """One clause: `to_speak()`, then `take()` for each chunk of it; again after a loss (`lost()`)."""

    def __init__(self, text: str, rate_hz: int, *, repeats: bool) -> None:
        self.text = text
        self.rate_hz = rate_hz
        self._repeats = repeats
        self._words = text.split()
        self._tail = np.zeros(0, np.float32)
        self.delivered = 0
        """Samples."""
        self._first = 0
        """Words before this one are not asked for again."""
        self._base_s = 0.0
        """Where in the clause's audio the present request begins."""
        self._received = 0
        self._seam: int | None = None
        """Sample of the request at which new sound begins; None: nothing was lost."""
        self._fade = False
        self._known: list[Span] = []
        """Of the words before the present request."""
        self._spans: list[Span] = []
        self.seamless = True
        """Every replica said the same; False once one did not."""

    @property
    def delivered_s(self) -> float:
        return self.delivered / self.rate_hz

    def to_speak(self) -> str:
        """What to ask for now; "" where nothing remains."""
        return " ".join(self._words[self._first :]) if self._first else self.text

    def take(self, chunk: Samples, spans: Sequence[Span] | None = None) -> Samples:
        """What of the chunk is new, (n,) float32; may be empty."""
        if spans is not None:
            self._spans = list(spans)
        start, self._received = self._received, self._received + len(chunk)
        new = chunk
        if self._seam is not None and start < self._seam:
            self._compare(chunk, start)
            new = chunk[self._seam - start :]
        if self._fade and len(new):
            self._fade = False
            length = min(len(new), round(SEAM_S * self.rate_hz))
            new = new.copy()
            new[:length] *= np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)
        self.delivered += len(new)
        most = round(SEAM_S * self.rate_hz)
        self._tail = np.concatenate([self._tail, new])[-most:]
        return new

    def _compare(self, chunk: Samples, start: int) -> None:
        """The chunk's samples before the seam against those delivered there."""
        if self._seam is None:
            return
        first = max(start, self._seam - len(self._tail))
        end = min(self._seam, start + len(chunk))
        if first >= end:
            return
        again = chunk[first - start : end - start]
        begin = first - (self._seam - len(self._tail))
        before = self._tail[begin : begin + len(again)]
        if not np.allclose(again, before, rtol=0.0, atol=_ALIKE):
            self.seamless, self._fade = False, True

    def lost(self, speed: float = float("inf")) -> None:
        """The rest will come from another replica. `speed`: seconds of sound that a replica makes in one."""
        self._received = 0
        if not self.delivered:
            return
        if self._repeats and (not self._spans or self.delivered_s <= CATCH_UP_S * speed):
            self._seam = self.delivered
            return
        spans = self.word_spans()
        self._first = self._word_at(spans)
        self._known = [
            (min(start, self.delivered_s), min(end, self.delivered_s)) for start, end in spans[: self._first]
        ]
        self._spans, self._base_s, self._fade = [], self.delivered_s, True
        self._repeats, self._seam = False, None

    def _word_at(self, spans: Sequence[Span]) -> int:
        """The first word that was not heard."""
        if spans:
            return sum(start + HEARD_SHARE * (end - start) <= self.delivered_s for start, end in spans)
        left_s = self.delivered_s - self._base_s
        for number, word in enumerate(self._words[self._first :], self._first):
            left_s -= PACE_S * (len(word) + 1)
            if left_s < 0:
                return number
        return len(self._words)

    @property
    def over(self) -> bool:
        """Nothing remains, though the replica did not come to say so."""
        return not self._repeats and self._first >= len(self._words) > 0

    def word_spans(self) -> list[Span]:
        """In seconds of the audio that was delivered and will be; none where the voice does not tell."""
        if not self._spans:
            return []
        return self._known + [(self._base_s + start, self._base_s + end) for start, end in self._spans]
