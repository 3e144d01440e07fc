"""Tells an observer of both sides' sound, a tenth of a second at a time: observers are many, and packets a
hundred a second on each of a hundred calls. No clock of its own, no I/O."""

import numpy as np

from pipeline.events import AgentAudio, CallerAudio, CallObserver
from pipeline.line import LINE_RATE_HZ, Pcm

TOLD_EVERY_SAMPLES = LINE_RATE_HZ // 10


class SoundTold:
    """`caller` and `agent` what came and what was played, in order; `tell` when it is time to."""

    def __init__(self, observer: CallObserver) -> None:
        self._observer = observer
        self._caller: list[Pcm] = []
        self._caller_start = 0
        self._caller_samples = 0
        self._caller_gaps: list[float] = []
        self._came_at: float | None = None
        self._agent_gaps: list[float] = []
        self._sent_at: float | None = None

    def caller(self, pcm: Pcm, now: float) -> bool:
        """(n,) int16 arrived. True: it is time to tell."""
        self._caller.append(pcm)
        self._caller_samples += pcm.size
        if self._came_at is not None:
            self._caller_gaps.append(now - self._came_at)
        self._came_at = now
        return self._caller_samples >= TOLD_EVERY_SAMPLES

    def sent(self, now: float) -> None:
        """Packets of the agent's speech were sent that were due."""
        if self._sent_at is not None:
            self._agent_gaps.append(now - self._sent_at)
        self._sent_at = now

    def paused(self) -> None:
        """There is nothing to send: what comes next stands in no gap."""
        self._sent_at = None

    def agent(self, pcm: Pcm, start_sample: int) -> None:
        """(n,) int16 left for the caller at `start_sample` of the call."""
        gaps, self._agent_gaps = tuple(self._agent_gaps), []
        self._observer.observe(AgentAudio(start_sample, pcm, gaps))

    def tell(self) -> None:
        """Of the caller's sound, what was not told yet."""
        if not self._caller:
            return
        pieces, gaps = self._caller, tuple(self._caller_gaps)
        start = self._caller_start
        self._caller, self._caller_gaps = [], []
        self._caller_start, self._caller_samples = start + self._caller_samples, 0
        pcm = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        self._observer.observe(CallerAudio(start, pcm, gaps))
