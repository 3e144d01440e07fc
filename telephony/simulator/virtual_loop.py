"""Virtual time: an event loop whose clock jumps to the next timer when nothing else is left to do.

Nothing waits, so whatever runs in it takes as long as its computing, and runs the same way every time. The
price: whatever would wait for the real world is refused. No sockets, pipes, subprocesses or threads.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from telephony.simulator.errors import SimulatorError
from telephony.socket import SocketClosed

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualTimeError(SimulatorError):
    """Something under simulation reached for the real world, or nothing is left that could ever happen."""


class _Clock:
    """Stands where asyncio keeps its selector: being asked to wait for `timeout` seconds moves the hand."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop
        self.now_s = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            waiting = sorted(task.get_name() for task in asyncio.all_tasks(self._loop))
            raise VirtualTimeError(
                f"nothing can happen any more; still waiting: {', '.join(waiting) or 'nobody'}"
            )
        if timeout > 0:
            self.now_s += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` starts at 0 and moves only from timer to timer."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock(self)
        self._clock_resolution = 1e-9
        self._owner = threading.get_ident()

    def time(self) -> float:
        return self._selector.now_s

    def _process_events(self, event_list: list[Any]) -> None:
        return None

    def _write_to_self(self) -> None:
        return None

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._owner:
            raise VirtualTimeError("another thread called into virtual time, which does not wait for threads")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        _refuse(f"thread for {getattr(func, '__qualname__', func)!r}")


def _refuse(what: str) -> NoReturn:
    raise VirtualTimeError(f"virtual time has no {what}; use stand-ins that wait by asyncio.sleep")


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(*_args: object, **_kwargs: object) -> NoReturn:
        _refuse(f"real I/O (loop.{name})")

    return refused


for _name in (
    *(
        "add_reader",
        "add_writer",
        "remove_reader",
        "remove_writer",
        "add_signal_handler",
        "remove_signal_handler",
    ),
    *(
        "sock_accept",
        "sock_connect",
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_sendall",
        "sock_sendto",
    ),
    *(
        "sock_sendfile",
        "sendfile",
        "start_tls",
        "create_connection",
        "create_server",
        "create_unix_connection",
    ),
    *("create_unix_server", "create_datagram_endpoint", "connect_read_pipe", "connect_write_pipe"),
    *("subprocess_exec", "subprocess_shell", "getaddrinfo", "getnameinfo"),
):
    setattr(VirtualLoop, _name, _refusing(_name))


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time. Call it from a plain function, not from a coroutine.

    Raises `VirtualTimeError` when `main` can never finish, or when anything asks for a thread or for real
    I/O.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        main.close()
        raise VirtualTimeError(
            "virtual time runs its own loop: call it from a plain function, not from a coroutine"
        )
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        _cancel_all(loop)
        loop.close()


def _cancel_all(loop: VirtualLoop) -> None:
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


class MemorySocket:
    """One end of a pair; `telephony.socket.Socket`, that sends and delivers at once as the server's does.
    Messages arrive at once and in order."""

    def __init__(self) -> None:
        self._peer: MemorySocket = self
        self._inbox: deque[str | bytes] = deque()
        self._closed: SocketClosed | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._take: Callable[[str | bytes], bool] | None = None

    @classmethod
    def pair(cls) -> tuple["MemorySocket", "MemorySocket"]:
        one, other = cls(), cls()
        one._peer, other._peer = other, one
        return one, other

    async def receive(self) -> str | bytes:
        while not self._inbox:
            if self._closed is not None:
                raise self._closed
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._inbox.popleft()

    async def send(self, message: str | bytes) -> None:
        if self._closed is not None:
            raise self._closed
        self._peer._arrives(message)

    def send_now(self, message: str | bytes) -> bool:
        if self._closed is not None:
            return False
        self._peer._arrives(message)
        return True

    def deliver_to(self, take: Callable[[str | bytes], bool] | None) -> None:
        self._take = take

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self._shut(SocketClosed(code, reason))

    def abort(self) -> None:
        """Vanish without a closing handshake."""
        self._shut(SocketClosed(1006))

    def _shut(self, closed: SocketClosed) -> None:
        for end in (self, self._peer):
            if end._closed is None:
                end._closed = closed
                end._wake()

    def _arrives(self, message: str | bytes) -> None:
        self._inbox.append(message)
        if self._take is None:
            self._wake()
        elif len(self._inbox) == 1:
            # Not within the sender's own step, as no network does.
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._inbox and self._take is not None and self._take(self._inbox[0]):
            self._inbox.popleft()
        if self._inbox:
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
