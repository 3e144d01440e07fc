"""What `pipeline.overlap` makes of the corpus's voices over the agent's: real windows of Silero, real
glimpses, the agent's voice with its echo on the line; time is counted in samples, and the waits are declared.

A window is judged when its last packet is there. A glimpse and a transcription come `GLIMPSE_S` and
`TRANSCRIPTION_S` after they were asked for, whatever they take in this run: a busy machine gives the same
figures. `stop` is from the first voiced sample of the overlap to the verdict and on to the packet that is
under way; nothing is played, sent or cleared here: `maya bench turns` measures that.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.corpus import Corpus, Overlap, PartName, corpus, heard_over
from bench.corpus.model import FLOOR_TAKERS
from bench.corpus.speech import LEVEL_DBFS
from bench.report import Report, rate, spread
from models.base import STT_RATE_HZ, VAD_WINDOW_SAMPLES, Glimpse, Samples, Transcriber, VoiceActivity
from models.catalogue import WHISPER_BASE, WindowPolicy
from models.hibari import HibariSynthesizer
from models.silero import SileroVoiceActivity
from models.store import Store
from models.whisper import WhisperTranscriber
from pipeline.echo import EchoMeter
from pipeline.endpointing import OFFSET_PROBABILITY
from pipeline.line import AUDIO_FRAME_S, LINE_RATE_HZ, Pcm
from pipeline.overlap import BargeIn, OverlapJudge, Verdict, takes_floor
from pipeline.resample import from_pcm, resample, to_pcm

AGENT_SAYS = (
    "Thank you for calling. We are open from Monday to Friday from eight in the morning until six in the"
    " evening, and on Saturday from nine until noon. You find us right next to the public library, and the"
    " parking lot behind the building is free for as long as your visit takes. Please bring your insurance"
    " card and a list of the medicines that you take at the moment."
)
BEFORE_S = 2.0
AFTER_S = 2.0
"""Of the agent's speech before and after an overlap."""
GLIMPSE_S = 0.06
"""From the window that asked to the answer, with tiny.en on one core that is otherwise idle."""
TRANSCRIPTION_S = 0.4
"""Of one to three words, with base."""
ECHO_SEGMENT_SAMPLES = LINE_RATE_HZ * 250 // 1000

_KEPT = {
    "backchannel_kept": ("backchannel",),
    "noise_kept": ("cough", "line_noise"),
    "sidetalk_kept": ("side_talk",),
}


class Judged(NamedTuple):
    """When the agent would have turned its voice down, and stopped, after the first voiced sample; None:
    never. `glimpses` are those that were taken."""

    overlap: Overlap
    duck_ms: float | None
    stop_ms: float | None
    glimpses: tuple[Glimpse, ...]
    transcript: str
    ducked_before: bool = False
    """For nothing, before the overlap began."""


@dataclass(frozen=True, slots=True)
class Ears:
    """What listens."""

    detector: VoiceActivity
    transcriber: Transcriber
    glimpse_s: float = GLIMPSE_S
    transcription_s: float = TRANSCRIPTION_S


