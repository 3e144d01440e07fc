"""What is queued, sent and heard of the agent's voice. No clock of its own, no I/O.

Audio is sent ahead of the caller's ear by a bounded lead: a whole reply sent at once makes `clear`
late and what was heard unknown; sending exactly on time starves when the process pauses. All calls of a
process may send on the same beat, each a packet of what would fall due before the next: one after another
they find the code still in the processor's caches: with seventy calls on a core, a tenth of the event loop's
work. A uniquely named mark follows every `MARK_EVERY_SAMPLES`; when it comes back, everything before it was
played (Twilio, Media Streams: mark messages). Marks that our own `clear` sends back prove nothing.

What was sent lies in the line's buffer at the level it was sent with. To turn the voice down (`duck`) or up
again (`restore`) the line is cleared, and what was not played yet is sent anew at the other level, from the
very sample at which the clear takes effect: `clear` and audio take the same way, so by our clock of sending
that sample is the one which is due now.

One `Playout` serves one call. Between two replies it starts a new passage: positions count samples
from the passage's first one.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm

LEAD_S = 0.200
"""For a line that says nothing else (`Line.lead_s`)."""
BEAT_S = 0.020
"""Between two beats, which are multiples of it on the clock that `due` is told. One frame's length."""
DUCK_DB = -15.0
"""Quieter while it is decided whether the caller wants the floor: plainly yielding, and still understood."""
RAMP_SAMPLES = LINE_RATE_HZ * 5 // 1000
"""A change of level glides over so many samples, without a click."""
MARK_EVERY_SAMPLES = LINE_RATE_HZ * 160 // 1000
TIMER_SLACK_S = 0.0005
"""A timer that fires at `next_deadline()` must find something due, whatever the clock's rounding."""
HALF_SAMPLE_S = 0.5 / LINE_RATE_HZ
"""Nothing that is later by less leaves a gap."""
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

    def __init__(self, *, lead_s: float = LEAD_S, phase_s: float = 0.0) -> None:
        """`phase_s`: so much later than the others' beats are this call's."""
        self._lead_s = lead_s
        self._phase_s = phase_s
        self._passage = 0
        self._marks_named = 0
        self._start_passage()

    def _start_passage(self) -> None:
        self._passage += 1
        self._audio = bytearray()
        """The whole passage, int16: what the line has not played must be at hand to be sent anew."""
        self._appended = 0
        self._sent = 0
        self._gain = self._sent_gain = 1.0
        self._clauses: list[_Clause] = []
        self._clauses_heard = 0
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
        self._audio += pcm.astype(np.int16, copy=False).tobytes()
        self._appended += pcm.size
        if self._clauses:
            self._clauses[-1].samples += pcm.size

    def finish(self) -> None:
        """Nothing more is appended to this passage; `drained` may become true."""
        self._finished = True
        if self._clauses:
            self._clauses[-1].complete = True

    @property
    def _waiting(self) -> bool:
        """Something was appended that is not sent."""
        return self._sent < self._appended

    # What the shell must do

    def next_deadline(self) -> float | None:
        """When to call `due` next; None while there is nothing to wait for."""
        if self._waiting:
            if self._edge_end_s is None:
                return 0.0
            return self._beat(self._edge_end_s - self._lead_s) * BEAT_S + self._phase_s
        if self._edge_end_s is None or self._acknowledged_samples() >= self._sent:
            return None
        return self._edge_end_s + MARK_PATIENCE_S

    def due(self, now: float) -> list[SendAudio | SendMark]:
        """Audio and marks to send at `now`, in order."""
        actions: list[SendAudio | SendMark] = []
        beat = self._beat(now + TIMER_SLACK_S)
        while self._sent < self._appended:
            if self._edge_end_s is None or self._edge_end_s < now - HALF_SAMPLE_S:
                self._edge_end_s = now
            if self._beat(self._edge_end_s - self._lead_s) > beat:
                break
            pcm = self._take(AUDIO_FRAME_SAMPLES)
            if self.started_s is None:
                self.started_s = now
            self._unreported.append(Played(self._edge_end_s, pcm))
            self._edge_end_s += pcm.size / LINE_RATE_HZ
            self._sent += pcm.size
            actions.append(SendAudio(pcm))
            # A mark also follows the last sample queued, so that the end of a clause is known.
            if self._sent - self._last_mark_at >= MARK_EVERY_SAMPLES or not self._waiting:
                actions.append(self._mark())
        patience_ends = None if self._edge_end_s is None else self._edge_end_s + MARK_PATIENCE_S
        if not self._waiting and patience_ends is not None and now >= patience_ends - TIMER_SLACK_S:
            self._acknowledged = (self._sent, now)
        return actions

    def _beat(self, moment: float) -> int:
        """The last one that is no later. What differs by no more than rounding falls on the same."""
        return math.floor((moment - self._phase_s) / BEAT_S + 1e-6)

    def _mark(self) -> SendMark:
        self._marks_named += 1
        name = f"p{self._passage}-{self._marks_named}"
        self._marks[name] = self._sent
        self._last_mark_at = self._sent
        return SendMark(name)

    def _take(self, samples: int) -> Pcm:
        """The next samples to send, at the level in force."""
        end = min(self._sent + samples, self._appended)
        pcm = np.frombuffer(self._audio, np.int16, end - self._sent, 2 * self._sent).copy()
        if self._gain == self._sent_gain == 1.0:
            return pcm
        gain = np.full(pcm.size, self._gain)
        ramp = min(RAMP_SAMPLES, pcm.size)
        gain[:ramp] = np.linspace(self._sent_gain, self._gain, ramp)
        self._sent_gain = self._gain
        quieter: Pcm = np.round(pcm * gain).astype(np.int16)
        return quieter

    # Turning it down

    @property
    def ducked(self) -> bool:
        return self._gain != 1.0

    def duck(self, now: float) -> bool:
        """Go on `DUCK_DB` quieter, in the same word. True: clear the line, then obey `due(now)`."""
        return self._turn_to(10 ** (DUCK_DB / 20), now)

    def restore(self, now: float) -> bool:
        """Go on at full level. True: clear the line, then obey `due(now)`."""
        return self._turn_to(1.0, now)

    def _turn_to(self, gain: float, now: float) -> bool:
        if gain == self._gain:
            return False
        self._gain = gain
        ahead = self._ahead_samples(now)
        if not ahead:
            return False
        assert self._edge_end_s is not None  # noqa: S101  something was sent
        self._sent -= ahead
        # Not `now`: the end of what is played stays on the grid of samples.
        self._edge_end_s -= ahead / LINE_RATE_HZ
        self._last_mark_at = min(self._last_mark_at, self._sent)
        self._marks = {name: at for name, at in self._marks.items() if at <= self._sent}
        self._cut_unreported(now)
        return True

    def _ahead_samples(self, now: float) -> int:
        """Samples that were sent and are not played yet."""
        if self._edge_end_s is None:
            return 0
        return max(0, round((self._edge_end_s - now) * LINE_RATE_HZ))

    def _cut_unreported(self, now: float) -> None:
        """What was to be played after `now` will not be."""
        while self._unreported and self._unreported[-1].at_s >= now:
            self._unreported.pop()
        if self._unreported:
            last = self._unreported[-1]
            kept = round((now - last.at_s) * LINE_RATE_HZ)
            if kept < last.pcm.size:
                self._unreported[-1] = Played(last.at_s, last.pcm[:kept])

    # What was heard

    def mark_reached(self, name: str, now: float) -> None:
        """The line played everything before `name`. Marks of earlier passages are ignored."""
        position = self._marks.pop(name, None)
        if position is not None and position >= self._acknowledged_samples():
            self._acknowledged = (position, now)

    def _acknowledged_samples(self) -> int:
        return 0 if self._acknowledged is None else self._acknowledged[0]

    def ran_dry(self, now: float) -> bool:
        """All that was appended has sounded, and nothing waits to be sent: whoever makes it is late."""
        return not self._waiting and self._edge_end_s is not None and self._edge_end_s < now - HALF_SAMPLE_S

    @property
    def active(self) -> bool:
        """Whether anything of this passage was queued."""
        return self._appended > 0

    @property
    def dry_since(self) -> float | None:
        """When an unfinished passage had, or will have, sounded as far as it was appended: the caller hears
        silence from then on. None: not begun, complete, or with audio that was not sent yet."""
        return None if self._finished or self._waiting else self._edge_end_s

    @property
    def drained(self) -> bool:
        """Everything of a finished passage was heard."""
        return self._finished and not self._waiting and self._acknowledged_samples() >= self._sent

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
        return max(0, min(self._sent - self._ahead_samples(now), position + int((now - at) * LINE_RATE_HZ)))

    def all_heard(self, now: float) -> bool:
        """A finished passage has sounded to its end, even if its last mark is still on its way."""
        return self._finished and not self._waiting and self.heard_samples(now) >= self._sent

    def heard(self, now: float) -> list[HeardClause]:
        """Every clause begun in this passage, with how much of it was heard by `now`."""
        heard = self.heard_samples(now)
        return [
            HeardClause(c.text, c.samples, min(c.samples, max(0, heard - c.start)), c.complete)
            for c in self._clauses
        ]

    def clauses_heard(self, now: float) -> int:
        """How many clauses of this passage, from its first, were heard to their end by `now`."""
        while self._clauses_heard < len(self._clauses):
            clause = self._clauses[self._clauses_heard]
            end = clause.start + clause.samples
            if not clause.complete or self._sent < end or self.heard_samples(now) < end:
                break
            self._clauses_heard += 1
        return self._clauses_heard

    def played(self, now: float) -> list[Played]:
        """Samples not reported before that have left the line's buffer by `now`, for the recording."""
        done: list[Played] = []
        while self._unreported:
            head = self._unreported[0]
            if head.at_s + head.pcm.size / LINE_RATE_HZ > now:
                break
            done.append(self._unreported.popleft())
        return _joined(done)

    def clear(self, now: float) -> list[Played]:
        """Forget what is queued and unheard, and start a new passage. Ask `heard` before. Returns the
        last samples that were played, the one cut in the middle included.

        Nothing is faded: the line drops its buffer at a sample that only it knows (Twilio's `clear`), so a
        fade sent after it would not continue what was cut."""
        self._cut_unreported(now)
        return self.next_passage(now)

    def next_passage(self, now: float) -> list[Played]:
        """Start anew after a drained passage. Returns the samples still unreported."""
        done = _joined(self._unreported)
        self._start_passage()
        return done


def _joined(pieces: Iterable[Played]) -> list[Played]:
    """Those that follow each other without a pause as one."""
    runs: list[list[Played]] = []
    end_s = -1.0
    for piece in pieces:
        if runs and abs(piece.at_s - end_s) < HALF_SAMPLE_S:
            runs[-1].append(piece)
        else:
            runs.append([piece])
        end_s = piece.at_s + piece.pcm.size / LINE_RATE_HZ
    return [
        run[0] if len(run) == 1 else Played(run[0].at_s, np.concatenate([piece.pcm for piece in run]))
        for run in runs
    ]
