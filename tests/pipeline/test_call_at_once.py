"""A call on a line that tells what arrives at once, in whatever step of the loop that is."""

import asyncio
from collections import deque
from collections.abc import Callable

import pytest

from models.scripted import ScriptedTranscriber
from pipeline.line import AudioReceived, LineEvent, Pcm
from pipeline.service import CallService
from pipeline.voice_hub import VoiceEar
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import House, tone


class AtOnceLine(HandLine):
    """Its packets come right behind the detector's word, as a socket's may in the same turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.coming: deque[Pcm] = deque()
        self.listener: Callable[[LineEvent], None] | None = None

    def listen(self, listener: Callable[[LineEvent], None]) -> None:
        self.listener = listener

    def deliver(self) -> None:
        while self.coming and self.listener is not None:
            self.listener(AudioReceived(self.coming.popleft()))

    async def say(self, pcm: Pcm, packet: int = 160) -> None:
        for start in range(0, pcm.size, packet):
            self.coming.append(pcm[start : start + packet])
            asyncio.get_running_loop().call_later(0.0195, self.deliver)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("phase", range(5))
def test_a_packet_behind_a_decision_takes_nothing_away_that_it_names(
    monkeypatch: pytest.MonkeyPatch, phase: int
) -> None:
    lines: list[AtOnceLine] = []
    decided = VoiceEar.decided

    def decided_then_delivered(ear: VoiceEar, probability: float) -> None:
        decided(ear, probability)
        for line in lines:
            line.deliver()

    monkeypatch.setattr(VoiceEar, "decided", decided_then_delivered)

    async def never_pauses(line: HandLine, service: CallService) -> None:
        assert isinstance(line, AtOnceLine)
        lines.append(line)
        await line.end_of_reply()
        await line.silent(0.02 * phase)
        await line.say(tone("a long story", 40))
        await line.silent(6)

    house = House(transcriber=ScriptedTranscriber(lambda audio: f"{len(audio) / 16_000:.1f}s", latency_s=0.1))
    house.by_hand(never_pauses, AtOnceLine)
    assert min(house.transcriber.durations_s) > 0.5, "of nothing was asked what had been forgotten"
    assert [turn.split()[0] for turn in house.observed.caller] == ["20.0s"]
