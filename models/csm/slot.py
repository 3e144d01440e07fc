"""One slot of the engine: what its cache holds and is to hold, and what it speaks."""

import logging
from dataclasses import dataclass

from models.csm.book import Book
from models.csm.stepping import Rows, TickRow
from models.csm.utterance import EndReason, Utterance

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Speaking:
    utterance: Utterance
    index: int = 0
    """Of the next CodecFrame."""


@dataclass(slots=True, eq=False)
class Slot:
    number: int
    book: Book
    open: bool = False
    speaking: Speaking | None = None
    target: Rows | None = None
    """What the cache is to begin with, while something of it is missing."""
    kept: int = 0
    """How much of `target` stands. The cache is cut there only when the first new row is evaluated: a request
    that is withdrawn before has destroyed nothing."""
    wish: Rows | None = None
    """Asked for by `prepare` during an utterance: begun when it ends."""


def tell_end(utterance: Utterance, reason: EndReason) -> None:
    try:
        utterance.on_end(reason)
    except Exception as error:
        _log.debug("an utterance's listener is gone: %s", error)


def tick_row(s: Slot) -> TickRow:
    speaking = s.speaking
    if speaking is None:
        raise AssertionError(f"slot {s.number} is due and does not speak")
    u = speaking.utterance
    may_end = speaking.index >= u.may_end_after
    return TickRow(s.number, s.book.length, speaking.index, u.seed, u.temperature, may_end)
