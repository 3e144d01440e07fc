"""The 20 ms beat in virtual time, and after a busy moment."""

import asyncio

import pytest

from telephony.asterisk.metronome import Metronome
from telephony.simulator.virtual import run_virtual


def test_every_20_ms_for_as_long_as_one_takes_part() -> None:
    async def play() -> list[float]:
        loop = asyncio.get_running_loop()
        metronome, times = Metronome(), list[float]()
        beat = lambda: times.append(loop.time())  # noqa: E731
        metronome.join(beat)
        await asyncio.sleep(0.09)
        metronome.leave(beat)
        metronome.leave(beat)
        await asyncio.sleep(0.1)
        return times

    assert run_virtual(play()) == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])


def test_a_late_joiner_shares_the_grid() -> None:
    async def play() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        metronome = Metronome()
        first, second = list[float](), list[float]()
        one, two = (lambda: first.append(loop.time())), (lambda: second.append(loop.time()))
        metronome.join(one)
        await asyncio.sleep(0.05)
        metronome.join(two)
        await asyncio.sleep(0.1)
        metronome.leave(one)
        await asyncio.sleep(0.1)
        metronome.leave(two)
        return first, second

    first, second = run_virtual(play())
    assert first[3:] == second[: len(first) - 3]
    assert second[-1] > first[-1]


class Held:
    """A loop that was busy: its clock stands ahead when the timer fires."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> "Held":
        self.armed.append(when)
        self.callback = callback
        return self

    def cancel(self) -> None:
        self.armed.append(-1.0)


@pytest.mark.parametrize(("late_s", "beats"), [(0.0, 1), (0.019, 1), (0.021, 2), (0.099, 5), (0.5, 6)])
def test_missed_beats_are_made_up_for_within_100_ms(
    late_s: float, beats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: held)
    metronome, count = Metronome(), list[int]()
    metronome.join(lambda: count.append(1))
    held.now = late_s
    metronome._strike()
    assert len(count) == beats
    # The grid stays where it was.
    assert held.armed[-1] > held.now - 1e-9
    assert held.armed[-1] / 0.02 == pytest.approx(round(held.armed[-1] / 0.02))
