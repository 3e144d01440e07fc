"""What is queued, sent and heard of the agent's voice. No clock of its own, no I/O.

Audio is sent ahead of the caller's ear by a bounded lead: a whole reply sent at once makes `clear`
late and what was heard unknown; sending exactly on time starves when the process pauses. A uniquely
named mark follows every `MARK_EVERY_SAMPLES`; when it comes back, everything before it was played
(Twilio, Media Streams: mark messages). Marks that our own `clear` sends back prove nothing.

One `Playout` serves one call. Between two replies it starts a new passage: positions count samples
from the passage's first one.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm

LEAD_S = 0.200
"""Survives a collection pause or a busy core; short enough that little is taken back on `clear`."""
MARK_EVERY_SAMPLES = LINE_RATE_HZ * 160 // 1000
TIMER_SLACK_S = 0.0005
"""A timer that fires at `next_deadline()` must find something due, whatever the clock's rounding."""
MARK_PATIENCE_S = 2.0
"""A line whose last mark is this late has lost it: the audio is taken as heard."""


@dataclass(frozen=True, slots=True)
class SendAudio:
    pcm: Pcm


@dataclass(frozen=True, slots=True)
class SendMark:
    name: str


@dataclass(frozen=True, slots=True)
class Played:
    """Samples that left for the caller's ear, from `at_s` on (monotonic seconds)."""

    at_s: float
    pcm: Pcm


@dataclass(slots=True)
class _Clause:
    text: str
    start: int
    samples: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class HeardClause:
    """`heard_samples` of the clause's `samples` were played. `complete` when all its audio was known."""

    text: str
    samples: int
    heard_samples: int
    complete: bool


