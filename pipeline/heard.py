"""Which words of a clause the caller heard before cutting it off.

A voice may tell when each word that it spoke sounds; `written_word_spans` says what that means for the words
as they are written: "$80" is spoken as two words. Of a voice that only tells how long a clause is, the words'
shares are estimated from how they are spoken. The weights are seconds, near a least-squares fit to 18
sentences of the bundled voice (mean error of a sentence's length: 10 %).
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, takewhile

from pipeline.line import LINE_RATE_HZ
from pipeline.speakable import speakable

_WORD_S = 0.08
_SYLLABLE_S = 0.11
_LETTER_S = 0.015
_SPELT_LETTER_S = 0.2
_PAUSES_S = {",": 0.15, ";": 0.2, ":": 0.2, ".": 0.3, "!": 0.3, "?": 0.3}
_MARKS = ".,;:!?\"'()[]“”‘’…"
_GAP = 0.6
"""What it costs that one side has a word that the other lacks; less than two unlike words."""
_TOO_UNLIKE = 0.5
_MOST_COMPARED = 40_000

_TOKEN = re.compile(r"\S+")
_SPOKEN_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouyàâäáéèêëíîïóôöúùûü]+")


def heard_words(
    text: str,
    spoken_samples: int,
    heard_samples: int,
    *,
    complete: bool = True,
    word_spans: Sequence[tuple[int, int]] | None = None,
) -> str:
    """The beginning of `text` that was heard, cut between words, without white space around it.

    `spoken_samples` is the length of the clause's audio (8 kHz), `heard_samples` how much of it was played. A
    word was heard when at least half of it was played. All of the audio is all of the text, none is "".
    `complete=False`: the voice was still at it, so the clause is taken to last as long as its words usually
    do, if that is longer. `word_spans` tell from when to when each word (split at white space) sounds, in
    samples; they replace the estimate. Raises ValueError when their number is not that of the words.
    """
    text = text.strip()
    shape = _shape(text)
    if not shape.ends or heard_samples <= 0:
        return ""
    if complete and heard_samples >= spoken_samples:
        return text
    if word_spans is None:
        length = spoken_samples if complete else max(spoken_samples, round(shape.total_s * LINE_RATE_HZ))
        words = bisect_right(shape.middles, heard_samples / max(1, length))
    elif len(word_spans) != len(shape.ends):
        raise ValueError(f"{len(word_spans)} measured words for {len(shape.ends)} words")
    else:
        words = sum(takewhile(bool, (start + end <= 2 * heard_samples for start, end in word_spans)))
    return text[: shape.ends[words - 1]] if words else ""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of a text: where its words end, and by estimate when the middle of each sounds, as a part of all."""

    ends: tuple[int, ...]
    middles: tuple[float, ...]
    total_s: float


@lru_cache(maxsize=256)
def _shape(text: str) -> _Shape:
    """Remembered: of a reply under way it is asked three times a second."""
    words = list(_TOKEN.finditer(text))
    shares = [_seconds(word[0]) for word in words]
    total_s = sum(voiced + pause for voiced, pause in shares)
    starts = accumulate((voiced + pause for voiced, pause in shares), initial=0.0)
    middles = (
        (start + voiced / 2) / total_s if total_s else 0.5
        for start, (voiced, _) in zip(starts, shares, strict=False)
    )
    return _Shape(tuple(word.end() for word in words), tuple(middles), total_s)


@lru_cache(maxsize=8_192)
def _seconds(word: str) -> tuple[float, float]:
    """How long a written word is spoken, and the pause after it."""
    spoken = speakable(word)
    voiced = sum(_spoken_s(part) for part in _SPOKEN_WORD.findall(spoken))
    return voiced, _PAUSES_S.get(_mark(word), 0.0)


def _mark(word: str) -> str:
    """The mark that follows a word, or its last letter."""
    return word.rstrip("\"')]*_”’")[-1:]


