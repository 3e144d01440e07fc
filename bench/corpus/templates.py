"""The form in which `tuning` and `held_out` say what their callers say, and how a template becomes words."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PartName = Literal["tuning", "held_out"]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SLOT = re.compile(r"\{(\w+)(?::(\d+))?\}")
_SHORTEST_SPELT_GROUP, _LONGEST_SPELT_GROUP = 1, 3


@dataclass(frozen=True, slots=True)
class Voice:
    """A caller. `engine` is "hibari" or "flite:NAME"; `pitch` moves pitch and formants together against the
    engine's own voice, `pace` is the speaking rate that comes out."""

    name: str
    engine: str
    pitch: float
    pace: float


@dataclass(frozen=True, slots=True)
class Template:
    """`text` with slots (`{day}`, `{digits:3}`, `{spell}`: the letters of this turn's `{name}`) and `|` where
    people pause. `question` is what the agent said before, where the words are no first words."""

    kind: str
    text: str
    question: str = ""

    @property
    def pauses(self) -> bool:
        return "|" in self.text


@dataclass(frozen=True, slots=True)
class Part:
    name: PartName
    voices: Sequence[Voice]
    turns: Sequence[Template]
    fillings: Mapping[str, Sequence[str]]
    interruptions: Sequence[str]
    stop_words: Sequence[str]
    backchannels: Sequence[str]
    side_talk: Sequence[str]
    noises: Sequence[str]
    coughs: Sequence[str]
    line_noises: Sequence[str]


def filled(text: str, fillings: Mapping[str, Sequence[str]], chance: random.Random) -> tuple[str, ...]:
    """The words between the places where a pause may come; a slot that stands twice gets two fillings,
    but for `{name}`, which is one person's."""
    name = chance.choice(fillings["name"]) if "name" in fillings else ""
    used: dict[str, list[str]] = {}

    def fill(slot: re.Match[str]) -> str:
        kind, count = slot[1], slot[2]
        if kind == "digits":
            return " ".join(chance.choice(_DIGITS) for _ in range(int(count)))
        if kind == "spell":
            return _spelt(name, chance)
        if kind == "name":
            return name
        left = [choice for choice in fillings[kind] if choice not in used.get(kind, ())]
        choice = chance.choice(left)
        used.setdefault(kind, []).append(choice)
        return choice

    return tuple(piece.strip() for piece in _SLOT.sub(fill, text).split("|"))


def _spelt(name: str, chance: random.Random) -> str:
    """`K, O, | W, A, L, | S, K, I`: letters in groups of one to three."""
    letters = list(name.upper())
    groups = []
    while letters:
        size = chance.randint(_SHORTEST_SPELT_GROUP, _LONGEST_SPELT_GROUP)
        groups.append(", ".join(letters[:size]))
        letters = letters[size:]
    return ", | ".join(groups)
