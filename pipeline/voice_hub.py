"""Voice detection for every call of the process: one batch per tick, off the event loop."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from models.base import VAD_WINDOW_SAMPLES, ModelFailed, Samples, VoiceActivity, VoiceActivityStream
from pipeline.line import Pcm

log = logging.getLogger(__name__)

TICK_S = 0.016
"""Half a window, at most: costs a decision 8 ms on average and makes batches of whoever is due."""
TICK_FOR_EACH_S = 0.0005
"""A few callers need not wait for each other."""


def tick_s(ears: int) -> float:
    return min(TICK_S, ears * TICK_FOR_EACH_S)


OnVoice = Callable[[float, int, int], None]
OnFailure = Callable[[Exception], None]


class VoiceEar:
    """One call's ear in the hub: `push` audio; decisions come back as `on_voice(probability, start, end)`
    on the event loop, one per 256-sample window, in order."""

    def __init__(
        self, hub: "VoiceHub", stream: VoiceActivityStream, on_voice: OnVoice, on_failure: OnFailure
    ):
        self._hub = hub
        self.stream = stream
        self.on_voice = on_voice
        self.on_failure = on_failure
        self.closed = False
        self._pending = bytearray()
        self._start = 0

    def push(self, pcm: Pcm) -> None:
        self._pending += pcm.tobytes()
        if len(self._pending) >= 2 * VAD_WINDOW_SAMPLES:
            self._hub.notify(self)

    @property
    def windows(self) -> int:
        """Whole ones that wait."""
        return len(self._pending) // (2 * VAD_WINDOW_SAMPLES)

    def next_window(self) -> NDArray[np.int16] | None:
        size = 2 * VAD_WINDOW_SAMPLES
        if len(self._pending) < size:
            return None
        window = np.frombuffer(bytes(self._pending[:size]), dtype=np.int16)
        del self._pending[:size]
        return window

    def decided(self, probability: float) -> None:
        start = self._start
        self._start += VAD_WINDOW_SAMPLES
        if not self.closed:
            self.on_voice(probability, start, self._start)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._hub.closed()


class VoiceHub:
    """`run()` is the hub's task. `inline` runs the detector on the loop itself: for virtual time."""

    def __init__(self, model: VoiceActivity, *, inline: bool = False) -> None:
        self._model = model
        self._executor = None if inline else ThreadPoolExecutor(1, thread_name_prefix="vad")
        self._ears = 0
        self._due: dict[VoiceEar, None] = {}
        self._wake = asyncio.Event()

    def open(self, on_voice: OnVoice, on_failure: OnFailure) -> VoiceEar:
        ear = VoiceEar(self, self._model.open(), on_voice, on_failure)
        self._ears += 1
        return ear

    def closed(self) -> None:
        """An ear says so, once."""
        self._ears -= 1

    def notify(self, ear: VoiceEar) -> None:
        self._due[ear] = None
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(tick_s(self._ears))
                self._wake.clear()
                await self._tick()
        finally:
            if self._executor is not None:
                self._executor.shutdown(wait=False)

    async def _tick(self) -> None:
        """Decide whatever has come, a window of every ear at a time. What comes meanwhile is for the next
        tick, for many small batches cost more than they gain; but nobody waits until an ear with many windows
        is through."""
        due: dict[VoiceEar, int] = {}
        while due := {**due, **self._taken()}:
            ears: list[VoiceEar] = []
            windows: list[NDArray[np.int16]] = []
            for ear in due:
                window = None if ear.closed else ear.next_window()
                if window is not None:
                    ears.append(ear)
                    windows.append(window)
            if ears:
                await self._decide(ears, windows)
            due = {ear: left - 1 for ear, left in due.items() if left > 1}
            if not due:
                return

    def _taken(self) -> dict[VoiceEar, int]:
        """Who is due, and with how many windows."""
        due = {ear: ear.windows for ear in self._due}
        self._due.clear()
        return due

    async def _decide(self, ears: list[VoiceEar], windows: list[NDArray[np.int16]]) -> None:
        """A batch that fails is tried again one ear at a time: only what fails alone has failed."""
        try:
            probabilities = await self._probabilities(ears, windows)
            if probabilities.shape != (len(ears),):
                raise ModelFailed(f"voice detector: {probabilities.shape} decisions for {len(ears)} windows")
        except Exception as error:
            if len(ears) > 1:
                for ear, window in zip(ears, windows, strict=True):
                    await self._decide([ear], [window])
            elif not ears[0].closed:
                log.exception("voice detection failed for one call")
                ears[0].on_failure(error)
            return
        for ear, probability in zip(ears, probabilities.tolist(), strict=True):
            try:
                ear.decided(probability)
            except Exception as error:
                # What one call makes of it must not deafen the others.
                log.exception("hearing a decision failed for one call")
                ear.on_failure(error)

    async def _probabilities(self, ears: list[VoiceEar], windows: list[NDArray[np.int16]]) -> Samples:
        streams = [ear.stream for ear in ears]

        def decide() -> Samples:
            batch = np.concatenate(windows).reshape(len(windows), -1) * np.float32(1 / 32768)
            return self._model.probabilities(streams, batch)

        if self._executor is None:
            return decide()
        return await asyncio.get_running_loop().run_in_executor(self._executor, decide)
