"""Where an engine runs: on a thread of its own, or on the event loop where time may be virtual."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from models.base import ModelFailed
from models.csm.engine import Engine
from models.csm.measures import EngineStats
from models.csm.scheduler import Tick

_log = logging.getLogger(__name__)
END_S = 60.0
"""A thread that has not ended by then hangs in its device; loading takes up to a minute."""
Request = Callable[[Engine], object]


class EngineHost(Protocol):
    def post(self, fn: Request) -> None:
        """Have `fn` called with the engine, on its thread, between two steps. From any thread; returns at
        once. What `fn` raises is logged. Raises `ModelFailed` when the host has ended."""
        ...

    @property
    def stats(self) -> EngineStats:
        """As of the last step. From any thread."""
        ...

    async def aclose(self) -> None:
        """End all utterances as "closed" and free the engine. Safe to call twice."""
        ...


def _stopped() -> ModelFailed:
    return ModelFailed("the voice has been shut down")


def _obey(engine: Engine, fn: Request) -> None:
    try:
        fn(engine)
    except Exception:
        _log.exception("a request to the voice failed")


def _work(engine: Engine, now: float, took_s: float | None = None) -> bool:
    """An error that the engine did not foresee ends its utterances, not the host."""
    try:
        return engine.work(now, took_s=took_s)
    except Exception as error:
        _log.exception("a step of the voice failed")
        engine.fail_all(error)
        return True


class ThreadHost:
    """One daemon thread: it calls `make_engine` (which may load for a minute), then works until `aclose`."""

    def __init__(self, make_engine: Callable[[], Engine], *, name: str = "maya-csm") -> None:
        self._make_engine = make_engine
        self._requests: deque[Request] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._loaded = threading.Event()
        self._failure: Exception | None = None
        self._stats: EngineStats | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wait_loaded(self, timeout_s: float | None = None) -> None:
        """Block until the engine is there. Raises what loading raised, and `TimeoutError`."""
        if not self._loaded.wait(timeout_s):
            raise TimeoutError("the voice is still loading")
        if self._failure is not None:
            raise self._failure

    @property
    def stats(self) -> EngineStats:
        """Blocks until the engine is there."""
        self.wait_loaded()
        if self._stats is None:
            raise _stopped()
        return self._stats

    def post(self, fn: Request) -> None:
        with self._wake:
            if self._stopping or self._failure is not None:
                raise _stopped() from self._failure
            self._requests.append(fn)
            self._wake.notify()

    async def aclose(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, END_S)
        if self._thread.is_alive():
            _log.error("the voice still works after %.0f s and is left to itself", END_S)

    def _run(self) -> None:
        try:
            engine = self._make_engine()
        except Exception as error:
            with self._wake:
                self._failure = error
                self._requests.clear()
            self._loaded.set()
            return
        self._stats = engine.stats
        self._loaded.set()
        while self._turn(engine):
            pass
        engine.close_all()
        for fn in self._requests:
            _obey(engine, fn)

    def _turn(self, engine: Engine) -> bool:
        """Obey what was asked, make one step, or wait. False: it is time to stop."""
        with self._wake:
            requests = list(self._requests)
            self._requests.clear()
            if self._stopping:
                self._requests.extend(requests)
                return False
        for fn in requests:
            _obey(engine, fn)
        worked = _work(engine, time.monotonic())
        if worked or requests:
            self._stats = engine.stats
        if not worked:
            self._wait(engine.next_deadline())
        return True

    def _wait(self, deadline: float | None) -> None:
        with self._wake:
            if not self._requests and not self._stopping:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._wake.wait(left)


class LoopHost:
    """Runs a small engine on the running event loop, whose time may be virtual: each step takes `tick_s` or
    `chunk_s` of the loop's time, declared and not measured, and its results come at the end of that. Make the
    engine with `clock=loop.time`. `post` only from the loop's thread."""

    def __init__(self, engine: Engine, *, tick_s: float = 0.02, chunk_s: float | None = None) -> None:
        self._engine = engine
        self._tick_s = tick_s
        self._chunk_s = tick_s if chunk_s is None else chunk_s
        self._requests: deque[Request] = deque()
        self._posted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def stats(self) -> EngineStats:
        return self._engine.stats

    def post(self, fn: Request) -> None:
        if self._closed:
            raise _stopped()
        self._requests.append(fn)
        self._posted.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="maya-csm")

    async def aclose(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._engine.close_all()
        self._obey_all()

    def _obey_all(self) -> None:
        self._posted.clear()
        while self._requests:
            _obey(self._engine, self._requests.popleft())

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._obey_all()
            step = self._engine.plan(clock())
            if step is not None:
                took_s = self._tick_s if isinstance(step, Tick) else self._chunk_s
                await asyncio.sleep(took_s)
                _work(self._engine, clock(), took_s)
                continue
            await self._rest(self._engine.next_deadline(), clock())

    async def _rest(self, deadline: float | None, now: float) -> None:
        """Until the deadline or a request."""
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now)):
                await self._posted.wait()
        except TimeoutError:
            return
