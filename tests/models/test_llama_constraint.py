"""Holding a reply to a grammar from its first brace on."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.llama.constraint import LIKELY, Constraint, NothingAllowed

PIECES = [b"<end>", b"Hello", b" world", b"{", b' {"', b'"a"', b"}", b"1", *(b"x%d" % i for i in range(200))]
END, HELLO, WORLD, BRACE, MESSY, A, CLOSE, ONE = range(8)
WANTED = [BRACE, A, ONE, CLOSE, END]


class Spelled:
    """Allows one token after the other: those of `WANTED`."""

    def __init__(self, wanted: Sequence[int] = WANTED) -> None:
        self.wanted = list(wanted)
        self.asked: list[int] = []

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        self.asked.append(len(tokens))
        return np.array([self.wanted[:1] == [token] for token in tokens], np.bool_)

    def accept(self, token: int) -> None:
        assert token == self.wanted.pop(0), "what is not allowed would end the process"


def constraint(matcher: Spelled | None = None) -> Constraint:
    return Constraint(
        lambda: matcher or Spelled(), opening=BRACE, ends=[END], piece=lambda token: PIECES[token]
    )


def wants(*tokens: int) -> NDArray[np.float32]:
    """Logits of a model that likes `tokens`, the first one most."""
    logits = np.full(len(PIECES), -5.0, np.float32)
    for rank, token in enumerate(tokens):
        logits[token] = 10.0 - 0.05 * rank
    return logits


def test_words_are_free() -> None:
    held = constraint()
    assert [held.choose(wants(token)) for token in (HELLO, WORLD, END)] == [HELLO, WORLD, END]
    assert not held.complete


def test_from_the_first_brace_on_the_grammar_decides() -> None:
    held = constraint()
    assert held.choose(wants(HELLO)) == HELLO
    assert held.choose(wants(MESSY)) == BRACE, "the brace alone, whatever the model hung on to it"
    assert held.choose(wants(HELLO, A, WORLD)) == A
    assert held.choose(wants(CLOSE, HELLO)) == ONE
    assert not held.complete
    assert held.choose(wants(CLOSE)) == CLOSE
    assert held.complete


def test_the_likeliest_are_looked_at_before_the_whole_vocabulary() -> None:
    matcher = Spelled()
    held = constraint(matcher)
    held.choose(wants(BRACE))
    held.choose(wants(HELLO, A))
    assert matcher.asked == [1, LIKELY]
    held.choose(wants(*range(8, 200)))
    assert matcher.asked[2:] == [1, LIKELY, len(PIECES)]


def test_what_was_chosen_before_a_cut_is_followed() -> None:
    held = constraint()
    for token in (HELLO, BRACE, A):
        held.follow(token)
    assert held.choose(wants(HELLO)) == ONE


def test_a_reply_that_its_grammar_ends_is_complete() -> None:
    held = constraint(Spelled([BRACE, END]))
    assert held.choose(wants(BRACE)) == BRACE
    assert held.choose(wants(HELLO)) == END
    assert held.complete


def test_a_grammar_that_allows_nothing_is_a_failure_of_the_reply() -> None:
    held = constraint(Spelled([BRACE]))
    held.choose(wants(BRACE))
    with pytest.raises(NothingAllowed):
        held.choose(wants(HELLO))


def test_logits_that_are_no_numbers_are_refused() -> None:
    held = constraint()
    with pytest.raises(ValueError, match="finite"):
        held.choose(np.full(len(PIECES), np.nan, np.float32))
