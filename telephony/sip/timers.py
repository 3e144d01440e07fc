"""Every deadline of the user agent in one heap. Knows no clock: `now` is an argument."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

Action = Callable[[float], None]
"""Called with `now`."""


@dataclass(order=True, slots=True)
class Timer:
    """One deadline; `cancel` before it or never."""

    at: float
    serial: int
    action: Action | None = field(compare=False)

    def cancel(self) -> None:
        self.action = None


class Timers:
    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._serial = 0

    def at(self, when: float, action: Action) -> Timer:
        self._serial += 1
        timer = Timer(when, self._serial, action)
        heapq.heappush(self._heap, timer)
        return timer

    def next_deadline(self) -> float | None:
        while self._heap and self._heap[0].action is None:
            heapq.heappop(self._heap)
        return self._heap[0].at if self._heap else None

    def run(self, now: float) -> None:
        """Do all that is due, in order; what an action sets for `now` is done too."""
        while self._heap and self._heap[0].at <= now:
            action = heapq.heappop(self._heap).action
            if action is not None:
                action(now)
