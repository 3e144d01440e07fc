"""Guesses at what a reply says next."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llama.drafting import draft

END = 9


def guesses(*tokens: int, most: int = 3) -> list[int]:
    return draft(tokens, most, lambda token: token == END)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((1, 2, 3, 4, 5, 1, 2), [3, 4, 5]),
        ((1, 2, 3, 4, 1, 2, 3, 7, 7, 1, 2), [3, 7, 7]),
        ((1, 2, 3, 1, 2, 4, 7, 7, 1, 2), []),
        ((5, 1, 2, 3, 5, 1, 2, 4, 7, 7, 5, 1, 2), [4, 7, 7]),
        ((5, 1, 2, 3, 3, 3, 6, 1, 2, 4, 4, 4, 5, 1, 2), [3, 3, 3]),
        ((8, 5, 1, 2, 3, 3, 3, 6, 5, 1, 2, 4, 4, 4, 8, 5, 1, 2), [4, 4, 4]),
        ((1, 2, 3, END, 4, 1, 2), [3]),
        ((1, 2, END, 4, 1, 2), []),
        ((2, 3, 4, 1, 2), []),
        ((7, 7, 7), [7]),
    ],
    ids=[
        "what followed",
        "the last time",
        "two equal tokens that did not always come before the same are not enough",
        "three are",
        "after three equal tokens rather than two",
        "more than three count no more",
        "before an end",
        "at an end",
        "one equal token is not enough",
        "it may overlap",
    ],
)
def test_guesses(tokens: tuple[int, ...], expected: list[int]) -> None:
    assert guesses(*tokens) == expected


def test_nothing_to_guess_from() -> None:
    assert guesses() == guesses(1) == guesses(1, 2) == []
    assert guesses(1, 2, 3, 1, 2, most=0) == guesses(1, 2, 3, 1, 2, most=-1) == []


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_whatever_is_guessed_stood_there_after_the_same_two_tokens(tokens: list[int], most: int) -> None:
    found = draft(tokens, most, lambda token: token == 0)
    assert len(found) <= most
    assert 0 not in found
    if found:
        run = [*tokens[-2:], *found]
        assert any(tokens[i : i + len(run)] == run for i in range(len(tokens) - 2))
    pairs = list(pairwise(tokens[:-1]))
    if not found and len(tokens) > 1 and tuple(tokens[-2:]) in pairs:
        at = [i + 2 for i, pair in enumerate(pairs) if pair == tuple(tokens[-2:])]
        assert 0 in {tokens[i] for i in at} or len({tokens[i] for i in at}) > 1
