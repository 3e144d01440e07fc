"""What the turn-taking core is told, and what it answers.

Positions are samples of the caller's audio (8 kHz).
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.line import HangUpReason

# Events


@dataclass(frozen=True, slots=True)
class Voice:
    """The detector's probability for the window [start_sample, end_sample)."""

    probability: float
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class Transcribed:
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """Transcription or reply of `attempt` raised."""

    attempt: int


@dataclass(frozen=True, slots=True)
class ReplyAudible:
    """The first audio of the committed reply, or of a stock phrase, was queued for playout."""


@dataclass(frozen=True, slots=True)
class PlayedOut:
    """The reply is complete and the caller heard all of it."""


TurnEvent = Voice | Transcribed | AttemptFailed | ReplyAudible | PlayedOut

# Actions


@dataclass(frozen=True, slots=True)
class Transcribe:
    attempt: int
    start_sample: int
    end_sample: int
    follows: tuple[int, ...] = ()
    """Attempts that hold the earlier pieces of the same turn, in order."""


@dataclass(frozen=True, slots=True)
class StartReply:
    """Begin the reply to `text` behind the gate of `attempt`."""

    attempt: int
    text: str


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
    phrase: Literal["greeting", "pardon", "apology", "goodbye"]


@dataclass(frozen=True, slots=True)
class HangUp:
    reason: HangUpReason


@dataclass(frozen=True, slots=True)
class NoteUtterance:
    """For the record: the caller was voiced from `start_sample` to `end_sample`."""

    start_sample: int
    end_sample: int


TurnAction = (
    NoteUtterance
    | Transcribe
    | StartReply
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
