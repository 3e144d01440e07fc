"""One tool: its name, what it is for, the shape of its arguments, and how it is used."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from pipeline.tools.desk import Desk

LONGEST_RESULT = 2_000
"""Characters of a result that the language model is shown; also what keeps a call's context from filling."""


class ToolError(Exception):
    """Base of what is wrong with a persona's tools; the message is for who writes the persona."""


class ToolFailed(Exception):
    """A tool could not do it. `reason` is a short neutral sentence that the language model may read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ends:
    """A result after which nothing more is to be said: the call is over, or somebody else's."""


Use = Callable[[Any, Desk], Awaitable[object]]
"""Takes the validated arguments. Returns what the language model is told: text, or anything JSON can say; or
`Ends`. May raise anything."""


@dataclass(frozen=True, slots=True)
class Example:
    """A caller who wants the tool, shown to the language model before the call's own turns: small models
    follow examples better than descriptions, and those best that end with the `answer`."""

    caller: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    result: str = ""
    """What the tool returns; "": the example ends with the call."""
    answer: str = ""
    """What the agent then says."""


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    name: str
    description: str
    arguments: type[BaseModel]
    """Its JSON schema is what calls are held to; extra ones are forbidden."""
    use: Use
    side_effects: bool = True
    """It changes something in the world: at most once in a turn, and never after a result that strangers may
    have written."""
    cancellable: bool = True
    """The caller's interruption stops it. Otherwise it goes on, and its result is known later."""
    timeout_s: float = 10.0
    trusted: bool = False
    """Its results are our own words."""
    announce: str = ""
    """Said before it when the agent has said nothing in this reply."""
    after_speech: bool = False
    """It begins when the caller has heard what was said before it."""
    holds_floor: bool = False
    """While it works, voices and keys do not count: somebody else may be ringing on the line."""
    filler: bool = True
    """Somebody who waits for it hears that."""
    example: Example | None = None
    refusal: tuple[str, str] | None = None
    """What a caller says who wants what it cannot do, and what the agent answers."""
    only_said: tuple[str, ...] = ()
    """Optional arguments whose digits must be the caller's: models invent telephone numbers."""
