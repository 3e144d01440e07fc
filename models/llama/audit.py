"""Counts what passes through the model, beside the scheduler and without believing it.

The audit sees only requests and batches. It remembers, per sequence, the tokens that were evaluated last, and
calls a token *re-evaluated* when a request left it and everything before it unchanged and it goes through the
model anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.llama.scheduler import Entry, common_prefix


@dataclass(frozen=True, slots=True)
class Counters:
    """Tokens since the engine started."""

    evaluated: int = 0
    """Went through the model: prefixes, prompts and replies."""
    reused: int = 0
    """Of the requested prompts: were in memory already."""
    reevaluated: int = 0
    """Went through the model although nothing up to them had changed. 0 unless something is wrong, or a
    prompt was asked for that ends inside one evaluated earlier."""


class Audit:
    def __init__(self) -> None:
        self._held: dict[int, list[int]] = {}
        self._unchanged: dict[int, int] = {}
        self._evaluated = self._reused = self._reevaluated = 0

    def counters(self) -> Counters:
        return Counters(self._evaluated, self._reused, self._reevaluated)

    def opened(self, sequence: int, *, copied_from: int | None = None) -> None:
        self._held[sequence] = [] if copied_from is None else list(self._held[copied_from])
        self._unchanged[sequence] = 0

    def closed(self, sequence: int) -> None:
        self._held.pop(sequence, None)
        self._unchanged.pop(sequence, None)

    def requested(self, sequence: int, target: Sequence[int]) -> None:
        unchanged = common_prefix(self._held[sequence], target)
        self._unchanged[sequence] = unchanged
        self._reused += unchanged

    def lost(self, sequence: int, length: int) -> None:
        """The model's memory of `sequence` failed from `length` on: evaluating it anew is no fault."""
        del self._held[sequence][length:]
        self._unchanged[sequence] = min(self._unchanged[sequence], length)

    def evaluating(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            held = self._held[entry.sequence]
            self._evaluated += 1
            if entry.position < self._unchanged[entry.sequence]:
                self._reevaluated += 1
            del held[entry.position :]
            held.append(entry.token)
