"""What the engine itself costs a tick: everything but the kernels, at 32 slots, on one core.

The stepper packs its inputs and unpacks its outputs as the real one does and computes nothing between; the
utterances are judged by the real rules, joined and left all the time, and never end by themselves.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from bench.csm_ours import text_rows
from models.csm.ending import EndLimits, EndRules
from models.csm.engine import Engine
from models.csm.program import OUTPUTS, Layout, unpack
from models.csm.shapes import CODEC_FRAME_SAMPLES, CONTEXT_ROWS, MIMI_BINS
from models.csm.stepping import Encoder, Rows, TickResult, TickRow
from models.csm.utterance import Utterance

SLOTS = 32
_TEXT = "You can come in at any time between eight and six, from Monday to Friday, without a booking."


class IdleStepper:
    def __init__(self, slots: int) -> None:
        self.slots, self.rows = slots, CONTEXT_ROWS
        self.ticks = 0
        self._layout = Layout.of(slots, direct=True)
        made = np.random.default_rng(1)
        sound = made.normal(0, 0.1, (slots, CODEC_FRAME_SAMPLES)).astype(np.float32).view(np.int32)
        rest = made.integers(1, MIMI_BINS, (slots, OUTPUTS - CODEC_FRAME_SAMPLES), dtype=np.int32)
        self._outputs = np.concatenate([sound, rest], 1)

    def tick(self, batch: Sequence[TickRow]) -> TickResult:
        _, places = self._layout.inputs(batch)
        self.ticks += 1
        # Codes differ from tick to tick: a model that is stuck would be stopped.
        self._outputs[:, CODEC_FRAME_SAMPLES] = self.ticks % MIMI_BINS or 1
        return unpack(self._outputs, places)

    def prefill(self, slot: int, rows: Rows, start: int) -> None: ...

    def restart_voice(self, slot: int) -> None: ...

    def forget(self, slot: int, kept: int = 0) -> None: ...

    def save(self, slot: int, n_rows: int) -> int:
        return n_rows

    def restore(self, saved: int, slot: int) -> None: ...

    def open_encoder(self) -> Encoder:
        raise NotImplementedError


def tick_own_ms(*, ticks: int = 2000) -> float:
    """CPU time of everything that `Engine.work` does, prefills' bookkeeping included, divided by the ticks;
    ms. Blocks for a few seconds."""
    stepper = IdleStepper(SLOTS)
    engine = Engine(stepper, lead_s=math.inf)
    silent = [engine.open() for _ in range(SLOTS)]
    _work_until(engine, stepper, 100, silent)
    done = stepper.ticks
    cpu = time.process_time()
    _work_until(engine, stepper, done + ticks, silent)
    return (time.process_time() - cpu) / (stepper.ticks - done) * 1e3


def _work_until(engine: Engine, stepper: IdleStepper, ticks: int, silent: list[int]) -> None:
    """`silent`: slots whose utterance has ended; they begin another."""
    while stepper.ticks < ticks:
        while silent:
            _speak(engine, silent.pop(), silent)
        engine.work(time.monotonic())


def _speak(engine: Engine, slot: int, silent: list[int]) -> None:
    limits = EndLimits()
    engine.speak(
        slot,
        Utterance(
            rows=text_rows(300),
            seed=slot,
            judge=EndRules(_TEXT, limits).judge,
            most_codec_frames=limits.most_codec_frames(_TEXT),
            on_frame=lambda spoken: None,
            on_end=lambda reason: silent.append(slot),
        ),
    )
