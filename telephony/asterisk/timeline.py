"""Where the caller's audio stands against the clock, for streams that come without timestamps."""

from typing import Final

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ


class Timeline:
    """How far the caller's audio has come, against the time that has passed since its first sample.

    Asterisk sends no timestamps. A phone that suppresses silence sends nothing at all meanwhile, and so does
    one on hold: what stays away for `GAP_S` is silence, and is put in its place, so that a pause is heard as
    one and a recording stays in step. Less is the network's unrest, and comes yet.
    """

    GAP_S: Final = 0.5
    FILL_EVERY_S: Final = 0.1

    def __init__(self, *, max_lead_s: float) -> None:
        self._max_lead_s = max_lead_s
        self._began_at: float | None = None
        self._fill_at: float | None = None
        self.position = 0
        """Samples so far, silence included."""

    def take(self, n_samples: int, now: float) -> bool:
        """Count the next `n_samples`; False, and nothing is counted, when there is more audio than time: a
        peer delivers late, never early."""
        began_at = self._began_at
        if began_at is None:
            began_at = now - min(n_samples, AUDIO_FRAME_SAMPLES) / LINE_RATE_HZ
        if self.position + n_samples > (now - began_at + self._max_lead_s) * LINE_RATE_HZ:
            return False
        self._began_at = began_at
        self.position += n_samples
        self._fill_at = now + self.GAP_S
        return True

    def next_deadline(self) -> float | None:
        """When to call `fill` next; None before the first sample."""
        return self._fill_at

    def fill(self, now: float) -> int:
        """Samples of silence that are due at `now`, counted already."""
        if self._fill_at is None or self._began_at is None or now < self._fill_at:
            return 0
        missing = max(0, int((now - self._began_at) * LINE_RATE_HZ) - self.position)
        self.position += missing
        self._fill_at = now + self.FILL_EVERY_S
        return missing
