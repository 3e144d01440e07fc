"""Callers' turns and what callers do while an agent speaks, made by the project, with the truth known to the
sample.

    from bench.corpus import corpus, heard
    for turn in corpus("tuning").turns:
        line = heard(turn)                  # (n,) int16 at 8 kHz, as the server gets it
        ends = LEAD_SAMPLES + len(turn.pcm)  # the turn is over here, and not before

At least 300 turns, half for tuning and half held out: other callers, other templates, other noises.
"""

from bench.corpus.line import LEAD_SAMPLES, TAIL_SAMPLES, heard, heard_over
from bench.corpus.model import Condition, Corpus, Overlap, OverlapKind, Turn
from bench.corpus.recorded import recorded
from bench.corpus.store import corpus, make
from bench.corpus.templates import PartName

__all__ = [
    "LEAD_SAMPLES",
    "TAIL_SAMPLES",
    "Condition",
    "Corpus",
    "Overlap",
    "OverlapKind",
    "PartName",
    "Turn",
    "corpus",
    "heard",
    "heard_over",
    "make",
    "recorded",
]
