"""Connections that were opened and say nothing, or say it a byte at a time.

uvicorn waits for a request's head as long as it takes, so a few thousand such connections would be all that
one process may hold. Here a head must come in time, and of too many that have shown none the oldest is
closed: whoever means it has sent a request within milliseconds.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from uvicorn.protocols.http.auto import AutoHTTPProtocol

Connection = TypeVar("Connection")


class Waiting(Generic[Connection]):
    """Which connections have not shown a request yet. No I/O: each method says whom to close."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._of: OrderedDict[Connection, str] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._of)

    def came(self, connection: Connection, address: str) -> Connection | None:
        """A new one. `address` "" is one that all others come through."""
        if address and self._counts[address] >= self._most_of_one:
            return connection
        self._of[connection] = address
        self._counts[address] += 1
        if len(self._of) <= self._most:
            return None
        oldest = next(iter(self._of))
        self.left(oldest)
        return oldest

    def left(self, connection: Connection) -> None:
        """It has shown a request, or is gone."""
        address = self._of.pop(connection, None)
        if address is None:
            return
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]


def patient_protocol(
    waiting: "Waiting[Any]", within_s: float, trusts: Callable[[str], bool]
) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, for `uvicorn.Config(http=...)`, that waits `within_s` for a head. Addresses
    that `trusts(address)` are proxies', and not counted."""
    base: Any = AutoHTTPProtocol

    class PatientProtocol(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            peer = self.client[0] if self.client else ""
            self._await_head()
            surplus = waiting.came(self, "" if not peer or trusts(peer) else peer)
            if surplus is not None:
                surplus.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_came()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.transport.get_protocol() is not self:
                self._head_came()  # a WebSocket now, whose own protocol has it
            elif self.cycle is None or self.cycle.response_complete:
                self._await_head()
            else:
                self._head_came()

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = asyncio.get_running_loop().call_later(within_s, self._head_late)

        def _head_came(self) -> None:
            waiting.left(self)
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _head_late(self) -> None:
            self._head_timer = None
            if self.transport.get_protocol() is self and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()

    return PatientProtocol
