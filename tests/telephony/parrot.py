"""An agent without models, written against `pipeline.line.Line`: it greets, waits for the caller to finish,
and says back what it heard. Its delays are exact, so that what the simulator measures can be foretold."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from pipeline.line import (
    LINE_RATE_HZ,
    AudioReceived,
    HangUpReason,
    KeyPressed,
    Line,
    LineClosed,
    MarkReached,
    Pcm,
)

SILENCE_S = 0.5
THINKING_S = 0.3
YIELD_S = 0.16
_FLOOR = 328


def tone(seconds: float, hertz: float = 200.0, level: float = 6000.0) -> Pcm:
    """(n,) int16 at 8 kHz, well above the -40 dBFS of a voice. A cosine: loud from its first sample on."""
    at = np.arange(round(seconds * LINE_RATE_HZ)) / LINE_RATE_HZ
    return (level * np.cos(2 * np.pi * hertz * at)).astype(np.int16)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * LINE_RATE_HZ), np.int16)


@dataclass
class Outcome:
    completed: bool = True
    reason: str = "caller hung up"


@dataclass
class Parrot:
    """`yields=False` goes on talking over interruptions; `turns` ends the call after so many answers."""

    greeting: Pcm = field(default_factory=lambda: tone(1.0))
    answer: Callable[[Pcm], Pcm] = lambda heard: heard
    yields: bool = True
    turns: int | None = None
    hang_up: HangUpReason = "goodbye"
    keys: list[str] = field(default_factory=list)
    marks: list[MarkReached] = field(default_factory=list)
    received_samples: int = 0
    closed: str = ""

    async def __call__(self, line: Line) -> Outcome:
        speaking: asyncio.Task[None] | None = asyncio.create_task(self._say(line, self.greeting))
        heard: list[Pcm] = []
        quiet = loud = answered = 0
        try:
            async for event in line.events():
                if isinstance(event, KeyPressed):
                    self.keys.append(event.digit)
                elif isinstance(event, MarkReached):
                    self.marks.append(event)
                if not isinstance(event, AudioReceived):
                    continue
                self.received_samples += len(event.pcm)
                if np.sqrt(np.mean(event.pcm.astype(float) ** 2)) > _FLOOR:
                    quiet, loud = 0, loud + len(event.pcm)
                    if self.yields and speaking and loud >= YIELD_S * LINE_RATE_HZ:
                        speaking.cancel()
                        await line.clear()
                        speaking = None
                else:
                    quiet, loud = quiet + len(event.pcm), 0
                if loud or heard:
                    heard.append(event.pcm)
                if heard and quiet >= SILENCE_S * LINE_RATE_HZ:
                    if self.turns is not None and answered >= self.turns:
                        await line.hang_up(self.hang_up)
                        return Outcome(reason=self.hang_up)
                    said = np.concatenate(heard)[: -round(SILENCE_S * LINE_RATE_HZ)]
                    heard, answered = [], answered + 1
                    speaking = asyncio.create_task(self._say(line, self.answer(said), THINKING_S))
        except LineClosed as closed:
            self.closed = closed.reason
        finally:
            if speaking:
                speaking.cancel()
        return Outcome()

    async def _say(self, line: Line, pcm: Pcm, after_s: float = 0.0) -> None:
        """In chunks of 200 ms, each with its mark, 200 ms ahead of the clock."""
        await asyncio.sleep(after_s)
        step = LINE_RATE_HZ // 5
        try:
            for number, start in enumerate(range(0, len(pcm), step)):
                await line.send_audio(pcm[start : start + step])
                await line.send_mark(f"{id(pcm)}-{number}")
                if number:
                    await asyncio.sleep(0.2)
        except LineClosed:
            return


def parrots(parrot: Parrot) -> Callable[[], object]:
    """An answer factory for `simulate_virtual`."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[Parrot]:
        yield parrot

    return factory
