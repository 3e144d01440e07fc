"""Which turns of a long call still fit into its share of the context."""

from collections.abc import Callable, Sequence

from models.base import Message, ModelFailed


def turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Split before every user message that follows something: whole turns, oldest first."""
    grouped: list[list[Message]] = []
    for message in messages:
        if not grouped or message.role == "user":
            grouped.append([])
        grouped[-1].append(message)
    return grouped


class History:
    """Drops whole turns from the oldest on, and remembers how many, so that a conversation is not cut anew
    each time.

    Cutting changes every token after the prefix, so all that remains must be evaluated again. When the budget
    is exceeded, turns therefore go until half of it is free, and the next cut is many turns away.
    """

    def __init__(self, budget_tokens: int) -> None:
        self._budget = budget_tokens
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Turns that the model no longer sees."""
        return self._dropped

    def fit(self, messages: Sequence[Message], count: Callable[[Sequence[Message]], int]) -> list[Message]:
        """The messages to show, by `count` of their tokens. The last turn always stays. Raises `ModelFailed`
        when it alone is too long."""
        grouped = turns(messages)
        if self._dropped >= len(grouped):
            self._dropped = 0  # A conversation begun anew.
        kept = grouped[self._dropped :]
        if count(_flat(kept)) > self._budget:
            while len(kept) > 1 and count(_flat(kept)) > self._budget // 2:
                kept = kept[1:]
        length = count(_flat(kept))
        if length > self._budget:
            raise ModelFailed(
                f"what was said in this turn is {length} tokens long; at most {self._budget} fit into "
                "the call's share of the model's context"
            )
        self._dropped = len(grouped) - len(kept)
        return _flat(kept)


def _flat(grouped: Sequence[Sequence[Message]]) -> list[Message]:
    return [message for turn in grouped for message in turn]
