"""Many calls' utterances through one model, a step at a time.

Synchronous, on one thread: `open`, `prepare`, `speak` and the rest are called between two steps; `work` makes
the next step. Nothing that a slot's cache holds already is evaluated again, and no error of one call ends the
engine.
"""

import heapq
import logging
import math
import time
from collections.abc import Callable

from models.base import ModelBusy, ModelFailed
from models.csm.encoding import EncodeJob, OnCodes
from models.csm.measures import EngineStats, Recent, TickTimes
from models.csm.scheduler import Prefill, Scheduler, Step, Tick
from models.csm.shapes import RATE_HZ, ROW_COLUMNS
from models.csm.slot import Slot, tell_end
from models.csm.stepping import Rows, Samples, Stepper
from models.csm.utterance import Utterance
from models.csm.work import Work

_log = logging.getLogger(__name__)


class Engine:
    """Owns `stepper`. `lead_s`: how far an utterance runs ahead of its listener (inf: as fast as it can).
    `admission_s`: refuse a call once one more speaking slot would make ticks longer than this
    (`measures.ADMISSION_S` suits a GPU); None: never, for devices that are slower than real time anyway."""

    def __init__(
        self,
        stepper: Stepper,
        *,
        lead_s: float = 0.24,
        chunk_rows: int = 96,
        chunk_codec_frames: int = 8,
        admission_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.n_slots = stepper.slots
        self.rows = stepper.rows
        """Of one slot's cache; an utterance's rows and its CodecFrames share them."""
        self._chunk_codec_frames = chunk_codec_frames
        self._admission_s = admission_s
        self._clock = clock
        self._scheduler = Scheduler(lead_s=lead_s)
        self._work = Work(stepper, self._scheduler, chunk_rows, clock)
        self._free = list(range(stepper.slots))
        self._jobs_named = 0
        self._closed = False
        self._tick_times, self._chunk_times, self._own = TickTimes(), Recent(64), Recent()

    # -- What calls ask --------------------------------------------------------------------------------------

    def open(self) -> int:
        """Reserve a slot; it begins with the shared prompt when there is one. The lowest free one, so that
        batches stay small. Raises `ModelBusy`, and `ModelFailed` after `close_all` or when the device fails
        at everything: its calls would only hear an apology."""
        if self._closed:
            raise ModelFailed("the voice has been shut down")
        if not self._free:
            raise ModelBusy(f"all {self.n_slots} slots of the voice are in use")
        self._admit()
        s = self._work.slots[self._free[0]]
        self._check_device(s)
        heapq.heappop(self._free)
        s.open = True
        self._work.restore_prompt(s)
        return s.number

    def _check_device(self, free: Slot) -> None:
        if self._work.failing:
            try:
                self._work.probe(free)
            except Exception as error:
                raise ModelFailed(f"the voice's device fails at everything: {error}") from error

    def _admit(self) -> None:
        if self._admission_s is None:
            return
        n_slots, predicted = self._tick_times.with_one_more(self._clock(), self.n_slots)
        if predicted > self._admission_s:
            raise ModelBusy(
                f"the voice is at its limit: with {n_slots} slots speaking at once a tick would take "
                f"{predicted * 1000:.0f} ms, more than the {self._admission_s * 1000:.0f} ms allowed"
            )

    def close(self, slot: int) -> None:
        """Give the slot back: its utterance ends as "closed", its encoding stops, its cache is wiped. After
        `close_all` nothing is left to do."""
        if self._closed and not self._work.slots[slot].open:
            return
        s = self._opened(slot)
        s.open = False
        self._work.stop(s, "closed")
        for job in [job for job in self._work.jobs.values() if job.slot == slot]:
            self._work.end_job(job, None)
        self._work.clear(s)
        heapq.heappush(self._free, slot)

    def close_all(self) -> None:
        """End everything; `open` fails from now on."""
        self._closed = True
        for s in self._work.slots:
            if s.open:
                self.close(s.number)

    def prepare(self, slot: int, rows: Rows) -> None:
        """Evaluate `rows` (n, 33) in the background, from the first one that the cache does not hold;
        replaces what was prepared for before. While the slot speaks: afterwards. Raises `ModelFailed` when
        they are too many."""
        s = self._opened(slot)
        self._check(rows)
        if s.speaking is not None:
            s.wish = rows
        else:
            self._work.aim(s, rows)

    def speak(self, slot: int, utterance: Utterance) -> None:
        """Begin an utterance; whatever the slot was doing is cancelled. `on_end` hears of every failure: rows
        that leave no room for sound are "failed", a slot that is not open is "closed"."""
        s = self._work.slots[slot]
        if not s.open:
            tell_end(utterance, "closed")
            return
        try:
            self._check(utterance.rows)
            _check_utterance(utterance)
        except ModelFailed as error:
            _log.warning("slot %d cannot speak: %s", slot, error)
            self._work.stop(s, "cancelled")
            tell_end(utterance, "failed")
        else:
            self._work.speak(s, utterance)

    def cancel(self, slot: int) -> None:
        """End the slot's utterance now, as "cancelled"; no `on_frame` follows. What was evaluated stays in
        the cache, and what was asked for by `prepare` meanwhile is begun."""
        s = self._opened(slot)
        if s.speaking is not None:
            wish = s.wish
            self._work.stop(s, "cancelled")
            if wish is not None:
                self._work.aim(s, wish)

    def encode(self, slot: int, audio: Samples, on_codes: OnCodes, *, rate_hz: int = RATE_HZ) -> EncodeJob:
        """Turn (n,) float32 at `rate_hz` into codes between ticks. `on_codes` is called once: with (k, 32),
        or with None when it failed or was cancelled, as `close` does."""
        self._opened(slot)
        self._jobs_named += 1
        job = EncodeJob(self._jobs_named, slot, audio, rate_hz, on_codes, self._chunk_codec_frames)
        self._work.jobs[job.number] = job
        self._scheduler.encode(job.number)
        return job

    def cancel_encode(self, job: EncodeJob) -> None:
        """Safe to call twice."""
        if job.number in self._work.jobs:
            self._work.end_job(job, None)

    def set_prompt(self, rows: Rows) -> None:
        """The beginning that all calls share: evaluated once, in a free slot when there is one, else by the
        first call that has it; then copied into each slot that opens. Raises `ModelFailed` when it is too
        long."""
        self._check(rows)
        if len(rows):
            self._work.set_prompt(rows, self._work.slots[self._free[0]] if self._free else None)

    def fail_all(self, error: Exception) -> None:
        """End every utterance as "failed" and all encoding, and trust no slot's cache."""
        for job in list(self._work.jobs.values()):
            self._work.end_job(job, None)
        for s in self._work.slots:
            self._work.lose(s, error)

    def holds(self, slot: int) -> Rows:
        """The rows in the slot's cache; a copy."""
        return self._work.slots[slot].book.rows.copy()

    def _opened(self, slot: int) -> Slot:
        s = self._work.slots[slot]
        if not s.open:
            raise ValueError(f"slot {slot} is not open")
        return s

    def _check(self, rows: Rows) -> None:
        if rows.ndim != 2 or rows.shape[1] != ROW_COLUMNS:
            raise ModelFailed(f"rows of shape {rows.shape}: (n, {ROW_COLUMNS}) expected")
        if len(rows) > self.rows - 2:
            raise ModelFailed(f"{len(rows)} rows leave no room for sound in the voice's {self.rows}")

    # -- Steps -----------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When to call `work` next; -inf: at once. None: not before the next request."""
        return self._scheduler.next_deadline()

    def plan(self, now: float) -> Step | None:
        """What `work` would do at `now`."""
        tick_s, chunk_s = self._tick_times.all.percentile(95), self._chunk_times.percentile(95)
        return self._scheduler.plan(now, tick_s=tick_s, chunk_s=chunk_s)

    def work(self, now: float, *, took_s: float | None = None) -> bool:
        """Make the step that is due at `now`, if any: a tick, or a chunk of prefill or of encoding. `took_s`
        stands for the measured time where time is virtual."""
        began, before = time.perf_counter(), self._work.stepper_s
        step = self.plan(now)
        if step is None:
            return False
        self._scheduler.began(step)
        self._work.do(step)
        spent = self._work.stepper_s - before
        if isinstance(step, Tick):
            self._tick_times.add(now, len(step.slots), spent if took_s is None else took_s)
            self._own.add(time.perf_counter() - began - spent)
        elif isinstance(step, Prefill):
            self._chunk_times.add(spent if took_s is None else took_s)
        return True

    @property
    def stats(self) -> EngineStats:
        times, counts = self._tick_times.all, self._work.counts
        return EngineStats(
            ticks=counts.ticks,
            codec_frames=counts.codec_frames,
            prefilled_rows=counts.prefilled_rows,
            restored_rows=counts.restored_rows,
            underruns=counts.underruns,
            failures=counts.failures,
            open_slots=self.n_slots - len(self._free),
            speaking_slots=sum(s.speaking is not None for s in self._work.slots),
            tick_ms_p50=times.percentile(50) * 1000,
            tick_ms_p95=times.percentile(95) * 1000,
            tick_ms_p99=times.percentile(99) * 1000,
            own_ms=self._own.mean() * 1000,
            own_ms_p99=self._own.percentile(99) * 1000,
        )


def _check_utterance(utterance: Utterance) -> None:
    """What would only be noticed in a batch would fail the others too."""
    if len(utterance.rows) == 0 or utterance.most_codec_frames < 1:
        raise ModelFailed("an utterance needs at least one row and one CodecFrame")
    if not 0 <= utterance.seed < 1 << 63:
        raise ModelFailed(f"seed {utterance.seed}: 63 bits expected")
    if not 0 <= utterance.temperature < math.inf:
        raise ModelFailed(f"temperature {utterance.temperature}: 0 or more expected")
