"""The simulated caller as a core without I/O: it plays its script against Twilio's side of the stream.

A shell (`simulator.shell`) sends what `begin`, `advance` and `receive` return, calls `advance` at
`next_deadline()`, and closes or aborts the socket once `finished`. Times are seconds since the stream
started. The script is a generator that yields one AudioFrame every 20 ms of media time.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.audible import Run, voiced_runs
from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from telephony import g711
from telephony.simulator.ear import Ear
from telephony.simulator.expect import Expect
from telephony.simulator.measure import (
    UTTERANCE_PAUSE_S,
    TurnMeasures,
    cuts_off,
    measure_turns,
    span,
    utterances,
)
from telephony.simulator.network import UpwardLeg
from telephony.simulator.noise import NoiseSource
from telephony.simulator.overlaps import OverlapKind, OverlapMeasures, measure_overlap
from telephony.simulator.scenario import (
    Backchannel,
    Drop,
    Echo,
    HangUp,
    Interrupt,
    Keys,
    Listen,
    Play,
    Say,
    Scenario,
    Sound,
    Step,
    Wait,
)
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide

TURN_PAUSE_S = 2.0
"""A shorter `wait` between two lines is a pause inside one turn, a longer one begins the next turn."""
KEY_S = 0.2
"""From one key to the next."""
AGENT_FINISHED_S = 2.0
"""An agent that has been silent for so long has nothing left to be overlapped."""
STILL_AUDIBLE_S = 0.06
"""An overlap begins at most so long after a voiced sample of the agent: in its speech, not in its pauses."""

_GOOD_CLOSE_CODES = (1000, 1001, 1005)
"""RFC 6455 section 7.4.1: normal, going away, no code given."""

Ending = Literal["caller hung up", "agent hung up", "connection dropped"]

_SILENCE = bytes((g711.SILENCE,)) * AUDIO_FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class Speech:
    """One line, ready to be sent. `audio_frames` are mu-law, 160 bytes each."""

    text: str
    audio_frames: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str, pcm: Pcm) -> "Speech":
        """From (n,) int16 at 8 kHz."""
        mulaw = g711.encode(pcm)
        mulaw += bytes((g711.SILENCE,)) * (-len(mulaw) % AUDIO_FRAME_SAMPLES)
        return cls(
            text,
            tuple(mulaw[at : at + AUDIO_FRAME_SAMPLES] for at in range(0, len(mulaw), AUDIO_FRAME_SAMPLES)),
        )


@dataclass(slots=True)
class CallerTurn:
    """What the caller said in one go; [start, stop) are samples of its own channel."""

    text: str
    interrupts: bool
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class CallerOverlap:
    """What the caller let sound over the agent; [start, stop) are samples of its own channel, none if it was
    not spoken. Not `placed`: the agent was not audible. `turn` is the number of the turn that it began (an
    interruption), else of the one before it, -1 if there was none."""

    kind: OverlapKind
    text: str
    placed: bool
    start: int
    stop: int
    turn: int


class Referent(NamedTuple):
    """What an `expect` is about: the number of a turn (-1: what the agent said before the first) and, if an
    overlap stands just before it, of that."""

    turn: int
    overlap: int | None


@dataclass(frozen=True, slots=True)
class StreamDrop:
    """The server closed a stream at `lost_s`; at `reopened_s` the call went on with another one, None if it
    did not. Seconds of the call."""

    lost_s: float
    reopened_s: float | None = None


class _Upward(NamedTuple):
    """Something on its way to the edge."""

    at_s: float
    deliver: Callable[[float], str]
    """Given the time of arrival, the message for the server."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """The finished call in two channels, (n,) int16 at 8 kHz each, and its turns measured at both places."""

    caller: Pcm
    agent: Pcm
    turns: tuple[CallerTurn, ...]
    at_ear: tuple[TurnMeasures, ...]
    at_edge: tuple[TurnMeasures, ...]
    cut_off: tuple[bool, ...] = ()
    """For each turn: the agent began to speak within it, at the edge."""
    overlaps: tuple[CallerOverlap, ...] = ()
    overlap_onset_s: tuple[float, ...] = ()
    """First voiced sample of each overlap, in the caller's channel."""
    at_overlap: tuple[OverlapMeasures | None, ...] = ()
    """At the edge; None for what was not placed."""

    @property
    def duration_s(self) -> float:
        return len(self.caller) / LINE_RATE_HZ


