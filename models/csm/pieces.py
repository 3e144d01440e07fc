"""Long texts in pieces that the model speaks as one utterance each. Pure."""

import re

LONGEST_PIECE = 220
"""Characters: about 15 s of speech. Longer utterances drift, and leave too little of the context."""

_BREAKS = (re.compile(r"[.!?…]+[\"'”’)\]]*\s+|\n+"), re.compile(r"[,;:—–]\s*"), re.compile(r"\s+"))
"""Where a text is cut, best first: between sentences, between clauses, between words."""


def utterances(text: str) -> list[str]:
    """`text` in pieces of at most `LONGEST_PIECE` characters, each as long as its breaks allow. Pieces
    without a letter or digit are dropped: nothing to say."""
    rest = text.strip()
    pieces = []
    while rest:
        at = _cut(rest)
        pieces.append(" ".join(rest[:at].split()))
        rest = rest[at:].lstrip()
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def _cut(text: str) -> int:
    if len(text) <= LONGEST_PIECE:
        return len(text)
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(text, 0, LONGEST_PIECE + 1)]
        fitting = [end for end in ends if LONGEST_PIECE // 4 <= len(text[:end].rstrip()) <= LONGEST_PIECE]
        if fitting:
            return fitting[-1]
    return LONGEST_PIECE
