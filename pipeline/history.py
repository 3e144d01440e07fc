"""What was said and heard so far, as the language model is shown it."""

from collections.abc import Sequence

from models.base import Message

INTERRUPTED = "..."
"""Ends a reply that the caller cut off."""


class History:
    def __init__(self, messages: Sequence[Message] = ()) -> None:
        """`messages`: of a call that goes on."""
        self._messages: list[Message] = list(messages)

    @property
    def messages(self) -> Sequence[Message]:
        return tuple(self._messages)

    def with_caller(self, text: str) -> Sequence[Message]:
        """The history as it will stand when `text` is the caller's next turn."""
        return (*self._messages, Message("user", text))

    def caller_said(self, text: str) -> None:
        self._messages.append(Message("user", text))

    def retract_caller(self) -> None:
        """The last turn was not over; it comes again as part of a longer one."""
        if self._messages and self._messages[-1].role == "user":
            self._messages.pop()

    def agent_acted(self, heard: str, call: str, result: str) -> Message:
        """The agent said what was `heard`, then called a tool. Returns the message with the result, for
        `result_known`."""
        self._messages.append(Message("assistant", f"{heard} {call}".strip()))
        self._messages.append(shown := Message("tool", result))
        return shown

    def result_known(self, shown: Message, result: str) -> None:
        """A tool that outlasted its turn is through: `shown` was what stood for its result."""
        self._messages = [Message("tool", result) if one is shown else one for one in self._messages]

    def agent_said(self, heard: str, *, interrupted: bool) -> None:
        """`heard` is the part of the reply that reached the caller."""
        text = f"{heard} {INTERRUPTED}".strip() if interrupted else heard
        if text:
            self._messages.append(Message("assistant", text))
