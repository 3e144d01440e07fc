"""What the dialplan told of a call before AudioSocket connected, which itself carries a UUID and no more."""

import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

_KEPT: Final = 10_000


class AnnouncedCalls:
    """UUIDs with their parameters, each good once and for `ttl_s`. `now()` is monotonic seconds."""

    def __init__(self, ttl_s: float, now: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._now = now
        self._calls: OrderedDict[uuid.UUID, tuple[float, dict[str, str]]] = OrderedDict()

    def announce(self, name: uuid.UUID, parameters: Mapping[str, str]) -> None:
        """A later announcement of the same UUID replaces the earlier one."""
        now = self._now()
        self._calls[name] = (now + self._ttl_s, dict(parameters))
        self._calls.move_to_end(name)
        # All live equally long, so the oldest expire first.
        while self._calls and (len(self._calls) > _KEPT or next(iter(self._calls.values()))[0] < now):
            self._calls.popitem(last=False)

    def redeem(self, name: uuid.UUID) -> dict[str, str] | None:
        """The parameters, once; None where nothing was announced, or too long ago."""
        expires, parameters = self._calls.pop(name, (0.0, None))
        return parameters if parameters is not None and self._now() <= expires else None
