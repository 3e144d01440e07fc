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
