"""Which replica serves whom, and how long one waits for it. Pure: states and times in, decisions out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

PING_S = 0.050
"""How often a replica that works for us shows that it lives."""
IDLE_PING_S = 0.5
FORGIVEN_AFTER_S = 5.0
"""For so long a replica whose model failed us comes last."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica as one front-end sees it."""

    replica: str
    slots: int
    used: int
    """By all front-ends, as it said last, or by us if that is more."""
    connected: bool = True
    stalled: bool = False
    """It answers no ping."""
    leaving: bool = False
    """Serve no longer counts on it: what is there may end there, nothing new begins."""
    failed_at: float = float("-inf")
    """Monotonic seconds of the last time that its model failed."""


def choose(candidates: Iterable[Candidate], now: float, *, without: Collection[str] = ()) -> list[str]:
    """Who may be asked, the best first: who has not failed lately, has a slot, and has the most of them free.
    `without` have been tried. A stalled one is never asked."""

    def order(candidate: Candidate) -> tuple[bool, bool, float, str]:
        return (
            now - candidate.failed_at < FORGIVEN_AFTER_S,
            candidate.used >= candidate.slots,
            candidate.used / candidate.slots,
            candidate.replica,
        )

    fit = [
        candidate
        for candidate in candidates
        if candidate.connected
        and not candidate.stalled
        and not candidate.leaving
        and candidate.replica not in without
    ]
    return [candidate.replica for candidate in sorted(fit, key=order)]


class Watch:
    """Whether the other side still lives, from pings that one sends and anything that one hears.

    It is not time that passes but ticks: when our own loop stands still for a second, one tick comes late,
    and the answers that lie in the socket are read before the next. So a front-end that stumbles blames
    nobody.
    """

    def __init__(self, silence_s: float, *, tick_s: float = PING_S) -> None:
        self._ticks = max(2, round(silence_s / tick_s))
        self._silent = 0

    def heard(self) -> None:
        self._silent = 0

    def tick(self) -> bool:
        """Call after each `tick_s` for which an answer is due. True: it is stalled."""
        self._silent += 1
        return self.stalled

    @property
    def stalled(self) -> bool:
        return self._silent >= self._ticks


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that each stage may take on a replica that answers its pings. Beyond them its model hangs."""

    hear: float = 10.0
    glimpse: float = 0.6
    open: float = 30.0
    """A prefix may have to be evaluated."""
    first_piece: float = 20.0
    next_piece: float = 5.0
    first_audio: float = 10.0
    next_audio: float = 3.0
    replica: float = 6.0
    """How long a call waits for a replica while there is none."""
    tries: int = 3
