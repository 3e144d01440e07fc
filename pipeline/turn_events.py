"""What the turn-taking core is told, and what it answers.

Positions are samples of the caller's audio (8 kHz).
"""

from dataclasses import dataclass
from typing import Literal

from models.base import Glimpse
from pipeline.line import HangUpReason

StockPhrase = Literal["greeting", "pardon", "still_there", "last_minute", "apology", "goodbye"]
"""What the agent says without being asked; a persona's field of the same name holds the words."""

# Events


@dataclass(frozen=True, slots=True)
class Voice:
    """The detector's probability for the window [start_sample, end_sample)."""

    probability: float
    start_sample: int
    end_sample: int
    level_dbfs: float = -20.0
    """RMS of the window; 0 dBFS is 32,768."""
    echo: float = 0.0
    """Share of the latest sound that is our own voice come back, 0..1."""
    own_voice_near: bool = False
    """The agent sounded so lately that its echo may be in the window."""


@dataclass(frozen=True, slots=True)
class Transcribed:
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """Transcription or reply of `attempt` raised."""

    attempt: int


@dataclass(frozen=True, slots=True)
class TurnEndGuessed:
    """The language model's probability that the turn ends with the words of `attempt`."""

    attempt: int
    probability: float


@dataclass(frozen=True, slots=True)
class PartTranscribed:
    """The words of `TranscribePart`, or None when they were not to be had."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Glimpsed:
    """What `TakeGlimpse(number)` saw; None when it failed."""

    number: int
    glimpse: Glimpse | None


@dataclass(frozen=True, slots=True)
class ReplyAudible:
    """The first audio of the committed reply, or of a stock phrase, was queued for playout."""


@dataclass(frozen=True, slots=True)
class PlayedOut:
    """The reply is complete and the caller heard all of it."""


@dataclass(frozen=True, slots=True)
class KeyTouched:
    """The caller pressed `digit`."""

    digit: str


@dataclass(frozen=True, slots=True)
class ToolBegan:
    """The reply of `attempt` waits for a tool. With `side_effects` the turn cannot be taken back any more.
    While it `holds_floor`, voices and keys do not count."""

    attempt: int
    side_effects: bool
    holds_floor: bool


@dataclass(frozen=True, slots=True)
class ToolEnded:
    attempt: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """The reply of `attempt` is the agent's last, unless the caller takes the floor again."""

    attempt: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Somebody else has the caller: there is nothing more to say or to wait for."""


TurnEvent = (
    Voice
    | Transcribed
    | TurnEndGuessed
    | PartTranscribed
    | Glimpsed
    | AttemptFailed
    | ReplyAudible
    | PlayedOut
    | KeyTouched
    | ToolBegan
    | ToolEnded
    | Leaving
    | HandedOver
)

# Actions


@dataclass(frozen=True, slots=True)
class Transcribe:
    attempt: int
    start_sample: int
    end_sample: int
    follows: tuple[int, ...] = ()
    """Attempts that hold the earlier pieces of the same turn, in order."""


@dataclass(frozen=True, slots=True)
class TranscribePart:
    """Hear what there is of a turn while the caller still speaks, for `Prefill`; or what somebody said over
    the agent. `PartTranscribed` answers, unless a `Transcribe` comes first."""

    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """The turn in hand begins with `text`: the language model may evaluate it ahead."""

    text: str


@dataclass(frozen=True, slots=True)
class TakeGlimpse:
    """Judge the voice that has just begun over the agent's. `Glimpsed(number, ...)` answers, always."""

    number: int
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class Duck:
    """The caller makes a sound: the agent goes on more quietly until it is known what it is."""


@dataclass(frozen=True, slots=True)
class Restore:
    """It was nothing that takes the floor: the agent goes on at full level, in the same word."""


@dataclass(frozen=True, slots=True)
class StartReply:
    """Begin the reply to `text` behind the gate of `attempt`. `chosen`: it begins with this action of the
    persona's menu of keys."""

    attempt: int
    text: str
    chosen: str = ""


@dataclass(frozen=True, slots=True)
class ResumeReply:
    """The call goes on after it was lost: say so, and what the caller has not heard of the reply that was
    under way. It is `attempt` from now on, and stands."""

    attempt: int


@dataclass(frozen=True, slots=True)
class CommitTurn:
    """The turn is over: `text` enters the history and the gate of `attempt` opens."""

    attempt: int
    text: str
    speech_end_sample: int


@dataclass(frozen=True, slots=True)
class DropAttempt:
    """Stop transcription and reply of `attempt` without trace."""

    attempt: int


@dataclass(frozen=True, slots=True)
class RetractTurn:
    """The caller goes on before hearing anything: the committed words leave the history; they come
    again, with what follows, in a later `CommitTurn`."""


@dataclass(frozen=True, slots=True)
class CancelReply:
    pass


@dataclass(frozen=True, slots=True)
class ClearPlayout:
    pass


@dataclass(frozen=True, slots=True)
class TruncateReply:
    """The history keeps what the caller heard: `heard_samples` of the passage."""

    heard_samples: int


@dataclass(frozen=True, slots=True)
class FinishReply:
    """The whole reply was heard; it enters the history as it was said."""


@dataclass(frozen=True, slots=True)
class SpeakStock:
    phrase: StockPhrase


@dataclass(frozen=True, slots=True)
class HangUp:
    reason: HangUpReason


@dataclass(frozen=True, slots=True)
class NoteUtterance:
    """For the record: the caller was voiced from `start_sample` to `end_sample`."""

    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class NoteKeys:
    """For the record: the caller's keys made a number, or a choice."""

    digits: str
    by: Literal["terminator", "length", "silence", "menu"]


TurnAction = (
    NoteUtterance
    | NoteKeys
    | Transcribe
    | TranscribePart
    | Prefill
    | TakeGlimpse
    | Duck
    | Restore
    | StartReply
    | ResumeReply
    | CommitTurn
    | DropAttempt
    | RetractTurn
    | CancelReply
    | ClearPlayout
    | TruncateReply
    | FinishReply
    | SpeakStock
    | HangUp
)
