"""The one clock of all calls: 20 ms, on a schedule that does not drift.

Reading is done at the tick as well. A selector would wake the loop for every packet, 50 times a second and
call; the samples would still go on at a tick. Sockets hold what comes between, stamped by the kernel.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from pipeline.line import AUDIO_FRAME_S

log = logging.getLogger(__name__)

PHASES: Final = 10
"""Calls are spread over so many moments of each 20 ms: a hundred at one moment would keep the loop from
everything else for as long as they take together."""
MAX_BURST: Final = 3
"""After a pause of the process a call sends at most so many packets at once, 60 ms: a telephone's jitter
buffer drops what exceeds it."""
_SLACK_S: Final = 0.001
"""Timers may fire a millisecond early (uvloop counts whole ones): what is nearly due is done at once."""


class Ticked(Protocol):
    """One call, as the clock sees it."""

    def send(self, packets: int, skipped: int, now: float) -> None:
        """Send `packets` of 20 ms, after `skipped` whose time is past."""
        ...

    def hear(self, now: float) -> None:
        """Read what came."""
        ...

    def failed(self, error: Exception) -> None:
        """`send` or `hear` raised: the clock has let the call go."""
        ...


class RtpClock:
    """`add` a call, `remove` it. Runs on the running loop while it has calls, and is idle otherwise.

    `now` gives monotonic seconds; in virtual time pass the loop's own clock.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self.skipped = 0
        """Ticks whose packets were never sent: the process stood still for too long."""
        self.late_max_s = 0.0
        self._now = now
        self._groups: list[dict[Ticked, None]] = [{} for _ in range(PHASES)]
        self._ticks = [0] * PHASES
        self._origin_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._now()

    @property
    def calls(self) -> int:
        return sum(map(len, self._groups))

    def add(self, call: Ticked) -> None:
        """Tick `call` from the next moment of the emptiest phase on."""
        if self._timer is None:
            self._origin_s = self._now()
            self._ticks = [0] * PHASES
            self._arm()
        min(self._groups, key=len)[call] = None

    def remove(self, call: Ticked) -> None:
        """Safe from within a tick, and for a call that is not there."""
        for group in self._groups:
            group.pop(call, None)
        if self._timer is not None and not self.calls:
            self._timer.cancel()
            self._timer = None

    def _due(self, phase: int) -> float:
        """When the next tick of a phase is due."""
        return self._origin_s + (self._ticks[phase] + 1 + phase / PHASES) * AUDIO_FRAME_S

    def _arm(self) -> None:
        delay_s = max(0.0, min(map(self._due, range(PHASES))) - self._now())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._run)

    def _run(self) -> None:
        now = self._now()
        try:
            for phase in sorted(range(PHASES), key=self._due):
                late_s = now - self._due(phase)
                if late_s >= -_SLACK_S:
                    self.late_max_s = max(self.late_max_s, late_s)
                    # What else became due while the others were served waits for the next turn of the loop.
                    ticks = 1 + max(0, math.floor(late_s / AUDIO_FRAME_S))
                    self._ticks[phase] += ticks
                    self._tick(self._groups[phase], ticks, now)
        finally:
            if self.calls:
                self._arm()
            else:
                self._timer = None

    def _tick(self, group: dict[Ticked, None], ticks: int, now: float) -> None:
        calls = list(group)
        packets = min(ticks, MAX_BURST)
        self.skipped += (ticks - packets) * len(calls)
        for call in calls:
            try:
                call.send(packets, ticks - packets, now)
            except Exception as error:
                self._let_go(call, error)
        for call in calls:
            if call in group:
                try:
                    call.hear(now)
                except Exception as error:
                    self._let_go(call, error)

    def _let_go(self, call: Ticked, error: Exception) -> None:
        """One call's fault must not stop the clock of the others."""
        log.exception("a call's media failed")
        for group in self._groups:
            group.pop(call, None)
        try:
            call.failed(error)
        except Exception:
            log.exception("and so did its end")
