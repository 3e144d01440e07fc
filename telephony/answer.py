"""What every way in hands its lines to, and the places of sockets whose call has not begun."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from pipeline.line import Line


class CallOutcome(Protocol):
    """What `answer` returns, as far as a line must know."""

    @property
    def completed(self) -> bool: ...

    @property
    def reason(self) -> str: ...


Answer = Callable[[Line], Awaitable[CallOutcome]]
"""Holds the call on a line until it ends."""


class Lines(Protocol):
    """The places that calls take, asked by every way in before it takes one. `call_id` is the one that the
    call's `LineInfo` will carry; of a call that we placed, the id of its order."""

    def take(self, call_id: str, *, goes_on: bool = False) -> bool:
        """A place for this call, kept until `answer` holds it, though not for ever. True again for a call
        that has one. `goes_on`: its line was lost a moment ago, and it is to come back even where no new call
        is taken."""
        ...

    def give_back(self, call_id: str) -> None:
        """The call will not come after all. Nothing where it has no place, or is on."""
        ...


class WhileAccepting:
    """Places without end, while `accepting()`."""

    def __init__(self, accepting: Callable[[], bool]) -> None:
        self._accepting = accepting

    def take(self, call_id: str, *, goes_on: bool = False) -> bool:
        return self._accepting()

    def give_back(self, call_id: str) -> None:
        return None


class CountsPending(Protocol):
    pending: int


class PendingSocket:
    """A place among the sockets whose call has not begun, counted by the desk that gave it."""

    def __init__(self, desk: CountsPending) -> None:
        self._desk: CountsPending | None = desk
        desk.pending += 1

    def release(self) -> None:
        """Give the place back. Safe to call twice."""
        if self._desk is not None:
            self._desk.pending -= 1
            self._desk = None