def run(
    part: PartName = "held_out",
    *,
    glimpser: str | None = "whisper-tiny.en",
    policy: BargeIn = "polite",
    knows_level: bool = True,
    store: Store | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Every overlap of a part of the corpus once, with Whisper base to hear and `glimpser` to glimpse, None
    for base again. `knows_level`: the caller has spoken before. Blocks for a minute or two.

    Raises `ModelError`."""
    store = store or Store()
    transcriber = WhisperTranscriber(
        store.path(WHISPER_BASE.name),
        WHISPER_BASE.window or WindowPolicy(floor_s=8.0),
        threads=1,
        glimpse_folder=store.path(glimpser) if glimpser else None,
    )
    ears = Ears(SileroVoiceActivity(store.path("silero-vad")), transcriber)
    judged = asyncio.run(_all(corpus(part), ears, policy, knows_level, progress))
    return report(judged, glimpser or WHISPER_BASE.name, policy)


async def _all(
    items: Corpus, ears: Ears, policy: BargeIn, knows_level: bool, progress: Callable[[str], None]
) -> list[Judged]:
    agent = await agent_speech()
    judged = []
    for number, overlap in enumerate(items.overlaps):
        judged.append(
            await judge(overlap, _turned(agent, number), ears, policy=policy, knows_level=knows_level)
        )
        progress(f"{overlap.id}: {_outcome(judged[-1])}")
    await ears.transcriber.aclose()
    return judged


async def agent_speech() -> Pcm:
    """`AGENT_SAYS` in the agent's voice, (n,) int16 at 8 kHz."""
    synthesizer = HibariSynthesizer()
    voice = await synthesizer.open()
    said = np.concatenate([chunk async for chunk in voice.speak(AGENT_SAYS)])
    await synthesizer.aclose()
    return to_pcm(resample(said, voice.sample_rate_hz, LINE_RATE_HZ))


def _turned(agent: Pcm, number: int) -> Pcm:
    """The agent is elsewhere in its speech for each overlap."""
    return np.roll(agent, -number * LINE_RATE_HZ * 13 // 10)


async def judge(
    overlap: Overlap, agent: Pcm, ears: Ears, *, policy: BargeIn = "polite", knows_level: bool = True
) -> Judged:
    """One overlap over the agent's speech, from `BEFORE_S` on."""
    at = round(BEFORE_S * LINE_RATE_HZ)
    agent = np.resize(agent, at + len(overlap.pcm) + round(AFTER_S * LINE_RATE_HZ))
    stage = _Stage(heard_over(overlap, agent, at), at, agent, ears, policy)
    if knows_level:
        stage.judge.usual.hear(1.0, LEVEL_DBFS, VAD_WINDOW_SAMPLES)
    await stage.play()
    return Judged(
        overlap,
        _after(stage.ducked_at, at),
        _after(stage.stopped_at, at),
        tuple(stage.glimpses),
        stage.transcript,
        stage.ducked_before,
    )


def _after(moment: float | None, at: int) -> float | None:
    return None if moment is None else (moment - at) / LINE_RATE_HZ * 1000


class _Stage:
    """The caller's line, which carries the overlap from sample `at` on, and what listens to it, window by
    window. Moments are samples of the line."""

    def __init__(self, line: Pcm, at: int, agent: Pcm, ears: Ears, policy: BargeIn) -> None:
        self.judge = OverlapJudge(policy)
        self.glimpses: list[Glimpse] = []
        self.transcript = ""
        self.ducked_at: float | None = None
        self.ducked_before = False
        self.stopped_at: float | None = None
        self._line = line
        self._at = at
        self._agent = agent
        self._ears = ears
        self._echo = EchoMeter()
        self._due: list[tuple[float, Callable[[], Verdict]]] = []
        self._passed: int | None = None
        self._voice_end = 0

    async def play(self) -> None:
        stream = self._ears.detector.open()
        packet = AUDIO_FRAME_S * LINE_RATE_HZ
        for start in range(0, len(self._line) - VAD_WINDOW_SAMPLES + 1, VAD_WINDOW_SAMPLES):
            end = start + VAD_WINDOW_SAMPLES
            arrived = float(-(-end // packet) * packet)
            self._deliver(arrived)
            self._echo.played(self._agent[start:end], start)
            window = from_pcm(self._line[start:end])
            probability = float(self._ears.detector.probabilities([stream], window[None])[0])
            level_dbfs = 10 * float(np.log10(np.mean(window.astype(np.float64) ** 2) + 1e-12))
            echo = self._echo_share(end) if probability >= OFFSET_PROBABILITY else 0.0
            self._note(self.judge.hear(probability, level_dbfs, echo, start, end), arrived)
            if self.stopped_at is not None:
                return
            await self._listen(arrived, end)
        self._deliver(float("inf"))

    def _echo_share(self, end: int) -> float:
        start = max(0, end - ECHO_SEGMENT_SAMPLES)
        return self._echo.share(self._line[start:end], start)

    def _deliver(self, moment: float) -> None:
        """What has come back by then."""
        for when, answer in [each for each in self._due if each[0] <= moment]:
            self._note(answer(), when)
        self._due = [each for each in self._due if each[0] > moment]

    def _note(self, verdict: Verdict, moment: float) -> None:
        if verdict in ("undecided", "stop"):
            if moment < self._at:
                self.ducked_before = True
            elif self.ducked_at is None:
                self.ducked_at = moment
        if self.stopped_at is None and verdict == "stop":
            self.stopped_at = moment + AUDIO_FRAME_S * LINE_RATE_HZ

    async def _listen(self, moment: float, end: int) -> None:
        wanted = self.judge.wanted_glimpse()
        if wanted is not None:
            number, first, last = wanted
            glimpse = await self._ears.transcriber.glimpse(self._audio(first, last))
            self.glimpses.append(glimpse)
            self._later(moment, self._ears.glimpse_s, lambda: self.judge.glimpsed(number, glimpse))
        started = self.judge.start_sample
        if started is not None:
            self._passed = started if self.judge.verdict == "keep" else None
            self._voice_end = end
        elif self._passed is not None and (asked := self.judge.last_say()) is not None:
            self._passed = None
            heard = await self._ears.transcriber.transcribe(self._audio(*asked))
            self.transcript = heard.text
            self._later(moment, self._ears.transcription_s, lambda: self.judge.transcribed(heard.text))

    def _later(self, moment: float, seconds: float, answer: Callable[[], Verdict]) -> None:
        self._due.append((moment + seconds * LINE_RATE_HZ, answer))

    def _audio(self, start: int, end: int) -> Samples:
        return resample(from_pcm(self._line[start:end]), LINE_RATE_HZ, STT_RATE_HZ)


def report(judged: Sequence[Judged], glimpser: str, policy: BargeIn) -> Report:
    figures: dict[str, object] = {"policy": policy, "glimpser": glimpser}
    taking = [each for each in judged if each.overlap.kind in FLOOR_TAKERS]
    if taking:
        figures |= rate("yield_rate", sum(each.stop_ms is not None for each in taking), len(taking))
        figures |= _stops("stop", taking)
        at_once = [each for each in taking if takes_floor(each.overlap.text.split()[0])]
        figures |= _stops("stop_unlike_backchannels", at_once)
    for name, kinds in _KEPT.items():
        through = [each for each in judged if each.overlap.kind in kinds]
        if through:
            figures |= rate(name, sum(each.stop_ms is None for each in through), len(through))
    ducked = [each.duck_ms for each in judged if each.duck_ms is not None]
    figures |= spread("duck", ducked)
    figures |= rate("ducked_for_nothing", sum(each.ducked_before for each in judged), len(judged))
    noises = [each for each in judged if each.overlap.kind in _KEPT["noise_kept"]]
    if noises:
        figures |= rate("noise_ducked", sum(each.duck_ms is not None for each in noises), len(noises))
    wrong = [each for each in judged if each.overlap.takes_floor != (each.stop_ms is not None)]
    return Report(
        figures=figures,
        notes=[
            "stop: from the first voiced sample to the verdict and a packet more; glimpses and transcriptions"
            f" are taken to last {GLIMPSE_S * 1000:.0f} and {TRANSCRIPTION_S * 1000:.0f} ms.",
            "stop_unlike_backchannels: without those that begin with a listener's word (okay, yes, right),"
            " which only the next word tells apart.",
            f"ducked_for_nothing: in the {BEFORE_S:.0f} s of the agent's speech before the overlap, with the"
            " line's noise and echo.",
        ],
        details={
            "wrong": [_row(each) for each in wrong],
            "slow": [_row(each) for each in taking if each.stop_ms is not None and each.stop_ms > SLOW_MS],
        },
    )


SLOW_MS = 450.0


def _stops(name: str, judged: Sequence[Judged]) -> dict[str, float | int]:
    return spread(name, [each.stop_ms for each in judged if each.stop_ms is not None])


def _row(judged: Judged) -> dict[str, object]:
    return {
        "id": judged.overlap.id,
        "voice": judged.overlap.voice,
        "text": judged.overlap.text,
        "level_db": judged.overlap.level_db,
        "stop_ms": None if judged.stop_ms is None else round(judged.stop_ms),
        "glimpses": [f"{each.text} {each.speech:.2f}/{each.noise:.2f}" for each in judged.glimpses],
        "transcript": judged.transcript,
    }


def _outcome(judged: Judged) -> str:
    return "talks on" if judged.stop_ms is None else f"stops after {judged.stop_ms:.0f} ms"
