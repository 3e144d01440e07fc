"""What the built-in tools may do with the call that they are used in."""

from datetime import datetime
from typing import Protocol


class Desk(Protocol):
    """One call, as tools see it. Targets and digits come from the persona, never from a model's text."""

    def now(self, timezone: str) -> datetime:
        """The wall clock there; `timezone` is a known name of the IANA database."""
        ...

    async def transfer(self, name: str, target: str) -> None:
        """Pass the caller on. Returns never, for the call is over then; raises `ToolFailed` when the caller
        is still here."""
        ...

    async def press_keys(self, digits: str) -> None:
        """Returns when the far end has heard all of them. Raises `ToolFailed`."""
        ...

    def take_message(self, name: str, number: str, text: str) -> None:
        """`number` may be empty: then it is the caller's own."""
        ...

    def pause_recording(self) -> None: ...

    def resume_recording(self) -> None: ...

    def leave(self) -> None:
        """Hang up when the caller has heard what is being said, unless the caller takes the floor again."""
        ...