class Caller:
    def __init__(
        self,
        scenario: Scenario,
        speeches: Mapping[int, Speech],
        twilio: TwilioSide,
        *,
        outlives_streams: bool = False,
    ) -> None:
        """`speeches` holds the audio of every step that speaks, by the number of the step from 0.
        `outlives_streams`: when the server closes the stream, somebody says whether the call goes on
        (`reopen`) or is over (`hung_up_on`)."""
        self.scenario = scenario
        self.twilio = twilio
        self.drops: list[StreamDrop] = []
        """Streams that the server closed, in order."""
        self._outlives_streams = outlives_streams
        self.turns: list[CallerTurn] = []
        self.overlaps: list[CallerOverlap] = []
        self.referents: dict[int, Referent] = {}
        """What each `expect` is about, by the number of its step; those never reached are missing."""
        self.ending: Ending | None = None
        self.finished = False
        """Nothing is left to do but to close the socket (or to abort it, after "connection dropped")."""
        self.waits = False
        """No stream is open; see `outlives_streams`."""
        network = scenario.network.model()
        self._ear = Ear(twilio.playback, network)
        self._ear_delay_s = network.ear_delay_s
        self._leg = UpwardLeg(network)
        self._upward: deque[_Upward] = deque()
        self._noise = NoiseSource(scenario.noise) if scenario.noise else None
        self._echo = _EchoSource(scenario.echo, self._ear) if scenario.echo else None
        self._sent: list[bytes] = []
        self._spoken: list[bytes] = []
        self._edge_shift: list[int] = []
        self._speeches = speeches
        self._script: Iterator[bytes] | None = self._perform(scenario.steps)
        self._pause_s = TURN_PAUSE_S
        self._overlapped_s = -1.0
        self._last_overlap: int | None = None
        self._end_s = 0.0

    @property
    def now_s(self) -> float:
        """When the AudioFrame that the script is about to speak begins."""
        return len(self._sent) * AUDIO_FRAME_S

    @property
    def hears_since_s(self) -> float | None:
        """Since when the agent has been heard after the caller's last word; None: not yet."""
        return self._ear.audible_since_s

    def begin(self) -> list[str]:
        return self.twilio.open()

    def reopen(self, identity: StreamIdentity, now_s: float) -> list[str]:
        """The call goes on with another stream. What the caller said meanwhile has reached nobody."""
        self.advance(now_s)
        self.twilio.begin(identity)
        self.drops[-1] = replace(self.drops[-1], reopened_s=now_s)
        self.waits = False
        return self.twilio.open()

    def hung_up_on(self) -> None:
        """The call was over when the last stream was closed."""
        self.waits, self.finished = False, True
        if self.ending is None:
            self._end("agent hung up", self.drops[-1].lost_s + self._ear_delay_s)

    def next_deadline(self) -> float:
        deadline = self.now_s if self._script is not None else float("inf")
        if self._upward:
            deadline = min(deadline, self._upward[0].at_s)
        mark = self.twilio.next_deadline()
        return deadline if mark is None else min(deadline, mark)

    def receive(self, message: str | bytes, now_s: float) -> list[str]:
        return self.twilio.receive(message, now_s)

    def advance(self, now_s: float) -> list[str]:
        """Speak, hear and deliver everything up to `now_s`; returns the messages to send, in order."""
        while self._script is not None and self.now_s <= now_s:
            self._speak(self._script)
        messages = self.twilio.advance(now_s)
        while self._upward and self._upward[0].at_s <= now_s and not self.finished:
            messages.append(self._upward.popleft().deliver(now_s))
        return messages

    def closed(self, now_s: float, code: int = 1000, reason: str = "") -> None:
        """The server closed the socket. What Twilio still had buffered is taken to be dropped
        (unverified)."""
        if self.finished or self.waits:
            return
        self.twilio.playback.drop(now_s)
        self.twilio.stopped = True
        if code not in _GOOD_CLOSE_CODES:
            why = f": {reason}" if reason else ""
            self.twilio.violations.append(
                f"at {now_s:.3f} s: the server closed the stream with code {code}{why}"
            )
        self.drops.append(StreamDrop(now_s))
        self.waits = True
        if not self._outlives_streams:
            self.hung_up_on()

    def hearing(self) -> Hearing:
        """The recording as the caller's ear has it, and what was measured in it. Call it when `finished`."""
        samples = max(round(self._end_s * LINE_RATE_HZ), len(self._sent) * AUDIO_FRAME_SAMPLES)
        agent = self._ear.recording(samples)
        spoken = _channel(self._spoken, samples)
        turns = [Run(turn.start, turn.stop) for turn in self.turns]
        at_edge = g711.decode(bytes(self.twilio.playback.timeline))
        sounds = voiced_runs(spoken)
        speech = utterances(voiced_runs(at_edge))
        onsets = [self._voiced(sounds, overlap) for overlap in self.overlaps]
        at_overlap = tuple(
            self._measure_overlap(number, onsets, at_edge, speech) for number in range(len(onsets))
        )
        silent_from = {
            overlap.turn: measures.silent_from
            for overlap, measures in zip(self.overlaps, at_overlap, strict=True)
            if overlap.kind == "interrupt" and measures is not None
        }
        cut_off = []
        for number, turn in enumerate(turns):
            voiced = span(sounds, turn)
            within = voiced and Run(self._at_edge(voiced.start), self._at_edge(voiced.stop - 1) + 1)
            cut_off.append(within is not None and cuts_off(speech, within, silent_from.get(number)))
        return Hearing(
            caller=_channel(self._sent, samples),
            agent=agent,
            turns=tuple(self.turns),
            at_ear=tuple(measure_turns(spoken, agent, turns)),
            at_edge=tuple(measure_turns(spoken, at_edge, turns, self._at_edge)),
            cut_off=tuple(cut_off),
            overlaps=tuple(self.overlaps),
            overlap_onset_s=tuple(onset.start / LINE_RATE_HZ for onset in onsets),
            at_overlap=at_overlap,
        )

    def _voiced(self, sounds: list[Run], overlap: CallerOverlap) -> Run:
        """From the overlap's first voiced sample to its last; all of it where it is too soft for that."""
        whole = Run(overlap.start, overlap.stop)
        return span(sounds, whole) or whole

    def _measure_overlap(
        self, number: int, onsets: list[Run], at_edge: Pcm, speech: list[Run]
    ) -> OverlapMeasures | None:
        overlap, voiced = self.overlaps[number], onsets[number]
        if not overlap.placed:
            return None
        begins = [turn.start for turn in self.turns]
        begins += [other.start for other in self.overlaps if other.placed]
        following = min((start for start in begins if start >= overlap.stop), default=None)
        return measure_overlap(
            self.twilio.playback,
            at_edge,
            speech,
            Run(self._at_edge(voiced.start), self._at_edge(voiced.stop - 1) + 1),
            None if following is None else self._at_edge(following),
            overlap.kind,
        )

    def _at_edge(self, sample: int) -> int:
        """Where a sample of the caller lies on the edge's time axis: as its AudioFrame arrived there."""
        number = sample // AUDIO_FRAME_SAMPLES
        if number < len(self._edge_shift):
            return sample + self._edge_shift[number]
        return sample + round(self.scenario.network.model().delay_s * LINE_RATE_HZ)

    def _speak(self, script: Iterator[bytes]) -> None:
        self._ear.listen(self.now_s)
        spoken = next(script, None)
        if spoken is None:
            self._script = None
            return
        number = len(self._sent)
        sent = self._mixed(spoken, number) if self._noise or self._echo else spoken
        self._spoken.append(spoken)
        self._sent.append(sent)
        arrival = self._leg.carry(self.now_s)
        self._send_up(arrival.at_s, partial(self._arrive, _SILENCE if arrival.lost else sent, number))

    def _mixed(self, spoken: bytes, number: int) -> bytes:
        """What the microphone hears: the speech, the echo and the noise."""
        mixed = g711.decode(spoken).astype(np.float64)
        if self._echo:
            mixed += self._echo.audio_frame(number)
        if self._noise:
            mixed += self._noise.next()
        return g711.encode(np.clip(mixed, -32_768, 32_767).astype(np.int16))

    def _send_up(self, at_s: float, deliver: Callable[[float], str]) -> None:
        self._upward.append(_Upward(at_s, deliver))

    def _arrive(self, mulaw: bytes, number: int, now_s: float) -> str:
        self._edge_shift.append(round((now_s - (number + 1) * AUDIO_FRAME_S) * LINE_RATE_HZ))
        return self.twilio.media(mulaw, number * AUDIO_FRAME_SAMPLES * 1000 // LINE_RATE_HZ)

    def _press(self, digit: str, _now_s: float) -> str:
        return self.twilio.dtmf(digit)

    def _stop(self, now_s: float) -> str:
        self.finished = True
        self.twilio.playback.drop(now_s)
        return self.twilio.stop()

    def _end(self, ending: Ending, at_s: float) -> None:
        self.ending, self._end_s, self._script = ending, at_s, None

    def _perform(self, steps: tuple[Step, ...]) -> Iterator[bytes]:
        for number, step in enumerate(steps):
            match step:
                case Listen():
                    yield from self._listen(step)
                    self._pause_s = TURN_PAUSE_S
                case Say() | Play():
                    yield from self._say(self._speeches[number], interrupts=False)
                case Interrupt():
                    yield from self._until_audible_for(step.after_s, step.timeout_s)
                    self._pause_s = TURN_PAUSE_S
                    last_s = self._ear.last_audible_s
                    placed = last_s is not None and self.now_s - last_s < UTTERANCE_PAUSE_S
                    self._overlap("interrupt", self._speeches[number], len(self.turns), placed=placed)
                    yield from self._say(self._speeches[number], interrupts=True)
                case Backchannel() | Sound():
                    yield from self._over_the_agent(step, self._speeches[number])
                case Wait():
                    yield from self._wait(step.seconds)
                    self._pause_s += step.seconds
                case Keys():
                    for digit in step.digits:
                        self._send_up(self._leg.carry(self.now_s).at_s, partial(self._press, digit))
                        yield from self._wait(KEY_S)
                    self._ear.forget(self.now_s)
                case Expect():
                    self.referents[number] = Referent(len(self.turns) - 1, self._last_overlap)
                case HangUp():
                    break
                case Drop():
                    self.finished = self.twilio.stopped = True
                    self.twilio.playback.drop(self.now_s)
                    self._end("connection dropped", self.now_s)
                    return
        self._send_up(self._leg.carry(self.now_s).at_s, self._stop)
        self._end("caller hung up", self.now_s)

    def _say(self, speech: Speech, *, interrupts: bool) -> Iterator[bytes]:
        start, stop = self._span(speech)
        if not interrupts:
            self._last_overlap = None
        if self._pause_s < TURN_PAUSE_S and self.turns:
            turn = self.turns[-1]
            turn.text, turn.stop = f"{turn.text} {speech.text}".strip(), stop
        else:
            self.turns.append(CallerTurn(speech.text, interrupts, start, stop))
        yield from speech.audio_frames
        self._ear.forget(self.now_s)
        self._pause_s = 0.0

    def _span(self, speech: Speech) -> tuple[int, int]:
        start = len(self._sent) * AUDIO_FRAME_SAMPLES
        return start, start + len(speech.audio_frames) * AUDIO_FRAME_SAMPLES

    def _overlap(self, kind: OverlapKind, speech: Speech, turn: int, *, placed: bool) -> None:
        start, stop = self._span(speech)
        if not placed and kind != "interrupt":
            stop = start
        self._last_overlap = len(self.overlaps)
        self.overlaps.append(CallerOverlap(kind, speech.text, placed, start, stop, turn))

    def _over_the_agent(self, step: Backchannel | Sound, speech: Speech) -> Iterator[bytes]:
        placed = yield from self._while_audible(step.after_s, step.timeout_s)
        self._overlap(step.kind, speech, len(self.turns) - 1, placed=placed)
        self._pause_s = TURN_PAUSE_S
        if placed:
            yield from speech.audio_frames
            self._overlapped_s = self.now_s

    def _wait(self, seconds: float) -> Iterator[bytes]:
        for _ in range(round(seconds / AUDIO_FRAME_S)):
            yield _SILENCE

    def _listen(self, step: Listen) -> Iterator[bytes]:
        gives_up_s = self.now_s + step.timeout_s
        while True:
            last_s = self._ear.last_audible_s
            if last_s is None and self.now_s >= gives_up_s:
                return
            if last_s is not None and self.now_s - last_s >= step.pause_s:
                return
            yield _SILENCE

    def _until_audible_for(self, after_s: float, timeout_s: float) -> Iterator[bytes]:
        gives_up_s = self.now_s + timeout_s
        while True:
            since_s = self._ear.audible_since_s
            if since_s is None and self.now_s >= gives_up_s:
                return
            if since_s is not None and self.now_s - max(since_s, self._overlapped_s) >= after_s:
                return
            yield _SILENCE

    def _while_audible(self, after_s: float, timeout_s: float) -> Generator[bytes, None, bool]:
        """As above, but True only while the agent sounds; False when it does not, or no more."""
        gives_up_s = self.now_s + timeout_s
        while True:
            since_s, last_s = self._ear.audible_since_s, self._ear.last_audible_s
            if since_s is None or last_s is None:
                if self.now_s >= gives_up_s:
                    return False
            elif self.now_s - last_s >= AGENT_FINISHED_S:
                return False
            elif (
                self.now_s - last_s <= STILL_AUDIBLE_S
                and self.now_s - max(since_s, self._overlapped_s) >= after_s
            ):
                return True
            yield _SILENCE


class _EchoSource:
    """The agent's voice from the caller's ear to its microphone."""

    def __init__(self, echo: Echo, ear: Ear) -> None:
        self._ear = ear
        self._gain = 10 ** (echo.level_db / 20)
        self._delay_samples = round(echo.delay_ms * LINE_RATE_HZ / 1000)

    def audio_frame(self, number: int) -> NDArray[np.float64]:
        """(160,) in units of int16."""
        start = number * AUDIO_FRAME_SAMPLES - self._delay_samples
        heard = g711.decode(self._ear.heard(start, start + AUDIO_FRAME_SAMPLES))
        return heard.astype(np.float64) * self._gain


def _channel(audio_frames: list[bytes], samples: int) -> Pcm:
    mulaw = b"".join(audio_frames)[:samples]
    return g711.decode(mulaw + bytes((g711.SILENCE,)) * (samples - len(mulaw)))
