"""One 20 ms beat for all calls of this process: one timer, whatever their number."""

import asyncio
from collections.abc import Callable
from typing import Final

from pipeline.line import AUDIO_FRAME_S

_CATCH_UP: Final = 5
"""Beats made up for after the loop was busy. Beyond 100 ms the phone has played its gap: going on in time is
better than a burst."""


class Metronome:
    """`join(beat)` calls `beat()` every 20 ms until `leave(beat)`. Beats lie on a fixed grid: a late one does
    not delay the next, and those that were missed are made up for at once. A beat must not raise."""

    def __init__(self) -> None:
        self._beats: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def join(self, beat: Callable[[], None]) -> None:
        self._beats[beat] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due_s = loop.time()
            self._timer = loop.call_at(self._due_s, self._strike)

    def leave(self, beat: Callable[[], None]) -> None:
        """Safe to call twice."""
        self._beats.pop(beat, None)
        if not self._beats and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _strike(self) -> None:
        loop = asyncio.get_running_loop()
        late = int((loop.time() - self._due_s) / AUDIO_FRAME_S)
        times = 1 + min(late, _CATCH_UP)
        self._due_s += (1 + late) * AUDIO_FRAME_S
        self._timer = loop.call_at(self._due_s, self._strike)
        for beat in tuple(self._beats):
            for _ in range(times):
                beat()
