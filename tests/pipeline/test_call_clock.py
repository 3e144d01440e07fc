"""Calls whose caller's clock does not run like ours: the two channels of the record must stay together.

Two thousandths for three minutes pull the voices as far apart as a hundred millionths do in an hour.
"""

import asyncio

import pytest

from models.scripted import ScriptedChat
from pipeline.events import AgentAudio, AgentTurn, CallerAudio, CallerTurn
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, AudioReceived, Pcm
from pipeline.service import CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import House, hears, tone

SKEW = 2_000e-6
MINUTES = 3


class SkewedLine(HandLine):
    """The caller's end speaks, and plays, `1 + skew` times as fast as our clock has it."""

    def __init__(self, skew: float) -> None:
        super().__init__()
        self._speed = 1 + skew
        self._began: float | None = None
        self._spoken = 0
        self.played_at: list[float] = []
        """The caller's sample with which each passage of the agent began to play at that end."""

    async def say(self, pcm: Pcm, payload_samples: int = AUDIO_FRAME_SAMPLES) -> None:
        for start in range(0, pcm.size, payload_samples):
            if self._began is None:
                self._began = self.now()
            payload = pcm[start : start + payload_samples]
            self._spoken += payload.size
            await asyncio.sleep(self._began + self._spoken / LINE_RATE_HZ / self._speed - self.now())
            self._arrived.put_nowait(AudioReceived(payload))

    async def send_audio(self, pcm: Pcm) -> None:
        self._check_open()
        if self.play_end_s <= self.now():
            self.play_end_s = self.now()
            if self._began is not None:
                self.played_at.append((self.now() - self._began) * self._speed * LINE_RATE_HZ)
        self.play_end_s += pcm.size / LINE_RATE_HZ / self._speed


@pytest.mark.parametrize("skew", [-SKEW, 0.0, SKEW])
def test_both_voices_stay_together_however_fast_the_callers_clock_runs(skew: float) -> None:
    questions = [f"question {n}" for n in range(20)]
    house = House(
        transcriber=hears(*questions), chat=ScriptedChat([f"This is answer {n}." for n in range(20)])
    )
    lines: list[SkewedLine] = []

    def line_for() -> HandLine:
        lines.append(SkewedLine(skew))
        return lines[-1]

    async def asks_on(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        while line.now() < 60 * MINUTES:
            await line.say(tone("a question", 1.0))
            await line.silent(8)

    house.by_hand(asks_on, line_for)
    events = house.observed.events
    agent = [event for event in events if isinstance(event, AgentAudio)]
    begins = [
        event.start_sample
        for before, event in zip([None, *agent], agent, strict=False)
        if before is None or event.start_sample > before.start_sample + before.pcm.size + 800
    ]
    truth = lines[0].played_at[-len(begins) :]
    assert len(begins) == len(truth) >= 18
    off_ms = [(placed - true) / 8 for placed, true in zip(begins, truth, strict=True)]
    assert max(off_ms) - min(off_ms) < 20.0, off_ms
    # The words' times are on the same clock as the sound.
    heard = sum(event.pcm.size for event in events if isinstance(event, CallerAudio)) / LINE_RATE_HZ
    told = [event.at_s for event in events if isinstance(event, CallerTurn | AgentTurn)]
    assert told == sorted(told)
    assert events[-1].at_s == pytest.approx(heard, abs=0.05)  # type: ignore[union-attr]
