"""An agent that speaks one long utterance on Twilio's terms, and reacts to a voice over it as it is told."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pipeline.line import LINE_RATE_HZ, AudioReceived, Line, LineClosed, Pcm
from tests.telephony.parrot import Outcome

CHUNK = LINE_RATE_HZ // 50
LEAD_S = 0.2
DUCKED = 10 ** (-15 / 20)
NOTICED_S = 0.06
DECIDED_S = 0.36

Reaction = Literal["stop", "duck and stop", "duck and restore", "duck", "hold and restore", "talk on"]


def voice(seconds: float, seed: int = 1, level: float = 3000.0) -> Pcm:
    """(n,) int16 at 8 kHz: noise in syllables. Unlike a tone, no piece of it is like another."""
    at = np.arange(round(seconds * LINE_RATE_HZ)) / LINE_RATE_HZ
    noise = np.random.default_rng(seed).normal(0, level, len(at))
    return (noise * (0.6 + 0.4 * np.cos(2 * np.pi * 4 * at))).clip(-32000, 32000).astype(np.int16)


@dataclass
class Talker:
    """`NOTICED_S` after the first sample of a voice it ducks (or stops, or holds its breath), `DECIDED_S`
    after it the rest of its `reaction` follows. It sends 200 ms ahead."""

    reaction: Reaction
    says: Pcm = field(default_factory=lambda: voice(20.0))
    gain: float = 1.0
    position: int = 0
    sent_until_s: float = 0.0
    noticed_s: float = -1.0
    holds: bool = False

    async def __call__(self, line: Line) -> Outcome:
        loop = asyncio.get_running_loop()
        speaking = asyncio.create_task(self._speak(line))
        loud = 0
        try:
            async for event in line.events():
                if not isinstance(event, AudioReceived):
                    continue
                heard = np.abs(event.pcm.astype(int)).max() > 500
                loud = loud + len(event.pcm) if heard else 0
                if loud >= NOTICED_S * LINE_RATE_HZ and self.noticed_s < loop.time() - 1.0:
                    self.noticed_s = loop.time()
                    loop.call_later(DECIDED_S - NOTICED_S, self._decide, line)
                    await self._notice(line)
        except LineClosed:
            pass
        finally:
            speaking.cancel()
        return Outcome()

    async def _notice(self, line: Line) -> None:
        if self.reaction == "talk on":
            return
        await self._take_back(line)
        if self.reaction == "stop":
            self.says = self.says[: self.position]
        elif self.reaction == "hold and restore":
            self.holds = True
        else:
            self.gain = DUCKED

    def _decide(self, line: Line) -> None:
        self._deciding = asyncio.create_task(self._act(line))

    async def _act(self, line: Line) -> None:
        if self.reaction in ("duck and stop", "duck and restore"):
            await self._take_back(line)
        if self.reaction == "duck and stop":
            self.says = self.says[: self.position]
        elif self.reaction == "duck and restore":
            self.gain = 1.0
        self.holds = False

    async def _take_back(self, line: Line) -> None:
        held, self.holds = self.holds, True  # nothing may follow before the position is put right
        await line.clear()
        unheard = round((self.sent_until_s - asyncio.get_running_loop().time()) * LINE_RATE_HZ)
        self.position -= max(0, unheard)
        self.sent_until_s = 0.0
        self.holds = held

    async def _speak(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self.sent_until_s = max(self.sent_until_s, loop.time())
                while self._has_more() and self.sent_until_s < loop.time() + LEAD_S:
                    piece = self.says[self.position : self.position + CHUNK]
                    self.position += len(piece)
                    self.sent_until_s += len(piece) / LINE_RATE_HZ
                    await line.send_audio((piece * self.gain).astype(np.int16))
                await asyncio.sleep(0.005)
        except LineClosed:
            return

    def _has_more(self) -> bool:
        return not self.holds and self.position < len(self.says)
