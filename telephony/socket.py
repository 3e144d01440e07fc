"""A message socket, as our line protocols need it: a WebSocket in production, a pair of queues in tests."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable


class SocketClosed(Exception):
    """The peer or the network closed the socket. `code` is the WebSocket close code (RFC 6455, 7.4)."""

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"closed with code {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class Socket(Protocol):
    async def receive(self) -> str | bytes:
        """The next whole message. Raises `SocketClosed`. Safe to cancel without losing a message."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Raises `SocketClosed`."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Never raises; a second call does nothing."""
        ...


@runtime_checkable
class SendsAtOnce(Protocol):
    """A socket that can send without a wait."""

    def send_now(self, message: str | bytes) -> bool:
        """True: the message is on its way, behind all before it. False: nothing was done, and `send` it."""
        ...


@runtime_checkable
class DeliversAtOnce(Protocol):
    """A socket that can bring messages without waking a task for each."""

    def deliver_to(self, take: Callable[[str | bytes], bool] | None) -> None:
        """From now on `take` is offered what arrives, where nothing that came before it waits for `receive`;
        what it refuses (False) is received. It must not raise, and may be called from no task. None: nobody
        is to be offered anything."""
        ...
