"""How long a silence must last before the caller's turn is over. Pure.

People pause inside their turns: half a second as often as not, longer than 1.2 s one time in ten. So a fixed
silence either cuts them off or is felt after every question. The language model that is about to answer knows
more: how likely the message ends with the words so far, near 0 for "my number is". That gives the odds that
this pause is the end. The turn is over when the other possibility, a pause of somebody who goes on that has
lasted so long already, has become improbable enough.

The model knows little of two kinds of turns: it goes on where a transcriber misheard a question, and after
"yes". So words that look whole are not waited for as long as others.

How improbable is told by the persona in terms that can be heard: `endpoint_silence_s` is the silence that it
takes when the odds are even. The words' own shape (unfinished numbers, "and"),
this caller's pauses so far, and how the voice sounds (smart-turn) were measured beside it. On kinds of turns
that they were not tuned on they improved little or nothing, and are left out (`bench.endpoints`).
"""

import math
import re
from statistics import NormalDist

from pipeline.persona import TurnTaking

PAUSE_MEDIAN_S = 0.5
PAUSE_SPREAD = 0.7
"""Pauses inside turns are log-normal; the standard deviation of their logarithm."""
SHORTEST_S = 0.25
UNHEARD_S = 1.2
"""Before the language model has been heard, the turn is not over sooner than this: what it will say is worth
the wait, and no answer would be there anyway."""
LONGEST_S = 2.5
"""However unfinished the words: nobody waits longer for somebody who has fallen silent."""

_MODEL_WEIGHT = 0.6
_MODEL_EVEN = -3.5
"""A logistic regression of turns' ends on the language model's log odds, over the pauses of `bench.corpus`,
tuning part, as the bundled models hear and judge them, small and large together: models believe too little
in ends, and are surer than they should be."""
_REACH = 7.0
_WHOLE = frozenset(
    words
    for line in (
        "yes|no|yeah|nope|okay|sure|correct|exactly|right|hello|hi|goodbye|bye|thanks|thank you",
        "yes please|no thanks|no thank you|that's right|that's all",
    )
    for words in line.split("|")
)
"""Turns that need no more words."""
_WHOLE_MOST, _SENTENCE_MOST = 0.7, 1.0
"""On the tuning part they cost one turn in 90 and bring the gap's 95th percentile from 2.07 to 1.71 s."""
_HANGING = frozenset(
    word
    for line in (
        "a an the my your our his her and or but so because if that which is was are were be am",
        "to of in on at for from with by about i we you he she they it um uh",
    )
    for word in line.split()
)
_WORD = re.compile(r"[\w']+")
_WORDLIKE = re.compile(r"[^\W\d_]*[^\W\d_A-Z][^\W\d_]*\W+$")
"""Neither digits nor letters that are being spelled."""
_STANDARD = NormalDist()


def silence_needed_s(text: str | None, ends: float | None, policy: TurnTaking) -> float:
    """Seconds from the caller's last voiced sample after which the turn is over. `text` are its words, `ends`
    is the language model's probability that the message ends after the last of them (`ChatSession.reply`);
    None while they are unknown."""
    even_s = policy.endpoint_silence_s
    if policy.end_of_turn == "silence":
        return even_s
    if text is None or ends is None:
        return max(even_s, UNHEARD_S)
    return min(silence_at_odds(end_log_odds(ends), even_s), even_s * _most(text))


def _most(text: str) -> float:
    """However little the model believes in an end, words that look whole wait for no more than so many times
    the silence of even odds."""
    words = _WORD.findall(text.lower())
    if text.endswith("?") or " ".join(words) in _WHOLE:
        return _WHOLE_MOST
    ended = text.endswith((".", "!")) and not text.endswith("..")
    if not (ended and words) or words[-1] in _HANGING or not _WORDLIKE.search(text):
        return math.inf
    return _SENTENCE_MOST


def end_log_odds(ends: float) -> float:
    """Of the turn's end, before any silence has spoken, by the language model's probability."""
    return _MODEL_WEIGHT * (bounded_log_odds(ends) - _MODEL_EVEN)


def silence_at_odds(log_odds: float, even_s: float, *, median_s: float = PAUSE_MEDIAN_S) -> float:
    """Seconds of silence after which a turn of these odds is over, where even odds take `even_s`."""
    risk = 1.0 - _STANDARD.cdf(math.log(even_s / median_s) / PAUSE_SPREAD)
    # So many of the pauses inside turns may be longer than the silence that is asked for.
    share = risk * math.exp(log_odds)
    if share >= 1.0:
        return SHORTEST_S
    needed_s = median_s * math.exp(PAUSE_SPREAD * _STANDARD.inv_cdf(1.0 - share))
    return min(max(needed_s, SHORTEST_S), LONGEST_S)


def bounded_log_odds(probability: float) -> float:
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return min(max(math.log(bounded / (1 - bounded)), -_REACH), _REACH)
