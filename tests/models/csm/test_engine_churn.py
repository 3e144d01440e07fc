"""Calls that come and go at random: no slot leaks, nobody stalls, the books stay true."""

import logging
import random

import numpy as np
import pytest

from models.base import ModelBusy
from models.csm.rows import END_ROW
from models.csm.utterance import Verdict
from tests.models.csm.engine_kit import Bench, Heard
from tests.models.csm.null_stepper import NullStepper, text_rows

SLOTS, TICKS = 8, 10_000
END = tuple(map(int, END_ROW[0]))


class Crowd:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.stepper = NullStepper(slots=SLOTS, rows=96)
        self.bench = Bench(self.stepper, chunk_rows=8)
        self.engine = self.bench.engine
        self.calls: dict[int, Heard | None] = {}
        self.all_heard: list[Heard] = []
        self.jobs_asked, self.jobs_told = 0, 0

    def act(self) -> None:
        rng = self.rng
        slot = rng.choice(list(self.calls)) if self.calls else None
        dice = rng.random()
        if dice < 0.2 or slot is None:
            self._join()
        elif dice < 0.26:
            self.engine.close(slot)
            del self.calls[slot]
        elif dice < 0.74:
            self._speak(slot)
        elif dice < 0.8:
            self.engine.cancel(slot)
        elif dice < 0.9:
            held = self.engine.holds(slot)[: rng.randrange(40)]
            self.engine.prepare(slot, np.concatenate([held, text_rows(*range(rng.randrange(20)))]))
        elif dice < 0.96:
            self.jobs_asked += 1
            audio = np.ones(rng.randrange(30_000), np.float32)
            self.engine.encode(slot, audio, lambda codes: setattr(self, "jobs_told", self.jobs_told + 1))
        else:
            self.stepper.not_finite = {slot}
            if rng.random() < 0.2:
                self.stepper.raises = RuntimeError("at random")

    def _join(self) -> None:
        try:
            slot = self.engine.open()
        except ModelBusy:
            assert len(self.calls) == SLOTS
        else:
            assert slot not in self.calls
            self.calls[slot] = None

    def _speak(self, slot: int) -> None:
        rng = self.rng
        held = self.engine.holds(slot)[: rng.randrange(60)]
        rows = np.concatenate([held, text_rows(*(rng.randrange(9) for _ in range(1 + rng.randrange(20))))])
        stop = rng.randrange(1, 40)

        def judge(index: int, codes: object, pcm: object) -> Verdict | None:
            return Verdict("repeat", spoken=bool(stop % 2)) if index == stop else None

        heard = self.bench.say(slot, rows, most=rng.randrange(1, 50), seed=rng.randrange(99), judge=judge)
        self.calls[slot] = heard
        self.all_heard.append(heard)

    def check(self) -> None:
        engine = self.engine
        assert engine.stats.open_slots == len(self.calls)
        speaking = sum(heard is not None and not heard.ends for heard in self.calls.values())
        assert engine.stats.speaking_slots == speaking
        for slot in self.calls:
            held = [tuple(row) for row in engine.holds(slot).tolist()]
            cache = self.stepper.cache[slot]
            assert cache[: len(held)] == held, "the books are not what the cache holds"


def test_ten_thousand_ticks_of_coming_and_going(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.ERROR)
    crowd = Crowd(seed=0)
    while len(crowd.stepper.ticks) < TICKS:
        if crowd.rng.random() < 0.2:
            crowd.act()
        if not crowd.bench.step():
            crowd.act()
        if len(crowd.stepper.ticks) % 50 == 0:
            crowd.check()
    crowd.check()
    sizes = {len(batch) for batch in crowd.stepper.ticks}
    assert max(sizes) >= SLOTS - 2 and crowd.engine.stats.failures > 0
    for slot in list(crowd.calls):
        crowd.engine.close(slot)
    assert crowd.bench.run() == 0
    assert all(len(heard.ends) == 1 for heard in crowd.all_heard), "each utterance ends once"
    for heard in crowd.all_heard:
        assert [frame.index for frame in heard.frames] == list(range(len(heard.frames)))
    assert crowd.jobs_told == crowd.jobs_asked
    assert not any(crowd.stepper.cache)
    assert sorted(crowd.engine.open() for _ in range(SLOTS)) == list(range(SLOTS))
