"""The engine's steps and its books: what each slot's cache holds, what is evaluated next, who is told.

An error of the stepper ends the utterances that it concerns and wipes their slots, which are filled again
when they next speak.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from models.base import ModelFailed
from models.csm.book import Book
from models.csm.encoding import EncodeJob
from models.csm.measures import Counts
from models.csm.rows import END_ROW
from models.csm.scheduler import Prefill, Scheduler, Step, Tick, chunk
from models.csm.slot import Slot, Speaking, tell_end, tick_row
from models.csm.stepping import Codes, Rows, Samples, Stepper
from models.csm.utterance import EndReason, SpokenFrame, Utterance, Verdict

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Work:
    """Owns the stepper. One thread."""

    def __init__(
        self, stepper: Stepper, scheduler: Scheduler, chunk_rows: int, clock: Callable[[], float]
    ) -> None:
        self.slots = [Slot(n, Book(stepper.rows)) for n in range(stepper.slots)]
        self.jobs: dict[int, EncodeJob] = {}
        self.counts = Counts()
        self.stepper_s = 0.0
        """Spent inside the stepper, ever."""
        self.failing = False
        """The stepper raised when it was asked last."""
        self._stepper = stepper
        self._scheduler = scheduler
        self._chunk_rows = chunk_rows
        self._clock = clock
        self._prompt: Rows | None = None
        self._saved: object | None = None

    def do(self, step: Step) -> None:
        if isinstance(step, Tick):
            self._tick(step.slots)
        elif isinstance(step, Prefill):
            self._prefill(self.slots[step.slot])
        else:
            self._encode(self.jobs[step.job])

    # -- Ticks -----------------------------------------------------------------------------------------------

    def _tick(self, numbers: Sequence[int]) -> None:
        slots = [self.slots[number] for number in numbers]
        batch = [tick_row(s) for s in slots]
        try:
            result = self._ask(lambda: self._stepper.tick(batch))
        except Exception as error:
            for s in slots:
                self.lose(s, error)
            return
        self.counts.ticks += 1
        now = self._clock()
        for i, s in enumerate(slots):
            if result.finite[i]:
                self._sampled(s, result.codes[i], result.pcm[i], now)
            else:
                self.lose(s, ModelFailed("the logits are not finite"))

    def _sampled(self, s: Slot, codes: Codes, pcm: Samples, now: float) -> None:
        speaking = s.speaking
        if speaking is None:
            raise AssertionError(f"slot {s.number} was ticked and does not speak")
        s.book.append_codes(codes)
        index, speaking.index = speaking.index, speaking.index + 1
        try:
            verdict = self._verdict(s, speaking, codes, pcm)
            if verdict is None or verdict.spoken:
                self.counts.underruns += self._scheduler.delivered(s.number, now)
                self.counts.codec_frames += 1
                last = verdict is not None
                speaking.utterance.on_frame(SpokenFrame(index, codes, pcm, last))
        except Exception as error:
            self.lose(s, error)
            return
        if verdict is not None:
            self._finish(s, verdict)

    @staticmethod
    def _verdict(s: Slot, speaking: Speaking, codes: Codes, pcm: Samples) -> Verdict | None:
        verdict = speaking.utterance.judge(speaking.index - 1, codes, pcm)
        full = speaking.index >= speaking.utterance.most_codec_frames or s.book.room <= 1
        return Verdict("cap", spoken=True) if verdict is None and full else verdict

    def _finish(self, s: Slot, verdict: Verdict) -> None:
        """What follows in the cache is an END row, unless the model has just written it."""
        wish = s.wish
        complete = not verdict.spoken and np.array_equal(s.book.rows[-1:], END_ROW)
        if not verdict.spoken and not complete:
            s.book.cut(s.book.length - 1)
        self.stop(s, verdict.reason)
        if wish is not None:
            self.aim(s, wish)
        elif not complete:
            self.aim(s, np.concatenate([s.book.rows, END_ROW]))

    # -- Prefill and encoding --------------------------------------------------------------------------------

    def _prefill(self, s: Slot) -> None:
        rows = s.target
        if rows is None:
            raise AssertionError(f"slot {s.number} has no rows to evaluate")
        piece = rows[s.kept : s.kept + chunk(len(rows) - s.kept, self._chunk_rows)]
        try:
            self._ask(lambda: self._stepper.prefill(s.number, piece, s.kept))
        except Exception as error:
            self.lose(s, error)
            return
        s.book.cut(s.kept)
        s.book.append(piece)
        s.kept += len(piece)
        self.counts.prefilled_rows += len(piece)
        if s.kept < len(rows):
            return
        s.target = None
        self.remember_prompt(s)
        if s.speaking is None:
            self._scheduler.rest(s.number)
        else:
            self._begin(s)

    def _begin(self, s: Slot) -> None:
        """Everything before the first CodecFrame is evaluated."""
        s.target = None
        try:
            self._ask(lambda: self._stepper.restart_voice(s.number))
        except Exception as error:
            self.lose(s, error)
            return
        self._scheduler.speak(s.number, self._clock())

    def _encode(self, job: EncodeJob) -> None:
        try:
            self._ask(lambda: job.step(self._stepper.open_encoder))
        except Exception as error:
            self.counts.failures += 1
            _log.warning("encoding of the caller's speech failed: %s", error)
            self.end_job(job, None)
            return
        if job.complete:
            self.end_job(job, job.codes())

    def end_job(self, job: EncodeJob, codes: Codes | None) -> None:
        del self.jobs[job.number]
        self._scheduler.encoded(job.number)
        try:
            job.on_codes(codes)
        except Exception as error:
            _log.debug("nobody waits for these codes: %s", error)

    # -- What a slot is for ----------------------------------------------------------------------------------

    def speak(self, s: Slot, utterance: Utterance) -> None:
        self.stop(s, "cancelled")
        s.speaking = Speaking(utterance)
        s.target, s.kept = utterance.rows, s.book.ready_after(utterance.rows)
        if s.kept < len(utterance.rows):
            self._scheduler.prefill(s.number, urgent=True)
        else:
            self._begin(s)

    def aim(self, s: Slot, rows: Rows) -> None:
        """Let the cache begin with `rows`, in the background."""
        s.target, s.kept = rows, s.book.common(rows)
        if s.kept < len(rows):
            self._scheduler.prefill(s.number, urgent=False)
        else:
            s.target = None
            self._scheduler.rest(s.number)
            self.remember_prompt(s)

    def stop(self, s: Slot, reason: EndReason) -> None:
        """The slot rests; its utterance, if any, ends."""
        self._scheduler.rest(s.number)
        speaking, s.speaking, s.target, s.wish = s.speaking, None, None, None
        if speaking is not None:
            tell_end(speaking.utterance, reason)

    def lose(self, s: Slot, error: Exception) -> None:
        """Trust nothing of what the slot's cache holds."""
        _log.warning("the voice failed in slot %d: %s", s.number, error)
        self.counts.failures += 1
        self._wipe(s, 0)
        self.stop(s, "failed")

    def clear(self, s: Slot) -> None:
        """Wipe everything but the shared beginning."""
        self._wipe(s, 0 if self._prompt is None else s.book.common(self._prompt))

    def _wipe(self, s: Slot, kept: int) -> None:
        s.book.cut(kept)
        try:
            self._ask(lambda: self._stepper.forget(s.number, s.book.length))
        except Exception as error:
            s.book.cut(0)
            _log.warning("slot %d could not be wiped: %s", s.number, error)

    def probe(self, s: Slot) -> None:
        """Wipe a free slot. Raises what the device raises: after some errors CUDA refuses everything."""
        self.stop(s, "closed")
        s.book.cut(0)
        self._ask(lambda: self._stepper.forget(s.number, 0))

    # -- The shared beginning --------------------------------------------------------------------------------

    def set_prompt(self, rows: Rows, free: Slot | None) -> None:
        self._prompt, self._saved = rows, None
        for s in self.slots:
            self.remember_prompt(s)
        if self._saved is None and free is not None:
            self.aim(free, rows)

    def restore_prompt(self, s: Slot) -> None:
        prompt, saved = self._prompt, self._saved
        if prompt is None or saved is None or s.book.common(prompt) == len(prompt):
            return
        self.stop(s, "closed")
        try:
            self._ask(lambda: self._stepper.restore(saved, s.number))
        except Exception as error:
            self.lose(s, error)
            return
        s.book.replace(prompt)
        self.counts.restored_rows += len(prompt)

    def remember_prompt(self, s: Slot) -> None:
        """Copy the shared beginning from the first slot that holds it."""
        prompt = self._prompt
        if prompt is None or self._saved is not None or s.book.common(prompt) < len(prompt):
            return
        try:
            self._saved = self._ask(lambda: self._stepper.save(s.number, len(prompt)))
        except Exception as error:
            _log.warning("the voice prompt could not be saved: %s", error)

    def _ask(self, ask: Callable[[], _T]) -> _T:
        began = time.perf_counter()
        self.failing = True
        try:
            answer = ask()
            self.failing = False
            return answer
        finally:
            self.stepper_s += time.perf_counter() - began
