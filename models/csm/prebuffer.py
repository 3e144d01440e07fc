"""How much of an utterance is held back before its first sound. Pure."""

import math

from models.csm.shapes import CODEC_FRAME_S

AT_ONCE_RTF = 0.6
"""Below, the engine keeps ahead of its listener whatever the other slots do."""
LONGEST_WAIT_S = 1.0
"""A caller waits no longer for speech without gaps: an engine that would need more stutters anyway."""
_LEAST = 2


class Prebuffer:
    """One call's. `most`: CodecFrames."""

    def __init__(self, most: int = 12) -> None:
        self._most = max(most, _LEAST)
        self._learnt = _LEAST

    def codec_frames(self, rtf: float | None, expected: float) -> int:
        """To have before the first is given out: 1 when the p99 tick allows (`rtf` None: nothing measured
        yet), else what a slower engine needs to say `expected` CodecFrames without a gap."""
        if rtf is None or rtf < AT_ONCE_RTF:
            return 1
        needed = math.ceil(expected * (1 - 1 / rtf)) if rtf > 1 else 0
        bearable = max(_LEAST, math.floor(LONGEST_WAIT_S / (rtf * CODEC_FRAME_S)))
        return min(self._most, bearable, max(self._learnt, needed))

    def spoken(self, late: int) -> None:
        """An utterance is over; `late` of its CodecFrames came after their moment."""
        self._learnt = max(_LEAST, min(self._most, self._learnt + (1 if late else -1)))


class Lateness:
    """Counts an utterance's CodecFrames that came late, had its playout begun with the first given out."""

    def __init__(self) -> None:
        self._due_s: float | None = None
        self.late = 0

    def given(self, now: float) -> None:
        """One CodecFrame goes out at `now`, monotonic seconds."""
        if self._due_s is not None and now > self._due_s:
            self.late += 1
            self._due_s = now
        self._due_s = (now if self._due_s is None else self._due_s) + CODEC_FRAME_S
