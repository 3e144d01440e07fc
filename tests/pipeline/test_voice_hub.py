"""Voice detection for many calls: batches, order, and whose fault a failure is."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from models.base import VAD_WINDOW_SAMPLES, ModelFailed, Samples, VoiceActivityStream
from models.scripted import EnergyVoiceActivity
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.voice_hub import VoiceEar, VoiceHub, tick_s
from telephony.simulator.virtual_loop import run_virtual
from tests.pipeline.hand_line import silence
from tests.pipeline.virtual_calls import tone


class Detector(EnergyVoiceActivity):
    """Keeps the size of each batch; raises for batches that hold a poisoned stream."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.poisoned: list[VoiceActivityStream] = []

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        self.batches.append(len(streams))
        if any(stream is poison for stream in streams for poison in self.poisoned):
            raise ModelFailed("poisoned")
        return super().probabilities(streams, windows)


class Lossy(EnergyVoiceActivity):
    """Returns one decision too few, once, in its third batch."""

    calls = 0

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        self.calls += 1
        decisions = super().probabilities(streams, windows)
        return decisions[:-1] if self.calls == 3 else decisions


@dataclass
class Heard:
    """What one call was told."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def voice(self, probability: float, start_sample: int, end_sample: int) -> None:
        self.spans.append((start_sample, end_sample))
        self.probabilities.append(probability)

    def listen(self, hub: VoiceHub) -> VoiceEar:
        return hub.open(self.voice, self.failures.append)


@asynccontextmanager
async def running(hub: VoiceHub) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(hub.run())
    try:
        yield task
        assert not task.done(), "the hub serves every call of the process: nothing ends it"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def windows(count: int) -> list[tuple[int, int]]:
    return [(n * VAD_WINDOW_SAMPLES, (n + 1) * VAD_WINDOW_SAMPLES) for n in range(count)]


@pytest.mark.parametrize("payload", [1, 80, 160, 255, 256, 257, 8000])
def test_decisions_come_in_order_without_gaps_whatever_the_payloads(payload: int) -> None:
    audio = np.concatenate([silence(0.5), tone("voiced", 0.5)])
    heard = Heard()

    async def call() -> None:
        hub = VoiceHub(Detector(), inline=True)
        async with running(hub):
            ear = heard.listen(hub)
            for start in range(0, audio.size, payload):
                ear.push(audio[start : start + payload])
            await asyncio.sleep(1.0)

    run_virtual(call())
    assert heard.spans == windows(audio.size // VAD_WINDOW_SAMPLES)
    assert max(heard.probabilities[:15]) < 0.1
    assert min(heard.probabilities[17:]) > 0.9


def test_calls_that_are_due_together_are_decided_in_one_batch() -> None:
    detector = Detector()
    calls = [Heard() for _ in range(5)]

    async def house() -> None:
        hub = VoiceHub(detector, inline=True)
        async with running(hub):
            for ear in [heard.listen(hub) for heard in calls]:
                ear.push(silence(0.064))
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert detector.batches == [5, 5]
    assert all(heard.spans == windows(2) for heard in calls)


def test_a_call_that_lags_is_caught_up_without_holding_up_the_others() -> None:
    detector = Detector()
    late, steady = Heard(), Heard()

    async def house() -> None:
        hub = VoiceHub(detector, inline=True)
        async with running(hub):
            behind, ear = late.listen(hub), steady.listen(hub)
            behind.push(silence(4.0))
            ear.push(silence(0.032))
            await asyncio.sleep(0.02)
            assert len(steady.spans) == 1
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert late.spans == windows(125)


def in_company(detector: EnergyVoiceActivity, pcm: Pcm) -> tuple[Heard, Heard]:
    """Two calls that hear the same, the first one poisoned where the detector knows poison."""
    one, other = Heard(), Heard()

    async def house() -> None:
        hub = VoiceHub(detector, inline=True)
        async with running(hub):
            ears = [one.listen(hub), other.listen(hub)]
            if isinstance(detector, Detector):
                detector.poisoned.append(ears[0].stream)
            for ear in ears:
                ear.push(pcm)
            await asyncio.sleep(1.0)

    run_virtual(house())
    return one, other


def test_a_failure_in_a_batch_is_told_only_to_the_call_that_fails_alone() -> None:
    poisoned, sound = in_company(Detector(), silence(0.32))
    assert [str(failure) for failure in poisoned.failures] == ["poisoned"] * 10
    assert poisoned.spans == []
    assert sound.failures == []
    assert sound.spans == windows(10)


def test_decisions_that_are_not_one_a_window_are_asked_for_again() -> None:
    one, other = in_company(Lossy(), silence(0.32))
    assert one.failures == other.failures == []
    assert one.spans == other.spans == windows(10)


def test_a_detector_that_keeps_failing_is_the_calls_failure_and_not_the_hubs() -> None:
    heard = Heard()

    async def house() -> None:
        hub = VoiceHub(Lossy(), inline=True)
        async with running(hub):
            ear = heard.listen(hub)
            ear.push(silence(0.32))
            await asyncio.sleep(1.0)

    run_virtual(house())
    (failure,) = heard.failures
    assert isinstance(failure, ModelFailed)
    assert "(0,)" in str(failure)
    assert len(heard.spans) == 9


def test_a_closed_ear_is_told_nothing_more() -> None:
    detector = Detector()
    sound, poisoned = Heard(), Heard()

    async def house() -> None:
        hub = VoiceHub(detector, inline=True)
        async with running(hub):
            ears = [sound.listen(hub), poisoned.listen(hub)]
            detector.poisoned.append(ears[1].stream)
            for ear in ears:
                ear.push(silence(0.32))
                ear.close()
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert (sound, poisoned) == (Heard(), Heard())
    assert detector.batches == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_call_that_hangs_up_while_it_is_decided_is_told_nothing_more(fails: bool) -> None:
    heard = Heard()
    ears: list[VoiceEar] = []

    class HangsUp(EnergyVoiceActivity):
        def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
            ears[0].close()
            if fails:
                raise ModelFailed("poisoned")
            return super().probabilities(streams, windows)

    async def house() -> None:
        hub = VoiceHub(HangsUp(), inline=True)
        async with running(hub):
            ears.append(heard.listen(hub))
            ears[0].push(silence(0.32))
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert heard == Heard()


async def test_the_detector_works_off_the_event_loop() -> None:
    """The one test with a real thread; it waits for the decisions and for nothing else."""
    heard, enough = Heard(), asyncio.Event()

    def voice(probability: float, start_sample: int, end_sample: int) -> None:
        heard.voice(probability, start_sample, end_sample)
        if len(heard.spans) == 4:
            enough.set()

    hub = VoiceHub(Detector())
    async with running(hub):
        hub.open(voice, heard.failures.append).push(tone("voiced", 4 * 256 / LINE_RATE_HZ))
        async with asyncio.timeout(30):
            await enough.wait()
    assert heard.spans == windows(4)


class SlowHub(VoiceHub):
    """Whose detector takes `takes_s` for a batch, off the loop as it were: meanwhile everything goes on."""

    takes_s = 0.008

    async def _probabilities(self, ears: list[VoiceEar], windows: list[NDArray[np.int16]]) -> Samples:
        await asyncio.sleep(self.takes_s)
        return await super()._probabilities(ears, windows)


def test_a_backlog_of_one_ear_is_decided_in_its_tick_while_the_others_are_in_the_first_batch() -> None:
    detector = Detector()
    late, steady = Heard(), Heard()

    async def house() -> None:
        hub = SlowHub(detector, inline=True)
        async with running(hub):
            behind, ear = late.listen(hub), steady.listen(hub)
            ear.push(silence(0.032))
            behind.push(silence(0.16))
            await asyncio.sleep(tick_s(2) + 5.5 * hub.takes_s)
            assert (len(late.spans), len(steady.spans)) == (5, 1)

    run_virtual(house())
    assert detector.batches == [2, 1, 1, 1, 1]
    assert late.spans == windows(5)


def test_nobody_waits_until_an_ear_with_many_windows_is_through() -> None:
    detector = Detector()
    one, other = Heard(), Heard()

    async def house() -> None:
        hub = SlowHub(detector, inline=True)
        async with running(hub):
            first, second = one.listen(hub), other.listen(hub)
            first.push(silence(0.160))
            await asyncio.sleep(tick_s(2) + 0.5 * hub.takes_s)
            second.push(silence(0.064))
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert detector.batches == [1, 2, 2, 1, 1]
    assert (one.spans, other.spans) == (windows(5), windows(2))


def test_what_comes_during_a_tick_for_an_ear_that_is_in_it_waits_for_the_next_one_too() -> None:
    detector = Detector()
    calls = [Heard() for _ in range(4)]

    async def house() -> None:
        hub = SlowHub(detector, inline=True)
        async with running(hub):
            ears = [heard.listen(hub) for heard in calls]
            for ear in ears:
                ear.push(silence(0.032))
            await asyncio.sleep(tick_s(4) + 0.5 * hub.takes_s)
            ears[0].push(silence(0.032))
            await asyncio.sleep(0.6 * hub.takes_s)
            for ear in ears[1:]:
                ear.push(silence(0.032))
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert all(heard.spans == windows(2) for heard in calls)
    assert detector.batches == [4, 4]


@pytest.mark.parametrize("takes_s", [0.0, 0.003, 0.05])
def test_nothing_is_lost_or_decided_twice_whatever_comes_while_the_detector_works(takes_s: float) -> None:
    audio = np.concatenate([silence(0.5), tone("voiced", 0.5)])
    calls = [Heard() for _ in range(3)]

    async def house() -> None:
        hub = SlowHub(Detector(), inline=True)
        hub.takes_s = takes_s
        async with running(hub):

            async def speaks(ear: VoiceEar, payload: int) -> None:
                for start in range(0, audio.size, payload):
                    ear.push(audio[start : start + payload])
                    await asyncio.sleep(payload / LINE_RATE_HZ)

            async with asyncio.TaskGroup() as group:
                for heard, payload in zip(calls, (80, 160, 700), strict=True):
                    group.create_task(speaks(heard.listen(hub), payload))
            await asyncio.sleep(5.0)

    run_virtual(house())
    for heard in calls:
        assert heard.spans == windows(audio.size // VAD_WINDOW_SAMPLES)
        assert max(heard.probabilities[:15]) < 0.1
        assert min(heard.probabilities[17:]) > 0.9
        assert heard.failures == []


def test_an_ear_closed_during_a_tick_is_decided_no_further() -> None:
    detector = Detector()
    closing, staying = Heard(), Heard()

    async def house() -> None:
        hub = SlowHub(detector, inline=True)
        async with running(hub):
            ears = [closing.listen(hub), staying.listen(hub)]
            for ear in ears:
                ear.push(silence(0.096))
            await asyncio.sleep(tick_s(2) + 1.5 * hub.takes_s)
            ears[0].close()
            await asyncio.sleep(1.0)

    run_virtual(house())
    assert detector.batches == [2, 2, 1]
    assert (closing.spans, staying.spans) == (windows(1), windows(3))


def test_a_hub_keeps_nothing_of_a_call_that_is_over() -> None:
    async def house() -> None:
        hub = VoiceHub(Detector(), inline=True)
        async with running(hub):
            ear = Heard().listen(hub)
            ear.push(silence(0.05))
            await asyncio.sleep(0.1)
            ear.push(silence(0.05))
            ear.close()
            await asyncio.sleep(0.1)
            # The last tick's own are forgotten at the next one.
            Heard().listen(hub).push(silence(0.032))
            await asyncio.sleep(0.1)
            kept = weakref.ref(ear)
            del ear
            gc.collect()
            assert kept() is None

    run_virtual(house())


def test_a_few_callers_wait_less_for_each_other_and_many_half_a_window_at_most() -> None:
    waited: dict[int, float] = {}

    async def house(count: int) -> None:
        loop = asyncio.get_running_loop()
        hub = VoiceHub(Detector(), inline=True)
        async with running(hub):
            ears = [Heard().listen(hub) for _ in range(count + 1)]
            ears.pop().close()
            told = loop.create_future()
            ears[0].on_voice = lambda *decision: told.set_result(loop.time())
            pushed = loop.time()
            ears[0].push(silence(0.032))
            waited[count] = await told - pushed

    for count in (1, 4, 100):
        run_virtual(house(count))
    assert waited == pytest.approx({1: 0.0005, 4: 0.002, 100: 0.016})
