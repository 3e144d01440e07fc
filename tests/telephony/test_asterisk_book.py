"""What the dialplan told before AudioSocket connected."""

import uuid

from telephony.asterisk.book import CallBook, Ending

A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def test_good_once() -> None:
    calls = CallBook(60.0, lambda: 0.0)
    calls.announce(A, {"caller": "+15550100"})
    assert calls.redeem(B) is None
    assert calls.redeem(A) == {"caller": "+15550100"}
    assert calls.redeem(A) is None


def test_good_for_a_while_and_forgotten_then() -> None:
    now = 0.0
    calls = CallBook(60.0, lambda: now)
    calls.announce(A, {})
    now = 60.0
    calls.announce(B, {})
    now = 61.0
    assert calls.redeem(A) is None
    calls.announce(A, {})
    assert calls.redeem(B) == {}


def test_the_last_word_counts() -> None:
    calls = CallBook(60.0, lambda: 0.0)
    calls.announce(A, {"n": "1"})
    calls.announce(A, {"n": "2"})
    assert calls.redeem(A) == {"n": "2"}


def test_a_flood_forgets_the_oldest() -> None:
    calls = CallBook(60.0, lambda: 0.0)
    for n in range(10_001):
        calls.announce(uuid.UUID(int=n), {})
    assert calls.redeem(uuid.UUID(int=0)) is None
    assert calls.redeem(uuid.UUID(int=1)) == {}


def test_endings() -> None:
    book = CallBook(60.0, lambda: 0.0)
    assert book.ending("1.2") is Ending.FAILED
    book.ended("1.2", Ending.BUSY)
    book.ended("1.2", Ending.FINE)
    assert book.ending("1.2") is Ending.FINE
    for n in range(10_000):
        book.ended(str(n), Ending.FINE)
    assert book.ending("1.2") is Ending.FAILED