def _spoken_s(word: str) -> float:
    if word.isupper() and 1 < len(word) <= 5:
        return _SPELT_LETTER_S * len(word)  # an acronym
    folded = word.casefold()
    stem = folded.removesuffix("e") or folded
    syllables = max(1, len(_VOWELS.findall(stem)))
    return _WORD_S + _SYLLABLE_S * syllables + _LETTER_S * len(word)


def written_word_spans(
    text: str, words: str, spoken_spans_s: Sequence[tuple[float, float]]
) -> tuple[tuple[int, int], ...] | None:
    """From when to when each word of `text` (split at white space) sounds, in samples at 8 kHz, for
    `heard_words`.

    `words` is `text` as it was spoken, `speakable(text)`, and `spoken_spans_s` tells from when to when each
    of its words sounds. A word that was spoken as several lasts from the first of them to the last; one that
    was not spoken has no length and lies behind the one before it. None when it cannot be told: no times, or
    a text that has little to do with the words.
    """
    spoken = [_letters(word) for word in words.split()]
    if not spoken or len(spoken_spans_s) != len(spoken):
        return None
    written = text.split()
    expected = [
        (number, _letters(word)) for number, token in enumerate(written) for word in _as_spoken(token)
    ]
    owners = _owners([(number, word) for number, word in expected if word], spoken)
    if owners is None:
        return None
    owned: dict[int, list[tuple[float, float]]] = {}
    for owner, span in zip(owners, spoken_spans_s, strict=True):
        owned.setdefault(owner, []).append(span)
    spans: list[tuple[int, int]] = []
    before = 0
    for number in range(len(written)):
        parts = owned.get(number)
        start, before = (
            (before, before)
            if parts is None
            else (round(parts[0][0] * LINE_RATE_HZ), round(parts[-1][1] * LINE_RATE_HZ))
        )
        spans.append((start, before))
    return tuple(spans)


def _as_spoken(token: str) -> list[str]:
    """How a word would be spoken by itself. What stands around it may change that."""
    bare = token.strip(_MARKS)
    return [token] if bare.isascii() and bare.isalpha() else speakable(token).split()


def _letters(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())


def _owners(expected: Sequence[tuple[int, str]], spoken: Sequence[str]) -> list[int] | None:
    """Which written word each spoken one belongs to. `expected` are the words that each written one would be
    spoken as by itself; where the whole was spoken otherwise, the cheapest way of turning one into the other
    decides (Needleman and Wunsch 1970)."""
    if not expected or len(expected) * len(spoken) > _MOST_COMPARED:
        return None
    rows = [list(accumulate(map(_gap_for, spoken), initial=0.0))]
    for number, (_, word) in enumerate(expected, 1):
        row = [_GAP * number]
        above = rows[-1]
        for column, said in enumerate(spoken):
            row.append(
                min(
                    above[column] + _unlike(word, said),
                    above[column + 1] + _GAP,
                    row[column] + _gap_for(said),
                )
            )
        rows.append(row)
    if rows[-1][-1] > _TOO_UNLIKE * max(len(expected), len(spoken)):
        return None
    owners: list[int] = []
    at, column = len(expected), len(spoken)
    while column:
        owner, word = expected[max(0, at - 1)]
        here, said = rows[at][column], spoken[column - 1]
        if at and here == rows[at - 1][column - 1] + _unlike(word, said):
            owners.append(owner)
            at, column = at - 1, column - 1
        elif not at or here == rows[at][column - 1] + _gap_for(said):
            # Nothing stands for it: it belongs to what was spoken before it.
            owners.append(owner)
            column -= 1
        else:
            at -= 1
    return owners[::-1]


def _unlike(word: str, said: str) -> float:
    """0 for equal words; "5" and "fifth", "Dr" and "doctor" are rather alike."""
    if word == said:
        return 0.0
    return 0.5 if word[:1] == said[:1] else 0.9


def _gap_for(said: str) -> float:
    """A mark by itself is no word."""
    return _GAP if said else 0.0
