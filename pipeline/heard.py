"""Which words of a clause the caller heard before cutting it off.

The voice tells how long a clause is, not when each word ends; the words' shares are estimated from how they
are spoken. The weights are seconds, near a least-squares fit to 18 sentences of the bundled voice (mean error
of a sentence's length: 10 %).
"""

import re
from collections.abc import Sequence
from itertools import accumulate

from pipeline.line import LINE_RATE_HZ
from pipeline.speakable import speakable

_WORD_S = 0.08
_SYLLABLE_S = 0.11
_LETTER_S = 0.015
_SPELT_LETTER_S = 0.2
_PAUSES_S = {",": 0.15, ";": 0.2, ":": 0.2, ".": 0.3, "!": 0.3, "?": 0.3}

_TOKEN = re.compile(r"\S+")
_SPOKEN_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouyàâäáéèêëíîïóôöúùûü]+")


def heard_words(
    text: str,
    spoken_samples: int,
    heard_samples: int,
    *,
    complete: bool = True,
    word_end_samples: Sequence[int] | None = None,
) -> str:
    """The beginning of `text` that was heard, cut between words, without white space around it.

    `spoken_samples` is the length of the clause's audio (8 kHz), `heard_samples` how much of it was played. A
    word was heard when at least half of it was played. All of the audio is all of the text, none is "".
    `complete=False`: the voice was still at it, so the clause is taken to last as long as its words usually
    do, if that is longer. `word_end_samples` are measured ends of the words (split at white space), in order;
    they replace the estimate. Raises ValueError when their number is not that of the words.
    """
    text = text.strip()
    words = list(_TOKEN.finditer(text))
    if not words or heard_samples <= 0:
        return ""
    if complete and heard_samples >= spoken_samples:
        return text
    if word_end_samples is None:
        middles = _estimated(words, spoken_samples, complete)
    else:
        middles = _measured(words, word_end_samples)
    end = 0
    for word, middle in zip(words, middles, strict=True):
        if middle > heard_samples:
            break
        end = word.end()
    return text[:end]


def _measured(words: list[re.Match[str]], ends: Sequence[int]) -> list[float]:
    if len(ends) != len(words):
        raise ValueError(f"{len(ends)} word ends for {len(words)} words")
    return [(start + end) / 2 for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _estimated(words: list[re.Match[str]], spoken_samples: int, complete: bool) -> list[float]:
    shares = [_seconds(word[0]) for word in words]
    total_s = sum(voiced + pause for voiced, pause in shares)
    length = spoken_samples if complete else max(spoken_samples, round(total_s * LINE_RATE_HZ))
    if not total_s:
        return [length / 2] * len(words)
    starts = accumulate((voiced + pause for voiced, pause in shares), initial=0.0)
    return [
        (start + voiced / 2) * length / total_s for start, (voiced, _) in zip(starts, shares, strict=False)
    ]


def _seconds(word: str) -> tuple[float, float]:
    """How long a written word is spoken, and the pause after it."""
    spoken = speakable(word)
    voiced = sum(_spoken_s(part) for part in _SPOKEN_WORD.findall(spoken))
    return voiced, _PAUSES_S.get(word.rstrip("\"')]*_”’")[-1:], 0.0)


def _spoken_s(word: str) -> float:
    if word.isupper() and 1 < len(word) <= 5:
        return _SPELT_LETTER_S * len(word)  # an acronym
    folded = word.casefold()
    stem = folded.removesuffix("e") or folded
    syllables = max(1, len(_VOWELS.findall(stem)))
    return _WORD_S + _SYLLABLE_S * syllables + _LETTER_S * len(word)
