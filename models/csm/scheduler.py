"""What the engine does next. Pure: no tensors, no clock, no threads; time is an argument (monotonic seconds).

A slot speaks ahead of its listener by a lead. Had every CodecFrame been played as soon as it could be, the
last one ends at `playout_end`; the slot rests while that is more than `lead_s` away. When one slot is due,
those that would be due within one CodecFrame join it: their phases fall together, and one tick per 80 ms
serves all.

Order of work:
1. a tick, where a due slot would run dry during one chunk and one tick;
2. a chunk of a prefill that an utterance waits for (in turn with ticks of kind 1, so that neither starves);
3. a tick, where any slot is due;
4. background chunks: caller audio into codes, then prepared context. After `PATIENCE` ticks in a row one of
   these runs though slots are due.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from models.csm.shapes import CODEC_FRAME_S

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes that a tick is padded to."""
SLACK_S = 0.0005
"""A timer that fires at `next_deadline()` must find something due, whatever the clock's rounding."""
PATIENCE = 8


def bucket(n_slots: int) -> int:
    """The smallest batch that holds `n_slots`. Raises `ValueError` above the largest."""
    for size in BUCKETS:
        if n_slots <= size:
            return size
    raise ValueError(f"{n_slots} slots: at most {BUCKETS[-1]} fit into one batch")


def chunk(rows_left: int, most: int) -> int:
    """Rows of the next chunk: as few chunks as `most` allows, of even size."""
    n_chunks = -(-rows_left // most)
    return -(-rows_left // n_chunks)


@dataclass(frozen=True, slots=True)
class Tick:
    slots: tuple[int, ...]
    """Earliest deadline first."""


@dataclass(frozen=True, slots=True)
class Prefill:
    slot: int


@dataclass(frozen=True, slots=True)
class Encode:
    job: int


Step = Tick | Prefill | Encode


class Scheduler:
    """Slots and jobs are the caller's numbers. Tell it of every change; ask `plan`."""

    def __init__(self, *, lead_s: float, most_slots: int = BUCKETS[-1]) -> None:
        self._lead_s = lead_s
        self._most_slots = most_slots
        self._speaking: dict[int, float] = {}
        """Slot -> playout_end; for a slot that no sound has left yet, when it could have."""
        self._started: set[int] = set()
        self._urgent: dict[int, None] = {}
        self._background: dict[int, None] = {}
        self._jobs: dict[int, None] = {}
        self._ticks_in_a_row = 0

    # What changed

    def prefill(self, slot: int, *, urgent: bool) -> None:
        """The slot has rows to evaluate. Behind the others of its class."""
        self.rest(slot)
        (self._urgent if urgent else self._background)[slot] = None

    def speak(self, slot: int, now: float) -> None:
        """The slot's prefill is complete: it is due."""
        self.rest(slot)
        self._speaking[slot] = now

    def rest(self, slot: int) -> None:
        """The slot has nothing to do."""
        self._urgent.pop(slot, None)
        self._background.pop(slot, None)
        self._speaking.pop(slot, None)
        self._started.discard(slot)

    def encode(self, job: int) -> None:
        """Jobs run one after the other: a stepper has one encoder."""
        self._jobs[job] = None

    def encoded(self, job: int) -> None:
        """Complete, or given up."""
        self._jobs.pop(job, None)

    def delivered(self, slot: int, now: float) -> bool:
        """A CodecFrame of the slot left at `now`. True: after the end of the one before (an underrun)."""
        late = slot in self._started and now > self._speaking[slot] + SLACK_S
        begins = now if late or slot not in self._started else self._speaking[slot]
        self._started.add(slot)
        self._speaking[slot] = begins + CODEC_FRAME_S
        return late

    # What to do

    @property
    def speaking(self) -> Iterable[int]:
        return self._speaking.keys()

    def lead(self, slot: int, now: float) -> float:
        """Seconds of sound that a speaking slot is ahead; at most 0 before its first CodecFrame."""
        return self._speaking[slot] - now

    def plan(self, now: float, *, tick_s: float = 0.0, chunk_s: float = 0.0) -> Step | None:
        """The next step, given how long a tick and a chunk take lately; None: nothing is due. Say `began`
        when it is made."""
        due = self._due(now)
        if self._urgent:
            dry = bool(due) and self.lead(due[0], now) < tick_s + chunk_s
            if not dry or self._ticks_in_a_row:
                return Prefill(next(iter(self._urgent)))
        if due and not (self._ticks_in_a_row >= PATIENCE and (self._jobs or self._background)):
            return Tick(due)
        return self._in_background()

    def began(self, step: Step) -> None:
        """Turns pass between ticks and the rest."""
        self._ticks_in_a_row = self._ticks_in_a_row + 1 if isinstance(step, Tick) else 0

    def _due(self, now: float) -> tuple[int, ...]:
        """Due slots and those that join them, earliest deadline first; none where no slot is due."""
        order = sorted(self._speaking, key=lambda slot: (self._speaking[slot], slot))
        if not order or self.lead(order[0], now) > self._lead_s + SLACK_S:
            return ()
        joining = [slot for slot in order if self.lead(slot, now) <= self._lead_s + CODEC_FRAME_S + SLACK_S]
        return tuple(joining[: self._most_slots])

    def _in_background(self) -> Step | None:
        if self._jobs:
            return Encode(next(iter(self._jobs)))
        if self._background:
            return Prefill(next(iter(self._background)))
        return None

    def next_deadline(self) -> float | None:
        """When `plan` has something next; -inf: now. None: not before something changes."""
        if self._urgent or self._background or self._jobs:
            return float("-inf")
        return min(self._speaking.values()) - self._lead_s if self._speaking else None
