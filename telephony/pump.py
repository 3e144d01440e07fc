"""Between a socket and a protocol core, for every line that comes over a socket.

Reads the running loop's clock and nothing else, so it runs in virtual time over an in-memory socket.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

from pipeline.line import LineClosed
from telephony.socket import DeliversAtOnce, SendsAtOnce, Socket, SocketClosed

CALLER_HUNG_UP: Final = "caller hung up"
CONNECTION_LOST: Final = "connection lost"
SERVER_SHUT_DOWN: Final = "server shut down"

_MESSAGES_PER_BREATH: Final = 16
"""Messages that are there already are read without leaving the task; other calls want their turn."""
_BREATH_S: Final = 0.001
_STALLED_S: Final = 10.0
"""A peer that takes nothing for so long is gone, whatever it still sends."""
_LAST_WORDS_S: Final = 1.0


class Patience:
    """`asyncio.timeout_at` for what happens a hundred times a second in each of a hundred calls: used again
    and again, by one task at a time, with a timer that stays set from one use to the next, for limits are
    moved on far more often than they are reached. Raises `TimeoutError` out of the block.

        with patience.until(when): ...

    `when` None: no limit. `rest` once it is not used any more.
    """

    __slots__ = ("_before", "_handle", "_handle_at", "_loop", "_over", "_task", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._when: float | None = None
        self._over = False
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = 0.0

    def until(self, when: float | None) -> "Patience":
        if self._task is not None:
            raise RuntimeError("patience serves one task at a time")
        self._when = when
        return self

    def __enter__(self) -> "Patience":
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("patience is a task's")
        self._task = task
        self._before = task.cancelling()
        self._over = False
        if self._when is not None:
            self._set(self._when)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        self._when = None
        if not self._over:
            return
        assert task is not None  # noqa: S101  (whoever enters is one)
        if task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    @property
    def in_use(self) -> bool:
        return self._task is not None

    @property
    def over(self) -> bool:
        return self._over

    @property
    def when(self) -> float | None:
        return self._when

    def reschedule(self, when: float) -> None:
        """Another limit, which may have passed. Nothing where it is over, or nobody waits."""
        if self._over or self._task is None:
            return
        self._when = when
        self._set(when)

    def rest(self) -> None:
        """Nothing is left behind on the loop."""
        if self._handle is not None and self._task is None:
            self._handle.cancel()
            self._handle = None

    def _set(self, when: float) -> None:
        if self._handle is not None:
            if self._handle_at <= when:
                return
            self._handle.cancel()
        self._handle_at = when
        self._handle = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        set_for, self._handle = self._handle_at, None
        if self._task is None or self._when is None or self._over:
            return
        if self._when > set_for:
            self._set(self._when)
            return
        self._over = True
        self._task.cancel()


class PeerFault(Exception):
    """The peer broke a rule badly enough to end the call, or fell silent.

    `close_code` is the WebSocket code to close with (RFC 6455 section 7.4.1), `reason` a sentence that
    fits a close frame.
    """

    def __init__(self, reason: str, close_code: int = 1002) -> None:
        super().__init__(reason)
        self.reason = reason
        self.close_code = close_code


AnyEvent = TypeVar("AnyEvent")


class Core(Protocol[AnyEvent]):
    """What the pump needs of a protocol core."""

    def receive_message(self, message: str | bytes, now: float) -> list[AnyEvent]:
        """Raises `PeerFault`."""
        ...

    def next_deadline(self) -> float | None: ...

    def handle_timer(self, now: float) -> Sequence[AnyEvent] | None:
        """Raises `PeerFault` where the peer has been silent for too long."""
        ...


AnyCore = TypeVar("AnyCore", bound=Core)  # type: ignore[type-arg]  # its events are the pump's
AnySocket = TypeVar("AnySocket", bound=Socket)


class Pump(Generic[AnySocket, AnyCore, AnyEvent]):
    """Messages in, events out; knows why the call ended. `ending(event)` is the reason where an event ends
    it; such events are kept back.

    Only one task reads. `over` is None while the call lives, then the reason.
    """

    def __init__(self, socket: AnySocket, core: AnyCore, ending: Callable[[AnyEvent], str | None]) -> None:
        self.socket = socket
        self.core = core
        self.over: str | None = None
        self.close_code = 1000
        self.fault: PeerFault | None = None
        """What the peer did wrong, where that ended the call."""
        self._ending = ending
        self._ready: deque[AnyEvent] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._reading: Patience | None = None
        self._read_patience = Patience(self._loop)
        self._send_patience = Patience(self._loop)
        self._send_now = socket.send_now if isinstance(socket, SendsAtOnce) else None
        self._last_message_at = 0.0
        self._in_a_row = 0
        self._listener: Callable[[AnyEvent], None] | None = None
        self._failure: Exception | None = None

    def listen(self, listener: Callable[[AnyEvent], None]) -> None:
        """Events that come while somebody waits in `next` may be told to `listener` at once instead, all in
        their order. What `listener` raises is raised by `next`."""
        self._listener = listener
        if isinstance(self.socket, DeliversAtOnce) and self.over is None:
            self.socket.deliver_to(self._take_at_once)

    async def next(self) -> AnyEvent:
        """The next event. Raises `LineClosed` at the call's end. Safe to cancel, and to call again."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._ready:
                return self._ready.popleft()
            self.must_live()
            await self._read()

    async def send(self, *messages: str | bytes) -> None:
        """In this order. Raises `LineClosed`, with the reader's reason where the reader finds one."""
        self.must_live()
        if self._send_now is not None and not self._send_patience.in_use:
            sent = 0
            for message in messages:
                if not self._send_now(message):
                    break
                sent += 1
            messages = messages[sent:]
        if messages:
            await self._send(messages)

    def send_at_once(self, message: str | bytes) -> bool:
        """Without a wait, where nothing waits to be sent; else False, and nothing was done."""
        send_now = self._send_now
        if send_now is None or self.over is not None or self._send_patience.in_use:
            return False
        return send_now(message)

    def end(self, reason: str, close_code: int = 1000) -> None:
        """End the call from our side: whoever reads or sends gets `LineClosed(reason)`."""
        if self.over is not None:
            return
        self.over = reason
        self.close_code = close_code
        self._ended.set()
        if self._listener is not None and isinstance(self.socket, DeliversAtOnce):
            self.socket.deliver_to(None)
        self._wake_reader()
        self._read_patience.rest()
        self._send_patience.rest()

    async def wait_over(self) -> None:
        await self._ended.wait()

    def must_live(self) -> None:
        """Before the core is asked, for which sending on a call that is over is our own mistake. Raises
        `LineClosed`."""
        if self.over is not None:
            raise LineClosed(self.over)

    async def _send(self, messages: Sequence[str | bytes]) -> None:
        try:
            # Two tasks may send at once.
            patience = Patience(self._loop) if self._send_patience.in_use else self._send_patience
            try:
                with patience.until(self._loop.time() + _STALLED_S):
                    for message in messages:
                        await self.socket.send(message)
            finally:
                if patience is not self._send_patience:
                    patience.rest()
        except TimeoutError:
            self.end(f"{CONNECTION_LOST}: the peer takes nothing more")
            raise LineClosed(self.over or CONNECTION_LOST) from None
        except SocketClosed:
            # A goodbye may wait to be read, which says more than the socket's loss.
            try:
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._ended.wait()
            except TimeoutError:
                self.end(CONNECTION_LOST)
            raise LineClosed(self.over or CONNECTION_LOST) from None

    async def _read(self) -> None:
        message = await self._receive()
        if message is not None:
            await self._take(message)

    async def _receive(self) -> str | bytes | None:
        """One message, or None when a deadline passed or there is something else to do."""
        try:
            with self._read_patience.until(self.core.next_deadline()) as scope:
                self._reading = scope
                try:
                    return await self.socket.receive()
                finally:
                    self._reading = None
        except TimeoutError:
            self._handle_timer()
        except SocketClosed as closed:
            self.end(self._why(closed))
        return None

    def _handle_timer(self) -> None:
        if self.over is not None:
            return
        try:
            self._sort(self.core.handle_timer(self._loop.time()) or ())
        except PeerFault as late:
            self.fault = late
            self.end(late.reason, late.close_code)

    async def _take(self, message: str | bytes) -> None:
        if self.over is not None:
            return
        now = self._loop.time()
        try:
            self._sort(self.core.receive_message(message, now))
        except PeerFault as fault:
            self._broke_a_rule(fault)
            return
        # Marks and junk may keep coming while the media has stopped: no timer fires then.
        self._handle_timer()
        self._in_a_row = self._in_a_row + 1 if now - self._last_message_at < _BREATH_S else 0
        self._last_message_at = now
        if self._in_a_row >= _MESSAGES_PER_BREATH:
            self._in_a_row = 0
            await asyncio.sleep(0)

    def _take_at_once(self, message: str | bytes) -> bool:
        """`telephony.socket.DeliversAtOnce`. Refused while the reader has something else to do."""
        reading, listener = self._reading, self._listener
        if reading is None or listener is None or reading.over:
            return False
        if self._ready or self.over is not None or self._failure is not None:
            return False
        try:
            for event in self.core.receive_message(message, self._loop.time()):
                if self.over is not None:
                    break
                reason = self._ending(event)
                if reason is None:
                    listener(event)
                else:
                    self.end(reason)
            # One that lies later is looked for when the one that is set has passed.
            deadline = self.core.next_deadline()
            if deadline is not None and (reading.when is None or deadline < reading.when):
                reading.reschedule(deadline)
        except PeerFault as fault:
            self._broke_a_rule(fault)
        except Exception as error:
            self._failure = error
            self._wake_reader()
        return True

    def _broke_a_rule(self, fault: PeerFault) -> None:
        self.fault = fault
        self.end(f"protocol error: {fault.reason}", fault.close_code)

    def _sort(self, events: Sequence[AnyEvent]) -> None:
        for event in events:
            if self.over is not None:
                return
            reason = self._ending(event)
            if reason is None:
                self._ready.append(event)
            else:
                self.end(reason)

    def _wake_reader(self) -> None:
        if self._reading is not None:
            self._reading.reschedule(self._loop.time())

    def _why(self, closed: SocketClosed) -> str:
        """Peers close normally when the call ended, and may leave out the goodbye before it."""
        if closed.code in (1000, 1001, 1005):
            return CALLER_HUNG_UP
        if closed.code == 1012:  # uvicorn's word to its own sockets when it stops
            return SERVER_SHUT_DOWN
        return f"{CONNECTION_LOST} (code {closed.code})" if closed.code != 1006 else CONNECTION_LOST
