"""How late the event loop is: what every packet, timer and socket of every call waits beyond its time.

A task asks to be woken every `PERIOD_S` and notes how late it was. Where the loop stands still for longer
than it may, a thread beside it looks what it is at, while it is at it: the log names that code.
"""

import asyncio
import gc
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Literal

log = logging.getLogger(__name__)

PERIOD_S: Final = 0.02
"""One AudioFrame: what a packet would have waited."""
WORST_OF_S: Final = 60.0
"""`worst_s` looks back so far: longer than the usual time between two looks at the metrics."""
_WARN_EVERY_S: Final = 10.0
_DEEPEST: Final = 6
_HERE = Path(__file__).parents[2]


class WorstOf:
    """The largest value of the last `window_s`, or of half of it at least: it is kept in two halves."""

    def __init__(self, window_s: float) -> None:
        self._half_s = window_s / 2
        self._halves: deque[tuple[float, float]] = deque(maxlen=2)
        """When each began, and its largest value."""

    def note(self, value: float, now: float) -> None:
        if not self._halves or now - self._halves[-1][0] >= self._half_s:
            self._halves.append((now, value))
        elif value > self._halves[-1][1]:
            self._halves[-1] = (self._halves[-1][0], value)

    def largest(self, now: float) -> float:
        return max((value for began, value in self._halves if now - began < 2 * self._half_s), default=0.0)


class _Watchman:
    """The thread beside the loop."""

    def __init__(self, slow_s: float) -> None:
        self._slow_s = slow_s
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self.due_at = float("inf")
        """When the loop has to show itself next (`time.monotonic`)."""
        self.seen = ""
        """What it was at when it did not."""
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._slow_s / 2):
            if not self.seen and time.monotonic() - self.due_at > self._slow_s / 2:
                self.seen = _where(sys._current_frames().get(self._loop_thread))


class LoopLag:
    """`run()` is a task of the loop that is looked at. `note` gets every lateness, in seconds."""

    def __init__(
        self, note: Callable[[float], None], slow_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._note = note
        self._slow_s = slow_s
        self._clock = clock
        self._worst = WorstOf(WORST_OF_S)
        self._warned_at = -_WARN_EVERY_S
        self._kept_back = 0
        self._collecting_since = 0.0
        self._collected_s = 0.0

    @property
    def worst_s(self) -> float:
        """The longest that anything waited in the last minute."""
        return self._worst.largest(self._clock())

    async def run(self) -> None:
        watchman = _Watchman(self._slow_s)
        gc.callbacks.append(self._collects)
        try:
            while True:
                due_at = self._clock() + PERIOD_S
                watchman.due_at = due_at
                worked_s, self._collected_s = time.thread_time(), 0.0
                await asyncio.sleep(PERIOD_S)
                late_s = max(0.0, self._clock() - due_at)
                worked_s = time.thread_time() - worked_s
                self.seen(late_s, self._cause(watchman.seen, late_s, worked_s))
                watchman.seen = ""
        finally:
            watchman.stop()
            with suppress(ValueError):
                gc.callbacks.remove(self._collects)

    def seen(self, late_s: float, cause: str) -> None:
        """One lateness, and what it is put down to where it was long."""
        now = self._clock()
        self._note(late_s)
        self._worst.note(late_s, now)
        if late_s < self._slow_s:
            return
        if now - self._warned_at < _WARN_EVERY_S:
            self._kept_back += 1
            return
        others = f" ({self._kept_back} more since the last warning)" if self._kept_back else ""
        self._warned_at, self._kept_back = now, 0
        log.warning("the event loop stood still for %.0f ms: %s%s", 1000 * late_s, cause, others)

    def _cause(self, seen: str, late_s: float, worked_s: float) -> str:
        if late_s < self._slow_s:
            return ""
        if self._collected_s > late_s / 2:
            return f"the garbage collector ran for {1000 * self._collected_s:.0f} ms"
        if worked_s < late_s / 2:
            what = f"it worked for {1000 * worked_s:.0f} ms of it and waited for the rest"
            return f"{what}, for a processor, the interpreter or a blocking call; {seen or 'where: unknown'}"
        return seen or "many short pieces of work in a row"

    def _collects(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        # Whichever thread set it off: all others wait for it.
        if phase == "start":
            self._collecting_since = self._clock()
        else:
            self._collected_s += self._clock() - self._collecting_since


def _where(stack: FrameType | TracebackType | None) -> str:
    """The innermost calls of a stack that stand in our own code, outermost first."""
    places: list[str] = []
    depth: object = stack
    innermost = ""
    while isinstance(depth, FrameType) and len(places) < _DEEPEST:
        code = depth.f_code
        path = Path(code.co_filename)
        innermost = innermost or f"{path.name}:{depth.f_lineno} {code.co_name}"
        if path.is_relative_to(_HERE) and "site-packages" not in path.parts and path != Path(__file__):
            places.append(f"{path.relative_to(_HERE)}:{depth.f_lineno} {code.co_name}")
        depth = depth.f_back
    if not places:
        return f"at {innermost}" if innermost else ""
    inside = "" if places[0].split()[-1] == innermost.split()[-1] else f" > {innermost}"
    return "at " + " > ".join(reversed(places)) + inside
