"""A call's side of the engine, for tests: speaks and writes down what it hears."""

from dataclasses import dataclass, field

import numpy as np

from models.csm.engine import Engine
from models.csm.stepping import Rows, Samples, Stepper
from models.csm.utterance import EndReason, SpokenFrame, Utterance, Verdict

TICK_S = 0.02


@dataclass
class Heard:
    frames: list[SpokenFrame] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    ends: list[EndReason] = field(default_factory=list)

    @property
    def codes(self) -> list[tuple[int, ...]]:
        return [tuple(map(int, frame.codes)) for frame in self.frames]


def all_zero(index: int, codes: np.ndarray, pcm: Samples) -> Verdict | None:
    return Verdict("end") if not codes.any() else None


class Bench:
    """An engine in time that only this object moves. Each step takes `TICK_S`."""

    def __init__(self, stepper: Stepper, **options: object) -> None:
        self.now = 100.0
        self.engine = Engine(stepper, clock=lambda: self.now, **options)  # type: ignore[arg-type]

    def say(self, slot: int, rows: Rows, most: int = 8, seed: int = 1, **options: object) -> Heard:
        heard = Heard()

        def on_frame(frame: SpokenFrame) -> None:
            assert not heard.ends
            heard.frames.append(frame)
            heard.at.append(self.now)

        options = {"judge": all_zero, "temperature": 1.0} | options
        utterance = Utterance(
            rows=rows,
            seed=seed,
            most_codec_frames=most,
            on_frame=on_frame,
            on_end=heard.ends.append,
            **options,  # type: ignore[arg-type]
        )
        self.engine.speak(slot, utterance)
        return heard

    def step(self) -> bool:
        """One step, or wait for the next; False: nothing will happen."""
        if self.engine.plan(self.now) is not None:
            self.now += TICK_S
            assert self.engine.work(self.now, took_s=TICK_S)
            return True
        deadline = self.engine.next_deadline()
        if deadline is None:
            return False
        assert deadline > self.now, "the engine wants work and plans none"
        self.now = deadline
        return True

    def run(self, most_steps: int = 1000) -> int:
        """Until nothing is left to do; returns the number of steps."""
        for n in range(most_steps):
            if not self.step():
                return n
        raise AssertionError("the engine does not come to rest")
