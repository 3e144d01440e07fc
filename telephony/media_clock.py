"""Where the caller's audio stands on the call's timeline, counted in samples.

Media travels over TCP, so what reaches us is in order; what was lost on the way to Twilio is missing
from it, and shows as a jump of `media.timestamp` (milliseconds since the stream began).
"""

from typing import Final

from pipeline.line import LINE_RATE_HZ

_SAMPLES_PER_MS: Final = LINE_RATE_HZ // 1000
SMALLEST_GAP_MS: Final = 15
"""Less is rounding of the timestamps. A lost AudioFrame is 20 ms."""
REWIND_MS: Final = 1000
"""Timestamps that fall back this far have started anew; a client that sends only zeros does it always."""


class MediaClock:
    """Counts the samples of one stream and finds what is missing between them.

    `max_gap_s` bounds one stretch of silence to fill in. `max_lead_s` bounds how far the timeline may
    run ahead of the time that has passed since the first media: a line delivers late, never early, so
    more audio than time is somebody's attempt to drown us.
    """

    def __init__(self, *, max_gap_s: float, max_lead_s: float) -> None:
        self._max_gap = int(max_gap_s * LINE_RATE_HZ)
        self._max_lead_s = max_lead_s
        self._opened_at: float | None = None
        self._origin_ms: int | None = None
        self.position = 0
        """Samples so far, silence included."""
        self.jumps = 0
        """Timestamps that could not be true; the timeline went on from where it stood."""
        self.filled = 0
        """Samples of silence put in."""

    def place(self, n_samples: int, timestamp_ms: int | None, now: float) -> int | None:
        """Samples of silence to put before the next `n_samples`, and move past both; None when there
        is no room for them, and nothing moves. `timestamp_ms` is None where it is missing or absurd."""
        opened_at = self._opened_at
        if opened_at is None:
            opened_at = now
        room = int((now - opened_at + self._max_lead_s) * LINE_RATE_HZ) - self.position - n_samples
        if room < 0:
            return None
        self._opened_at = opened_at
        gap = 0
        if timestamp_ms is not None:
            gap = self._gap(timestamp_ms, room)
        self.position += gap + n_samples
        self.filled += gap
        return gap

    def _gap(self, timestamp_ms: int, room: int) -> int:
        if self._origin_ms is None:
            self._origin_ms = timestamp_ms - self.position // _SAMPLES_PER_MS
            return 0
        gap = (timestamp_ms - self._origin_ms) * _SAMPLES_PER_MS - self.position
        if -REWIND_MS * _SAMPLES_PER_MS < gap < SMALLEST_GAP_MS * _SAMPLES_PER_MS:
            return 0
        if 0 < gap <= min(room, self._max_gap):
            return gap
        self.jumps += 1
        self._origin_ms = timestamp_ms - self.position // _SAMPLES_PER_MS
        return 0
