"""Counts what passes through the model, in all and for each call: beside the scheduler, without believing it.

The audit sees only requests and batches. It remembers, per sequence, the tokens that were evaluated last, and
calls a token *re-evaluated* when a request left it and everything before it unchanged and it goes through the
model anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.base import Usage
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
    prompt was asked for that ends inside one evaluated earlier, or the end of words that were evaluated
    without being asked whether they end there."""
    guessed: int = 0
    """Of the evaluated: guesses at what a reply says next (see `drafting`)."""
    guessed_right: int = 0
    """Of these: the model chose the same."""


class Meter:
    """One call's tokens. Counted on the engine's thread; any thread may read `usage`, also after the call."""

    def __init__(self) -> None:
        self.evaluated = 0
        self.dropped = 0

    def usage(self) -> Usage:
        return Usage(self.evaluated, self.evaluated - self.dropped)


@dataclass(slots=True)
class _Record:
    """What the model holds for one sequence."""

    tokens: list[int]
    shared: int
    """So many of them were copied."""
    meter: Meter
    unchanged: int = 0

    def cut(self, length: int) -> None:
        self.meter.dropped += max(0, len(self.tokens) - max(length, self.shared))
        self.shared = min(self.shared, length)
        del self.tokens[length:]


class Audit:
    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._evaluated = self._reused = self._reevaluated = 0
        self._guessed = self._guessed_right = 0

    def counters(self) -> Counters:
        return Counters(self._evaluated, self._reused, self._reevaluated, self._guessed, self._guessed_right)

    def opened(self, sequence: int, *, copied_from: int | None = None, meter: Meter | None = None) -> None:
        held = [] if copied_from is None else list(self._records[copied_from].tokens)
        self._records[sequence] = _Record(held, len(held), meter or Meter())

    def closed(self, sequence: int) -> None:
        self._records.pop(sequence, None)

    def requested(self, sequence: int, target: Sequence[int]) -> None:
        record = self._records[sequence]
        record.unchanged = common_prefix(record.tokens, target)
        self._reused += record.unchanged

    def lost(self, sequence: int, length: int) -> None:
        """The model's memory of `sequence` ends at `length`: it failed there, or held wrong guesses. What
        follows may be evaluated anew."""
        record = self._records[sequence]
        record.cut(length)
        record.unchanged = min(record.unchanged, length)

    def guessed(self, count: int) -> None:
        """So many of the tokens that were evaluated last are guesses."""
        self._guessed += count

    def guessed_right(self) -> None:
        """One of them is what the model chose."""
        self._guessed_right += 1

    def evaluating(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            record = self._records[entry.sequence]
            self._evaluated += 1
            record.meter.evaluated += 1
            if entry.position < record.unchanged:
                self._reevaluated += 1
            record.cut(entry.position)
            record.tokens.append(entry.token)
