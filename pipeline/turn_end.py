"""How long a silence must last before the caller's turn is over. Pure.

People pause inside their turns: half a second as often as not, longer than 1.2 s one time in ten. So a fixed
silence either cuts them off or is felt after every question. What was said tells more: nobody stops after
"and", few go on after a question, and the language model that is about to answer knows how likely the
message ends here. Both together give the odds that this pause is the end. The turn is over when the other
possibility, a pause of somebody who goes on that has lasted so long already, has become improbable enough.

How improbable is told by the persona in terms that can be heard: `endpoint_silence_s` is the silence that it
takes when the odds are even. How long this caller has paused before, and how the voice sounds (smart-turn),
were measured too; they improved nothing and are left out (`bench.endpoints`).
"""

import math
import re
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

from pipeline.persona import TurnTaking


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a turn at a pause."""

    text: str | None = None
    """The turn's words; None while they are being transcribed."""
    ends: float | None = None
    """The language model's probability that the message ends after its last word; None while unknown."""
    pauses_s: tuple[float, ...] = ()
    """This caller's pauses so far that turned out to be no ends."""


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


PAUSE_MEDIAN_S = 0.5
PAUSE_SPREAD = 0.6
"""Pauses inside turns are log-normal; the standard deviation of their logarithm."""
SHORTEST_S = 0.25
LONGEST_S = 2.5
"""However unfinished the words sound: nobody waits longer for somebody who has fallen silent."""

_PULL = {
    Cue.NO_WORDS: 0.0,
    Cue.HANGING: -0.4,
    Cue.SPELLING: 0.0,
    Cue.DIGITS: -0.3,
    Cue.NUMBER: 0.3,
    Cue.QUESTION: 0.5,
    Cue.OPEN: -0.3,
    Cue.WORD: 0.4,
    Cue.SENTENCE: 0.4,
    Cue.UNMARKED: -0.7,
}
"""What a cue adds to the log odds that the turn ends here. These and the weight below are a logistic
regression over the pauses of `bench.corpus`, tuning part, heard and judged by the bundled models, small and
large together. The cues are held small, so far that kinds of turns which were left out of it are told best:
larger, they learn the corpus' sentences by heart."""
_MODEL_WEIGHT = 0.5
_MODEL_MIDDLE = -2.7
"""The language model's log odds that say nothing either way; they stand in while its opinion is not known."""
_REACH = 7.0
_STANDARD = NormalDist()

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


def silence_needed_s(evidence: Evidence, policy: TurnTaking) -> float:
    """Seconds from the caller's last voiced sample after which the turn is over. Ask again when evidence
    arrives."""
    if evidence.text is None:
        return policy.endpoint_silence_s
    return silence_at_odds(end_log_odds(evidence.text, evidence.ends), policy.endpoint_silence_s)


def end_log_odds(text: str, ends: float | None) -> float:
    """Of the turn's ending with `text`, before any silence has spoken. `ends` as in `Evidence`."""
    opinion = 0.0 if ends is None else bounded_log_odds(ends) - _MODEL_MIDDLE
    return _PULL[cue(text)] + _MODEL_WEIGHT * opinion


def silence_at_odds(log_odds: float, even_s: float, *, median_s: float = PAUSE_MEDIAN_S) -> float:
    """Seconds of silence after which a turn of these odds is over, where even odds take `even_s`."""
    risk = 1.0 - _STANDARD.cdf(math.log(even_s / median_s) / PAUSE_SPREAD)
    # So many of the pauses inside turns may be longer than the silence that is asked for.
    share = risk * math.exp(log_odds)
    if share >= 1.0:
        return SHORTEST_S
    needed_s = median_s * math.exp(PAUSE_SPREAD * _STANDARD.inv_cdf(1.0 - share))
    return min(max(needed_s, SHORTEST_S), LONGEST_S)


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


def bounded_log_odds(probability: float) -> float:
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return min(max(math.log(bounded / (1 - bounded)), -_REACH), _REACH)
