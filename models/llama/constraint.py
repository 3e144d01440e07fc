"""Holding a reply to a grammar from its first `{` on.

The model writes words as it likes; the token that would hold the first `{` becomes that brace alone, and from
there on only tokens that the grammar allows are chosen, the likeliest first. A constraint belongs to one
reply and to the engine's thread.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.llama.sampling import greedy

OPENING = b"{"
LIKELY = 64
"""Tokens that are looked at before all of the vocabulary is: the grammar allows one of them nearly always."""


class Matcher(Protocol):
    """Where a text stands in a grammar."""

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """Which of `tokens` may come next, (n_tokens,). Of those that end a reply: may it end here?"""
        ...

    def accept(self, token: int) -> None:
        """It comes next. It must be allowed."""
        ...


class NothingAllowed(ValueError):
    """No token of the vocabulary may come next."""


class Constraint:
    """`choose` for every token of a reply; `follow` for those that were chosen before it was cut off."""

    def __init__(
        self,
        begin: Callable[[], Matcher] | None,
        *,
        opening: int,
        ends: Sequence[int],
        piece: Callable[[int], bytes],
        choose: Callable[[NDArray[np.float32]], int] = greedy,
    ) -> None:
        """`choose` takes a token by its logits. Where the grammar does not allow it, the likeliest that it
        allows is taken. `begin` makes a matcher at the grammar's beginning, None: there is no grammar, and no
        brace; `opening` is the token of the brace alone, `ends` those that end a reply."""
        self._begin = begin
        self._opening = opening
        self._ends = tuple(ends)
        self._piece = piece
        self._choose = choose
        self._matcher: Matcher | None = None
        self._complete = False

    @property
    def complete(self) -> bool:
        """The grammar's text is whole: nothing may follow."""
        return self._complete

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The token to follow, by (vocabulary_size,) float32. Raises `ValueError` when the logits are not
        numbers, and `NothingAllowed`."""
        token = self._choose(logits)
        if self._matcher is None:
            if OPENING not in self._piece(token):
                return token
            if self._begin is None:
                return self._likeliest(self._without_opening, logits)
            token = self._opening
        elif not self._matcher.allowed([token])[0]:
            token = self._likeliest(self._matcher.allowed, logits)
        self.follow(token)
        return token

    def may_follow(self, token: int) -> bool:
        """`follow`, of a token that was chosen elsewhere: False if the grammar does not allow it here."""
        if self._complete:
            return False
        if self._matcher is None and self._begin is not None and OPENING in self._piece(token):
            self._matcher = self._begin()
        if self._matcher is None:
            return True
        if not self._matcher.allowed([token])[0]:
            return False
        self.follow(token)
        return True

    def follow(self, token: int) -> None:
        """`token` is part of the reply."""
        if self._matcher is None:
            if self._begin is None or OPENING not in self._piece(token):
                return
            self._matcher = self._begin()
        if token in self._ends:
            self._complete = True
            return
        self._matcher.accept(token)
        if b"}" in self._piece(token):
            self._complete = bool(self._matcher.allowed(self._ends).any())

    def _without_opening(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        return np.array([OPENING not in self._piece(token) for token in tokens], np.bool_)

    @staticmethod
    def _likeliest(
        may_follow: Callable[[Sequence[int]], NDArray[np.bool_]], logits: NDArray[np.float32]
    ) -> int:
        for count in (LIKELY, logits.size):
            count = min(count, logits.size)
            tokens = np.argpartition(-logits, count - 1)[:count]
            allowed = tokens[may_follow(tokens.tolist())]
            if allowed.size:
                return int(allowed[logits[allowed].argmax()])
        raise NothingAllowed("the grammar allows no token")
