"""What a call tells about itself while it happens, to recorders, transcripts, timelines and pages.

Times `at_s` are seconds on the call's own clock: 0 is the moment the line was answered, and the
caller's audio sample n arrived at about n / 8000. Observers must not block and must not raise.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from pipeline.line import LineInfo, Pcm
from pipeline.tools.running import Outcome


@dataclass(frozen=True, slots=True)
class CallStarted:
    """`resumed`: the call goes on here after its process was lost, or its line. `at_s` and everything that
    follows stands on the clock that it had before, and turns are counted on."""

    at_s: float
    line: LineInfo
    persona: str
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """The caller's samples, told ten times a second; the first sample stands at `start_sample` of the call (8
    kHz). `gaps_s`: how long after the one before it each packet in it came; none for the call's first."""

    start_sample: int
    pcm: Pcm
    gaps_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """Agent's samples that were played to the caller, placed on the caller's sample clock. Never
    overlaps what was reported before; what a `clear` discarded is never reported. `gaps_s`: how long after
    one another packets of speech were sent since the last of these events, within a passage without a pause
    and behind its lead."""

    start_sample: int
    pcm: Pcm
    gaps_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerSpeaks:
    """The caller's voice is there, by the voice detector; and again, with the words of the turn so far, as
    they are understood while the caller speaks. For whoever looks on: the words may still change, and what
    counts is `CallerTurn`. Recorders keep none of it."""

    at_s: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class CallGoesOn:
    """Whatever decides in the call still does, told every ten seconds while the line brings sound: that comes
    into a call that hangs, too. For whoever watches over calls; recorders keep none of it."""

    at_s: float


@dataclass(frozen=True, slots=True)
class CallerSpoke:
    """One utterance by the voice detector: voiced from `start_s` to `end_s`."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class CallerTurn:
    """A turn ended. It comes again under the same number, with more words, when the caller goes on before
    hearing an answer. Stages of the wait are in `TurnTimes`."""

    at_s: float
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class TurnTimes:
    """When each stage of one turn was reached, on the call's clock; None where it never was.

    `speech_end_s` end of the caller's voice by the detector; `audible_end_s` the same by a level meter, when
    that sample arrived; `transcribed_s` words ready; `committed_s` turn declared over; `first_token_s`,
    `first_clause_s`, `first_audio_s` of the reply; `first_played_s` first sample of the reply leaves for the
    caller; `first_audible_s` the first one that a level meter sees.
    """

    turn: int
    speech_end_s: float | None = None
    audible_end_s: float | None = None
    transcribe_started_s: float | None = None
    transcribed_s: float | None = None
    committed_s: float | None = None
    first_token_s: float | None = None
    first_clause_s: float | None = None
    first_audio_s: float | None = None
    first_played_s: float | None = None
    first_audible_s: float | None = None

    def stages_ms(self) -> dict[str, float]:
        """What the caller waited for, from `audible_end_s` to `first_audible_s`; the parts add up to exactly
        that. Work that was done while the silence still had to last counts as that work, and only what the
        silence cost beyond it as `endpoint_wait`. Empty for what was not an answer to the caller's words."""
        end, audible = self.audible_end_s, self.first_audible_s
        begun, heard, token = self.transcribe_started_s, self.transcribed_s, self.first_token_s
        clause, audio, over = self.first_clause_s, self.first_audio_s, self.committed_s
        if end is None or audible is None or begun is None or heard is None or token is None:
            return {}
        if clause is None or audio is None or over is None:
            return {}
        ready = max(audio, over)
        stages = {
            "endpoint_wait": (begun - end) + (ready - audio),
            "transcription": heard - begun,
            "first_token": token - heard,
            "first_clause": clause - token,
            "first_audio": audio - clause,
            "playout": audible - ready,
        }
        return {f"{name}_ms": round(1000 * seconds, 1) for name, seconds in stages.items()}


@dataclass(frozen=True, slots=True)
class AgentClause:
    """A clause was handed to playout. `filler`: it bridges a wait, or says that the line had dropped, and is
    no part of the answer."""

    at_s: float
    turn: int
    text: str
    filler: bool = False


@dataclass(frozen=True, slots=True)
class AgentClauseHeard:
    """The caller has heard the next clause, fillers included, to its end, while its reply still goes on:
    clauses are heard in the order in which they were handed over. Of a call whose process is lost, this tells
    where another goes on; clauses that were not heard then are handed over anew."""

    at_s: float
    turn: int


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """A reply is over. `text` is what the model said, `heard` the part the caller heard."""

    at_s: float
    turn: int
    text: str
    heard: str
    interrupted: bool
    times: TurnTimes


@dataclass(frozen=True, slots=True)
class AgentTurnedDown:
    """The agent goes on more quietly, `down`, because the caller made a sound; or at full level again."""

    at_s: float
    down: bool


@dataclass(frozen=True, slots=True)
class KeyReceived:
    at_s: float
    digit: str


@dataclass(frozen=True, slots=True)
class KeysEntered:
    """The keys of the caller made a number, or chose from the menu. `by`: "terminator", "length" or "silence"
    ended the number; "menu"."""

    at_s: float
    digits: str
    by: Literal["terminator", "length", "silence", "menu"]


@dataclass(frozen=True, slots=True)
class ToolRan:
    """A tool was used, or one that the model asked for was refused. `name` is "" when what it wrote was no
    call; `result` the beginning of what the model was shown, `detail` what went wrong, for the operator. A
    tool that outlasts its turn reports when it is through."""

    at_s: float
    turn: int
    name: str
    arguments: dict[str, object]
    outcome: Outcome
    seconds: float
    result: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MessageTaken:
    """The caller left a message. `number` is what the caller said, or else the caller's own."""

    at_s: float
    turn: int
    name: str
    number: str
    text: str


@dataclass(frozen=True, slots=True)
class CallTransferred:
    """Somebody else has the caller: `name` of the persona's list, which stands for `target`."""

    at_s: float
    turn: int
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class RecordingPaused:
    """From here until `RecordingResumed` neither side's audio and words are to be kept: a card number, say.
    `why` is for the operator."""

    at_s: float
    why: str


@dataclass(frozen=True, slots=True)
class RecordingResumed:
    at_s: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something failed and the call coped or ended; `detail` is for the operator."""

    at_s: float
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    at_s: float
    reason: str
    outcome: Literal["completed", "failed"]
    counters: dict[str, int] = field(default_factory=dict)


CallEvent = (
    CallStarted
    | CallerAudio
    | AgentAudio
    | CallerSpeaks
    | CallGoesOn
    | CallerSpoke
    | CallerTurn
    | AgentClause
    | AgentClauseHeard
    | AgentTurn
    | AgentTurnedDown
    | KeyReceived
    | KeysEntered
    | ToolRan
    | MessageTaken
    | CallTransferred
    | RecordingPaused
    | RecordingResumed
    | Fault
    | CallEnded
)


class CallObserver(Protocol):
    def observe(self, event: CallEvent) -> None: ...


class Unobserved:
    """Keeps nothing."""

    def observe(self, event: CallEvent) -> None:
        return None


class Observers:
    """Several, told in their order."""

    def __init__(self, *observers: CallObserver) -> None:
        told = [each._observers if isinstance(each, Observers) else (each,) for each in observers]
        self._observers: tuple[CallObserver, ...] = tuple(each for some in told for each in some)

    def observe(self, event: CallEvent) -> None:
        for observer in self._observers:
            observer.observe(event)
