"""What the last words of a turn show, as a policy of when it is over: entity mode, words that ask for more.

A candidate of `bench.endpoints`. The language model knows it better.
"""

import re
from enum import Enum


class Cue(Enum):
    """What the last words show. The first that fits counts."""

    NO_WORDS = "nothing that the transcriber trusts"
    HANGING = "a word that asks for more: and, at, my, is, um"
    SPELLING = "letters are being spelled"
    DIGITS = "a number is being given that is not as long as a telephone number"
    NUMBER = "a whole telephone number, or a date with its year"
    QUESTION = "a question mark"
    OPEN = "a comma, a dash, an ellipsis"
    WORD = "one word alone"
    SENTENCE = "a full stop"
    UNMARKED = "no mark at all"


PULL = {
    Cue.NO_WORDS: 0.0,
    Cue.HANGING: -1.5,
    Cue.SPELLING: 0.0,
    Cue.DIGITS: -0.6,
    Cue.NUMBER: 1.9,
    Cue.QUESTION: 1.7,
    Cue.OPEN: -0.9,
    Cue.WORD: 0.9,
    Cue.SENTENCE: 0.8,
    Cue.UNMARKED: -0.4,
}
"""Log odds that a pause after such words is the turn's end: a logistic regression on the tuning part."""
PULL_BESIDE_MODEL = {
    Cue.NO_WORDS: 0.0,
    Cue.HANGING: -0.5,
    Cue.SPELLING: 0.1,
    Cue.DIGITS: -0.4,
    Cue.NUMBER: 0.8,
    Cue.QUESTION: 0.4,
    Cue.OPEN: -0.6,
    Cue.WORD: 0.8,
    Cue.SENTENCE: 0.2,
    Cue.UNMARKED: -0.8,
}
"""The same where the language model's opinion is counted as well."""

_HANGING = frozenset(
    word
    for line in (
        "a an the my your his her its our their this these those some any no every",
        "and or but nor so because if whether when while since until unless although though than that",
        "which who whose where what how of to in on at for from with by about into onto over under between",
        "before after during without near is am are was were be been being has have had do does did will",
        "would can could should may might must i i'm i'd i'll i've we we're he he's she she's they they're",
        "it's that's there's you're let's not just only very really also then wanted want need ask say says",
        "guess number name mr mrs ms dr doctor um uh uhm er erm hmm mm well okay so anyway actually",
    )
    for word in line.split()
)
_DIGIT_WORDS = frozenset(
    ("zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
_JOINS_DIGITS = frozenset(("and", "then", "double", "triple"))
_WHOLE_NUMBERS = (7, 10, 11)
"""Digits of a telephone number: local, national, with the country's 1."""
_OPEN_MARKS = (",", ";", ":", "-", "…", "...")
_WORD = re.compile(r"[a-z0-9']+")
_DATE = re.compile(r"\b(19|20)\d\d\W*$")
_LETTERS = re.compile(r"(?:(?<!['\u2019])\b(?:[A-Za-z]|[A-Z]{2,})\b[\s.,-]*)+$")


def cue(text: str) -> Cue:
    """What the last words of `text`, as a transcriber writes them, show."""
    text = text.strip()
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    if not words:
        return Cue.NO_WORDS
    if text.endswith("?"):
        return Cue.QUESTION
    if words[-1] in _HANGING:
        return Cue.HANGING
    if _DATE.search(text):
        return Cue.NUMBER
    if digits := _digits_at_the_end(words):
        return Cue.NUMBER if digits in _WHOLE_NUMBERS else Cue.DIGITS
    if _LETTERS.search(text):
        return Cue.SPELLING
    if text.endswith(_OPEN_MARKS):
        return Cue.OPEN
    if len(words) == 1:
        return Cue.WORD
    return Cue.SENTENCE if text.endswith((".", "!")) else Cue.UNMARKED


def _digits_at_the_end(words: list[str]) -> int:
    count = 0
    for word in reversed(words):
        if word.isdigit():
            count += len(word)
        elif word in _DIGIT_WORDS:
            count += 1
        elif not (count and word in _JOINS_DIGITS):
            break
    return count
