"""What the dialplan tells of a call before it, and is told after it.

AudioSocket itself carries a UUID and no more, and neither protocol says how a call ended: whether the caller
is owed an apology.
"""

import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

_KEPT: Final = 10_000


class Ending(Enum):
    FINE = "fine"
    """Nobody needs to hear anything more."""
    FAILED = "failed"
    BUSY = "busy"
    """No line was free."""


class CallBook:
    """Announcements, each good once and for `ttl_s`, and endings, the latest `_KEPT` of them. `now()` is
    monotonic seconds."""

    def __init__(self, ttl_s: float, now: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._now = now
        self._announced: OrderedDict[uuid.UUID, tuple[float, dict[str, str]]] = OrderedDict()
        self._endings: OrderedDict[str, Ending] = OrderedDict()

    def announce(self, name: uuid.UUID, parameters: Mapping[str, str]) -> None:
        """A later announcement of the same UUID replaces the earlier one."""
        calls, now = self._announced, self._now()
        calls[name] = (now + self._ttl_s, dict(parameters))
        calls.move_to_end(name)
        # All live equally long, so the oldest expire first.
        while calls and (len(calls) > _KEPT or next(iter(calls.values()))[0] < now):
            calls.popitem(last=False)

    def redeem(self, name: uuid.UUID) -> dict[str, str] | None:
        """The parameters, once; None where nothing was announced, or too long ago."""
        expires, parameters = self._announced.pop(name, (0.0, None))
        return parameters if parameters is not None and self._now() <= expires else None

    def ended(self, key: str, ending: Ending) -> None:
        self._endings[key] = ending
        self._endings.move_to_end(key)
        if len(self._endings) > _KEPT:
            self._endings.popitem(last=False)

    def ending(self, key: str) -> Ending:
        """How the call ended. One that we know nothing of has failed: we may have crashed."""
        return self._endings.get(key, Ending.FAILED)
