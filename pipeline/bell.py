"""What the one task of a call that decides sleeps on: a ring, or a moment. `asyncio.Event` and a timer of its
own for every sleep do the same at three times the cost, and it sleeps eighty times a second."""

import asyncio
from collections.abc import Callable


class Bell:
    """For one who waits. A ring that nobody waits for is kept; several are one."""

    __slots__ = ("_in_time", "_loop", "_rung", "_timer", "_timer_at", "_waiter")

    def __init__(self, in_time: Callable[[], float | None] = lambda: None) -> None:
        """`in_time` is called at the moment for which somebody sleeps, and may say until when to sleep on; it
        must not raise."""
        self._in_time = in_time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def ring(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def sleeps_beyond(self, moment: float | None) -> bool:
        """Somebody waits, and not for a moment as early as this one."""
        return self.waiting and moment is not None and (self._timer is None or moment < self._timer_at)

    @property
    def waiting(self) -> bool:
        """Somebody does, and it has not rung."""
        return self._waiter is not None and not self._waiter.done()

    async def wait(self, deadline: float | None) -> None:
        """Until it rings, or `deadline` on the running loop's clock. Safe to cancel: the ring is kept."""
        if not self._rung:
            loop = self._loop = asyncio.get_running_loop()
            # As a rule it is still set for the same moment as before.
            if self._timer is not None and self._timer_at != deadline:
                self.rest()
            if self._timer is None and deadline is not None:
                self._timer = loop.call_at(deadline, self._ring_in_time)
                self._timer_at = deadline
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._rung = False

    def rest(self) -> None:
        """Nothing is left behind on the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_in_time(self) -> None:
        self._timer = None
        if self.waiting:
            later = self._in_time()
            if later is not None and self.waiting and self._loop is not None:
                self._timer = self._loop.call_at(later, self._ring_in_time)
                self._timer_at = later
                return
        self.ring()
