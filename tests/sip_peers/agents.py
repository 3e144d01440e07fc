"""Who answers in these tests, and what was heard."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.line import (
    AUDIO_FRAME_SAMPLES,
    LINE_RATE_HZ,
    AudioReceived,
    KeyPressed,
    Line,
    LineClosed,
    Pcm,
)
from telephony import g711
from telephony.sip.config import SipConfig, sip_config

RTP_FIRST_PORT: Final = 22_000
"""Below the ports that the kernel gives to whoever asks for any."""


@dataclass
class Outcome:
    completed: bool = True
    reason: str = "done"


Answer = Callable[[Line], Awaitable[Outcome]]


def loopback(**settings: object) -> SipConfig:
    """Takes calls from this machine, at any free port."""
    return sip_config(
        **{
            "port": 0,
            "insecure": True,
            "rtp_first_port": RTP_FIRST_PORT,
            "rtp_last_port": RTP_FIRST_PORT + 999,
            **settings,
        }
    )


class Talk:
    """One call as its agent had it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.keys = ""
        self.ended = ""
        self.over = asyncio.Event()
        self._heard: list[Pcm] = []

    def hear(self, pcm: Pcm) -> None:
        self._heard.append(pcm)

    def heard(self) -> Pcm:
        """All that the caller said so far, (n,) int16 at 8 kHz."""
        return np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)


class Agent:
    """Listens until the caller hangs up, and keeps what was heard. `say` is said at the
    beginning, `echo` says back what is heard, `then` is done beside it and may end the call."""

    def __init__(
        self,
        say: Callable[[int], Pcm] | None = None,
        *,
        echo: bool = False,
        then: Callable[[Line], Awaitable[None]] | None = None,
    ) -> None:
        self.talks: list[Talk] = []
        self._say = say
        self._echo = echo
        self._then = then

    async def __call__(self, line: Line) -> Outcome:
        talk = Talk(line)
        number = len(self.talks)
        self.talks.append(talk)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(talk))
                if self._say is not None:
                    await line.send_audio(self._say(number))
                if self._then is not None:
                    group.create_task(self._then(line))
        except* LineClosed as closed:
            talk.ended = str(closed.exceptions[0])
        finally:
            talk.over.set()
        return Outcome()

    async def _listen(self, talk: Talk) -> None:
        async for event in talk.line.events():
            if isinstance(event, AudioReceived):
                talk.hear(event.pcm)
                if self._echo:
                    await talk.line.send_audio(event.pcm)
            elif isinstance(event, KeyPressed):
                talk.keys += event.digit

    async def call(self, number: int = 0, within_s: float = 10.0) -> Talk:
        """The talk of call `number`, once it has ended."""
        async with asyncio.timeout(within_s):
            while len(self.talks) <= number:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await self.talks[number].over.wait()
        return self.talks[number]


def speechlike(seed: int, seconds: float) -> Pcm:
    """(n,) int16 at 8 kHz: noise of changing level, every piece of it unlike every other; never
    quiet, so that nothing of it may be left out on the way."""
    rng = np.random.default_rng(seed)
    n_samples = round(seconds * LINE_RATE_HZ)
    swell = 0.6 + 0.4 * np.sin(np.arange(n_samples) * 2 * np.pi * 3 / LINE_RATE_HZ)
    return np.clip(rng.normal(0, 6_000, n_samples) * swell, -30_000, 30_000).astype(np.int16)


def through_mu_law(pcm: Pcm) -> Pcm:
    """What arrives of it in PCMU."""
    return g711.PCMU.decode(g711.PCMU.encode(pcm))


def place_of(wanted: Pcm, heard: Pcm) -> int | None:
    """Where `wanted` stands in `heard`, every sample alike; None: it does not."""
    searched, sought = heard.tobytes(), wanted.tobytes()
    place = searched.find(sought)
    while place > 0 and place % 2:
        place = searched.find(sought, place + 1)
    return place // 2 if place >= 0 else None


def heard_at(wanted: Pcm, heard: Pcm) -> int | None:
    """Where `wanted` stands in `heard`: nine of ten of its AudioFrames are there, sample for sample, and in
    their place but for a packet that came late. None: they are not. For peers that keep time less well than
    we do, on machines that do other work."""
    places = [
        place - start
        for start in range(0, wanted.size - AUDIO_FRAME_SAMPLES + 1, AUDIO_FRAME_SAMPLES)
        if (place := place_of(wanted[start : start + AUDIO_FRAME_SAMPLES], heard)) is not None
    ]
    if 10 * len(places) < 9 * (wanted.size // AUDIO_FRAME_SAMPLES):
        return None
    return int(np.median(places))


def spoken_part(pcm: Pcm, threshold: int = 300) -> Pcm:
    """From the first loud sample to the last."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > threshold)
    return pcm[loud[0] : loud[-1] + 1] if loud.size else pcm[:0]


def level_db(pcm: Pcm) -> float:
    """RMS over full scale."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))) / 32_768))


async def nobody(line: Line) -> Outcome:
    raise AssertionError("nobody calls here")
