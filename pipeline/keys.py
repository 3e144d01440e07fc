"""Keys that the caller presses, gathered into numbers. No clock, no I/O.

A number ends with the terminator, at its greatest length, or when no key comes for a while. A key of the menu
that stands alone is a choice instead. The core asks `collecting` before it thinks a turn over, and arms its
timer at `next_deadline()`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.tools.settings import Keys, SpokenName

KEYS = "0123456789*#ABCD"
"""ITU-T Q.23."""

Key = Annotated[str, Field(pattern=r"^[0-9A-D*#]$")]
MenuAction = Annotated[str, Field(pattern=r"^(hang_up|(transfer|press_keys):[a-z][a-z0-9_ -]{0,39})$")]


class KeySettings(BaseModel):
    """The caller's keys, and those that the agent may press."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    between_s: Annotated[float, Field(ge=0.5, le=20.0)] = 3.0
    """So long after a key the number is complete."""
    terminator: Key | Literal[""] = "#"
    """Completes a number at once, and is no part of it; "": none does."""
    longest: Annotated[int, Field(ge=1, le=64)] = 32
    """Keys of a number: it is complete with the last one."""
    menu: dict[Key, MenuAction] = Field(default_factory=dict)
    """What a single key does, without the language model: "hang_up", "transfer:reception". At once where
    `longest` is 1."""
    menu_s: Annotated[float, Field(ge=0.2, le=10.0)] = 1.5
    """A key of the menu is a choice when no other key follows for so long; else it begins a number."""
    allowed: dict[SpokenName, Keys] = Field(default_factory=dict)
    """Keys that the agent may press, under names that the language model may use."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A number, without its terminator. `by`: what ended it."""

    digits: str
    by: Literal["terminator", "length", "silence"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A key of the menu, and what it does."""

    digit: str
    action: str


class KeyPad:
    """`press` every key; ask at `next_deadline()` for what `handle_timer` brings."""

    def __init__(self, settings: KeySettings) -> None:
        self._settings = settings
        self._digits = ""
        self._due: float | None = None

    @property
    def collecting(self) -> bool:
        """A number was begun and is not complete."""
        return bool(self._digits)

    def next_deadline(self) -> float | None:
        return self._due

    def press(self, digit: str, now: float) -> Entered | Chosen | None:
        """What this key completes. Anything that is no key is ignored."""
        if len(digit) != 1 or digit not in KEYS:
            return None
        if digit == self._settings.terminator and (self._digits or digit not in self._settings.menu):
            # Alone it is a key like any other.
            self._digits = self._digits or digit
            return self._complete("terminator")
        self._digits += digit
        if len(self._digits) >= self._settings.longest:
            return self._complete("length")
        alone = len(self._digits) == 1 and digit in self._settings.menu
        self._due = now + (self._settings.menu_s if alone else self._settings.between_s)
        return None

    def handle_timer(self, now: float) -> Entered | Chosen | None:
        return None if self._due is None or now < self._due else self._complete("silence")

    def forget(self) -> None:
        """What was begun is of no interest any more."""
        self._digits, self._due = "", None

    def _complete(self, by: Literal["terminator", "length", "silence"]) -> Entered | Chosen:
        digits = self._digits
        self.forget()
        action = self._settings.menu.get(digits)
        return Entered(digits, by) if action is None else Chosen(digits, action)


def as_words(digits: str) -> str:
    """What the language model is told of keys: digit by digit, or it would read a quantity."""
    return f"The caller pressed the key{'s' if len(digits) > 1 else ''} {' '.join(digits)}."
