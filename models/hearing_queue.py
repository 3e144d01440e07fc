"""Which transcriptions come next, and which of them together: bookkeeping, and nothing else.

Pure: no audio, no thread, no clock; `now` is monotonic seconds. A *request* waits from `push` until `take` or
`drop`. The earliest deadline goes first. Who set none is never late, and is ordered as if it had
`PATIENCE_S`: so speculation that sets none, or a later one, yields to what somebody waits for, but not for
ever.

A batch is of one *kind* (what the model must be given alike for all: a language, a prompt), and all of it is
encoded through the longest *window* of its requests. Those of the same window cost nothing; others join as
long as the batch's windows together grow to at most `stretch` times what they would be apart: at 1, none.
"""

from collections.abc import Hashable
from dataclasses import dataclass

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request. `window_s`: what the model encodes for it alone."""

    number: int
    kind: Hashable
    window_s: float
    asked: float
    due: float | None
    """When it is late; None: never."""

    @property
    def order(self) -> tuple[float, int]:
        return (self.asked + PATIENCE_S if self.due is None else self.due), self.number


@dataclass(frozen=True, slots=True)
class Batch:
    """`late` are to be refused now, before the work on `numbers` begins. Both may be empty."""

    late: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    window_s: float = 0.0


class HearingQueue:
    """See the module's text. Numbers are given in the order of arrival and never used twice."""

    def __init__(self, *, most: int, stretch: float = 1.0) -> None:
        """`most` requests make a batch."""
        if most < 1 or stretch < 1:
            raise ValueError("a batch has at least 1 request, and windows do not shrink in it")
        self._most = most
        self._stretch = stretch
        self._waiting: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def push(
        self,
        number: int,
        *,
        now: float,
        window_s: float,
        kind: Hashable = None,
        deadline_s: float | None = None,
    ) -> None:
        """Wait. `deadline_s` counts from now; what is not taken by then is late."""
        due = None if deadline_s is None else now + deadline_s
        self._waiting[number] = Waiting(number, kind, window_s, now, due)

    def drop(self, number: int) -> bool:
        """Wait no longer. False: it did not wait."""
        return self._waiting.pop(number, None) is not None

    def take(self, now: float) -> Batch:
        """The requests to work on next; they and the late ones wait no longer."""
        late = tuple(w.number for w in self._waiting.values() if w.due is not None and w.due <= now)
        for number in late:
            del self._waiting[number]
        chosen = self._chosen()
        for waiting in chosen:
            del self._waiting[waiting.number]
        window_s = max((waiting.window_s for waiting in chosen), default=0.0)
        return Batch(late, tuple(waiting.number for waiting in chosen), window_s)

    def _chosen(self) -> list[Waiting]:
        chosen: list[Waiting] = []
        for waiting in sorted(self._waiting.values(), key=lambda w: w.order):
            if len(chosen) == self._most:
                break
            if not chosen or (waiting.kind == chosen[0].kind and self._pays([*chosen, waiting])):
                chosen.append(waiting)
        return chosen

    def _pays(self, together: list[Waiting]) -> bool:
        apart_s = sum(waiting.window_s for waiting in together)
        longest_s = max(waiting.window_s for waiting in together)
        return longest_s * len(together) <= self._stretch * apart_s
