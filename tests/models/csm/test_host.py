"""Hosts: a thread in real time, an event loop in virtual time."""

import asyncio
import threading
import time

import numpy as np
import pytest

from models.base import ModelFailed
from models.csm.engine import Engine
from models.csm.host import EngineHost, LoopHost, ThreadHost
from models.csm.utterance import SpokenFrame, Utterance
from telephony.simulator.virtual_loop import run_virtual
from tests.models.csm.engine_kit import all_zero
from tests.models.csm.null_stepper import NullStepper, text_rows


class Call:
    """Speaks through a host as a voice does: everything comes back to its event loop."""

    def __init__(self, host: EngineHost) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = host
        self.frames: list[tuple[float, SpokenFrame]] = []
        self.ended: asyncio.Future[str] = self._loop.create_future()

    async def open(self) -> int:
        opened: asyncio.Future[int] = self._loop.create_future()
        self._host.post(lambda engine: self.tell(opened, engine.open()))
        return await opened

    def speak(self, slot: int, most: int = 5) -> None:
        utterance = Utterance(
            text_rows(1, 2, 3), 7, all_zero, most, self._heard, lambda why: self.tell(self.ended, why)
        )
        self._host.post(lambda engine: engine.speak(slot, utterance))

    def _heard(self, frame: SpokenFrame) -> None:
        self._loop.call_soon_threadsafe(lambda: self.frames.append((self._loop.time(), frame)))

    def tell(self, future: "asyncio.Future", result: object) -> None:
        self._loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(result))


def thread_host(stepper: NullStepper) -> ThreadHost:
    return ThreadHost(lambda: Engine(stepper, lead_s=float("inf")))


async def test_a_thread_speaks_and_ends() -> None:
    host = thread_host(NullStepper())
    call = Call(host)
    call.speak(await call.open())
    assert await call.ended == "cap"
    assert [frame.index for _, frame in call.frames] == list(range(5))
    await host.aclose()
    await host.aclose()
    with pytest.raises(ModelFailed, match="shut down"):
        host.post(lambda engine: None)
    assert host.stats.codec_frames == 5 and host.stats.open_slots == 1


async def test_a_thread_rests_while_it_is_ahead() -> None:
    host = ThreadHost(lambda: Engine(NullStepper()))
    call = Call(host)
    call.speak(await call.open(), most=10)
    assert await call.ended == "cap"
    (first, _), (last, _) = call.frames[0], call.frames[-1]
    assert last - first > 0.2, "0.72 s of sound, at most 0.32 s ahead"
    call = Call(host)
    call.speak(0, most=10**6)
    await host.aclose()
    assert await call.ended == "closed"


async def test_all_requests_of_one_batch_see_one_engine_and_errors_do_not_end_it() -> None:
    host = thread_host(NullStepper())
    seen: list[threading.Thread] = []

    def fails(engine: Engine) -> None:
        seen.append(threading.current_thread())
        raise ZeroDivisionError

    for _ in range(3):
        host.post(fails)
    call = Call(host)
    call.speak(await call.open())
    assert await call.ended == "cap"
    assert len(set(seen)) == 1 and seen[0] is not threading.current_thread()
    await host.aclose()


async def test_an_error_inside_the_engine_ends_its_utterances_only(monkeypatch: pytest.MonkeyPatch) -> None:
    host = thread_host(NullStepper())
    call = Call(host)
    slot = await call.open()

    def breaks(engine: Engine) -> None:
        work = engine.work

        def once(now: float, *, took_s: float | None = None) -> bool:
            monkeypatch.setattr(engine, "work", work)
            raise AssertionError("the books are wrong")

        monkeypatch.setattr(engine, "work", once)

    posted = threading.Event()
    host.post(lambda engine: posted.wait())
    call.speak(slot, most=10**6)
    encoded: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    audio = np.ones(10**7, np.float32)
    host.post(lambda engine: engine.encode(slot, audio, lambda codes: call.tell(encoded, codes)))
    host.post(breaks)
    posted.set()
    assert await call.ended == "failed" and await encoded is None
    again = Call(host)
    again.speak(slot)
    assert await again.ended == "cap"
    await host.aclose()


async def test_loading_happens_on_the_thread_and_its_failure_is_told() -> None:
    def fails() -> Engine:
        time.sleep(0.02)
        raise ModelFailed("not enough memory: 9 GB are needed")

    host = ThreadHost(fails)
    with pytest.raises(TimeoutError):
        host.wait_loaded(0.001)
    with pytest.raises(ModelFailed, match="9 GB"):
        host.wait_loaded()
    with pytest.raises(ModelFailed):
        host.post(lambda engine: None)
    with pytest.raises(ModelFailed, match="9 GB"):
        _ = host.stats
    await host.aclose()


async def test_what_waits_when_the_host_ends_is_answered() -> None:
    gate = threading.Event()

    def slow() -> Engine:
        gate.wait()
        return Engine(NullStepper())

    host = ThreadHost(slow)
    call = Call(host)
    call.speak(0)
    closing = asyncio.create_task(host.aclose())
    await asyncio.sleep(0.01)
    gate.set()
    await closing
    assert await call.ended == "closed"


def test_the_event_loop_speaks_in_declared_time() -> None:
    async def play() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        host = LoopHost(Engine(NullStepper(), clock=loop.time), tick_s=0.05, chunk_s=0.1)
        call = Call(host)
        slot = await call.open()
        begins = loop.time()
        call.speak(slot, most=20)
        assert await call.ended == "cap"
        await host.aclose()
        assert host.stats.tick_ms_p99 == pytest.approx(50)
        return [at - begins for at, _ in call.frames], loop.time() - begins

    (first, second) = run_virtual(play()), run_virtual(play())
    assert first == second
    at, _ = first
    assert at[0] == pytest.approx(0.15) and at[1] == pytest.approx(0.20)
    assert at[-1] == pytest.approx(0.15 + 19 * 0.08 - 0.24, abs=0.1)


def test_a_cancel_on_the_event_loop_takes_effect_within_one_tick() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        host = LoopHost(Engine(NullStepper(), clock=loop.time), tick_s=0.05)
        call = Call(host)
        slot = await call.open()
        call.speak(slot, most=50)
        await asyncio.sleep(1.0)
        host.post(lambda engine: engine.cancel(slot))
        before = loop.time()
        assert await call.ended == "cancelled"
        assert loop.time() - before <= 0.05
        n = len(call.frames)
        await asyncio.sleep(1.0)
        assert len(call.frames) == n
        await host.aclose()
        with pytest.raises(ModelFailed, match="shut down"):
            host.post(lambda engine: None)

    run_virtual(play())


def test_a_loop_that_ends_closes_what_is_open() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        host = LoopHost(Engine(NullStepper(), clock=loop.time))
        call = Call(host)
        call.speak(await call.open(), most=50)
        got: list[np.ndarray | None] = []
        host.post(lambda engine: engine.encode(0, np.ones(9600, np.float32), got.append))
        await asyncio.sleep(0.001)
        await host.aclose()
        assert await call.ended == "closed" and got == [None]

    run_virtual(play())


async def test_a_thread_that_hangs_in_its_device_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("models.csm.host.END_S", 0.05)
    released = threading.Event()
    hanging = ThreadHost(lambda: Engine(NullStepper()))
    hanging.wait_loaded()
    hanging.post(lambda engine: released.wait())
    await hanging.aclose()
    assert "left to itself" in caplog.text
    released.set()
    await hanging.aclose()