class Playout:
    """Queue with `begin_clause` and `append`; obey `due(now)`; report marks; ask `heard(now)`."""

    def __init__(self, *, lead_s: float = LEAD_S) -> None:
        self._lead_s = lead_s
        self._passage = 0
        self._marks_named = 0
        self._start_passage()

    def _start_passage(self) -> None:
        self._passage += 1
        self._queue: deque[Pcm] = deque()
        self._appended = 0
        self._sent = 0
        self._clauses: list[_Clause] = []
        self._finished = False
        self._marks: dict[str, int] = {}
        self._last_mark_at = 0
        self._acknowledged: tuple[int, float] | None = None
        self._edge_end_s: float | None = None
        self._unreported: deque[Played] = deque()
        self.started_s: float | None = None

    # What is to be played

    def begin_clause(self, text: str) -> None:
        """The samples appended next belong to `text`."""
        if self._clauses:
            self._clauses[-1].complete = True
        self._clauses.append(_Clause(text, self._appended))

    def append(self, pcm: Pcm) -> None:
        """Queue (n,) int16 at 8 kHz."""
        if pcm.size == 0:
            return
        self._queue.append(pcm)
        self._appended += pcm.size
        if self._clauses:
            self._clauses[-1].samples += pcm.size

    def finish(self) -> None:
        """Nothing more is appended to this passage; `drained` may become true."""
        self._finished = True
        if self._clauses:
            self._clauses[-1].complete = True

    # What the shell must do

    def next_deadline(self) -> float | None:
        """When to call `due` next; None while there is nothing to wait for."""
        if self._queue:
            return 0.0 if self._edge_end_s is None else self._edge_end_s - self._lead_s
        if self._edge_end_s is None or self._acknowledged_samples() >= self._sent:
            return None
        return self._edge_end_s + MARK_PATIENCE_S

    def due(self, now: float) -> list[SendAudio | SendMark]:
        """Audio and marks to send at `now`, in order."""
        actions: list[SendAudio | SendMark] = []
        while self._queue:
            if self._edge_end_s is None or self._edge_end_s < now:
                self._edge_end_s = now
            if self._edge_end_s - now > self._lead_s + TIMER_SLACK_S:
                break
            pcm = self._take(AUDIO_FRAME_SAMPLES)
            if self.started_s is None:
                self.started_s = now
            self._unreported.append(Played(self._edge_end_s, pcm))
            self._edge_end_s += pcm.size / LINE_RATE_HZ
            self._sent += pcm.size
            actions.append(SendAudio(pcm))
            # A mark also follows the last sample queued, so that the end of a clause is known.
            if self._sent - self._last_mark_at >= MARK_EVERY_SAMPLES or not self._queue:
                actions.append(self._mark())
        patience_ends = None if self._edge_end_s is None else self._edge_end_s + MARK_PATIENCE_S
        if not self._queue and patience_ends is not None and now >= patience_ends - TIMER_SLACK_S:
            self._acknowledged = (self._sent, now)
        return actions

    def _mark(self) -> SendMark:
        self._marks_named += 1
        name = f"p{self._passage}-{self._marks_named}"
        self._marks[name] = self._sent
        self._last_mark_at = self._sent
        return SendMark(name)

    def _take(self, samples: int) -> Pcm:
        parts: list[Pcm] = []
        while samples and self._queue:
            head = self._queue[0]
            if head.size <= samples:
                parts.append(self._queue.popleft())
                samples -= head.size
            else:
                parts.append(head[:samples])
                self._queue[0] = head[samples:]
                samples = 0
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    # What was heard

    def mark_reached(self, name: str, now: float) -> None:
        """The line played everything before `name`. Marks of earlier passages are ignored."""
        position = self._marks.pop(name, None)
        if position is not None and position >= self._acknowledged_samples():
            self._acknowledged = (position, now)

    def _acknowledged_samples(self) -> int:
        return 0 if self._acknowledged is None else self._acknowledged[0]

    @property
    def active(self) -> bool:
        """Whether anything of this passage was queued."""
        return self._appended > 0

    @property
    def dry_since(self) -> float | None:
        """When an unfinished passage had, or will have, sounded as far as it was appended: the caller hears
        silence from then on. None: not begun, complete, or with audio that was not sent yet."""
        return None if self._finished or self._queue else self._edge_end_s

    @property
    def drained(self) -> bool:
        """Everything of a finished passage was heard."""
        return self._finished and not self._queue and self._acknowledged_samples() >= self._sent

    def heard_samples(self, now: float) -> int:
        """Samples of this passage that the caller heard by `now`.

        The last mark that came back, and what has played since: its echo took about as long to reach
        us as the sound takes to reach the caller's ear. Before the first echo: the time since the
        first sample left.
        """
        if self.started_s is None or self._edge_end_s is None:
            return 0
        position, at = self._acknowledged or (0, self.started_s)
        # Nothing played while the queue was dry: what still lies in the line's buffer is not heard.
        ahead = max(0, round((self._edge_end_s - now) * LINE_RATE_HZ))
        return max(0, min(self._sent - ahead, position + int((now - at) * LINE_RATE_HZ)))

    def all_heard(self, now: float) -> bool:
        """A finished passage has sounded to its end, even if its last mark is still on its way."""
        return self._finished and not self._queue and self.heard_samples(now) >= self._sent

    def heard(self, now: float) -> list[HeardClause]:
        """Every clause begun in this passage, with how much of it was heard by `now`."""
        heard = self.heard_samples(now)
        return [
            HeardClause(c.text, c.samples, min(c.samples, max(0, heard - c.start)), c.complete)
            for c in self._clauses
        ]

    def played(self, now: float) -> list[Played]:
        """Samples not reported before that have left the line's buffer by `now`, for the recording."""
        done: list[Played] = []
        while self._unreported:
            head = self._unreported[0]
            if head.at_s + head.pcm.size / LINE_RATE_HZ > now:
                break
            done.append(self._unreported.popleft())
        return done

    def clear(self, now: float) -> list[Played]:
        """Forget what is queued and unheard, and start a new passage. Ask `heard` before. Returns the
        last samples that were played, the one cut in the middle included.

        Nothing is faded: the line drops its buffer at a sample that only it knows (Twilio's `clear`), so a
        fade sent after it would not continue what was cut."""
        done = self.played(now)
        if self._unreported and self._unreported[0].at_s < now:
            head = self._unreported[0]
            done.append(Played(head.at_s, head.pcm[: int((now - head.at_s) * LINE_RATE_HZ)]))
        self._start_passage()
        return done

    def next_passage(self, now: float) -> list[Played]:
        """Start anew after a drained passage. Returns the samples still unreported."""
        done = list(self._unreported)
        self._start_passage()
        return done
