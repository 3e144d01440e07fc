"""Which rows a slot's cache holds. Pure numpy."""

import numpy as np

from models.csm.rows import common_prefix
from models.csm.shapes import CODEBOOKS, ROW_COLUMNS
from models.csm.stepping import Rows


class Book:
    """The engine's account of one slot."""

    def __init__(self, rows: int) -> None:
        self._rows = np.full((rows, ROW_COLUMNS), -1, np.int32)
        self.length = 0
        self.fresh = False
        """The last row's hidden state is at hand: the next CodecFrame can be sampled."""

    @property
    def room(self) -> int:
        return len(self._rows) - self.length

    @property
    def rows(self) -> Rows:
        """A view, (length, 33)."""
        return self._rows[: self.length]

    def common(self, rows: Rows) -> int:
        """How many rows of `rows` the cache begins with."""
        return common_prefix(self.rows, rows)

    def ready_after(self, rows: Rows) -> int:
        """How many rows of `rows` need no evaluation when a CodecFrame is to follow: a last row whose hidden
        state is gone has to pass again."""
        kept = self.common(rows)
        at_hand = self.fresh and self.length == kept
        return kept - 1 if kept == len(rows) and not at_hand else kept

    def cut(self, length: int) -> None:
        """Rows from `length` on are void."""
        if length < self.length:
            self.length, self.fresh = length, False

    def append(self, rows: Rows) -> None:
        """Rows that have passed through the model. Raises `ValueError` where they do not fit."""
        end = self.length + len(rows)
        self._rows[self.length : end] = rows
        self.length, self.fresh = end, True

    def append_codes(self, codes: Rows) -> None:
        """(32,) codes of one CodecFrame."""
        self._rows[self.length, :CODEBOOKS] = codes
        self._rows[self.length, CODEBOOKS] = -1
        self.length += 1
        self.fresh = True

    def replace(self, rows: Rows) -> None:
        """The cache was overwritten from its first row by saved rows, without a hidden state."""
        self._rows[: len(rows)] = rows
        self.length, self.fresh = len(rows), False
