"""Who has the floor. Events in, actions out; no clock, no I/O, no tasks.

    LISTENING -speech-> CALLER -pause-> PAUSE -silence-> THINKING -audio-> SPEAKING -played-> LISTENING
                          ^----speech-----'                 |                 |
                          ^------speech (turn reopened)-----'                 |
                          ^------speech (barge-in)----------------------------'

At a pause the words so far are transcribed and a reply is begun behind a gate; `CommitTurn` opens the
gate. If the caller goes on, `DropAttempt` leaves no trace of it. A barge-in is always the three actions
CancelReply, ClearPlayout, TruncateReply, in that order. An event that a state does not know is ignored:
transcripts and replies of dropped attempts arrive late by nature.

Positions are samples of the caller's audio (8 kHz); `now` is monotonic seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.line import LINE_RATE_HZ, HangUpReason
from pipeline.persona import TurnTaking as TurnPolicy
from pipeline.playout import Playout
from pipeline.turn_events import (
    AttemptFailed,
    CancelReply,
    ClearPlayout,
    CommitTurn,
    DropAttempt,
    FinishReply,
    HangUp,
    NoteUtterance,
    PlayedOut,
    ReplyAudible,
    RetractTurn,
    SpeakStock,
    StartReply,
    Transcribe,
    Transcribed,
    TruncateReply,
    TurnAction,
    TurnEvent,
    Voice,
)

PREROLL_SAMPLES = LINE_RATE_HZ * 300 // 1000
"""Kept before a detected onset: soft first syllables come before the detector is sure."""
PIECE_SETTLES_SAMPLES = LINE_RATE_HZ * 15
"""A pause after this much speech closes a piece of a long turn."""
PIECE_LONGEST_SAMPLES = LINE_RATE_HZ * 25
"""Speech without any pause is cut here; Whisper's window is 30 s."""
DIP_SEARCH_SAMPLES = LINE_RATE_HZ * 5
NO_DIP = (2.0, 0)
SENTENCE_VOICED_SAMPLES = LINE_RATE_HZ * 600 // 1000
"""So much voice without a word that the transcriber trusts deserves a question, less is noise."""
DETECTOR_LAG_SAMPLES = LINE_RATE_HZ * 120 // 1000
"""How far the detector's last word may lie behind the clock: packet, window, tick and jitter."""
COMMIT_POLL_S = 0.02
STALL_PATIENCE_S = 2.0
"""A turn is over at last when the line brings nothing, not even silence."""
THINKING_PATIENCE_S = 20.0
"""A model that has said nothing by then will not: apologise."""
STALLED_PATIENCE_S = 10.0
"""A reply that breaks off for so long goes on no more: apologise. Shorter than before its first word: the
caller hears half a sentence, then nothing."""
CLOSING_PATIENCE_S = 20.0
"""A last sentence that is not played out by then is given up."""


class State(Enum):
    LISTENING = auto()
    CALLER = auto()
    PAUSE = auto()
    THINKING = auto()
    SPEAKING = auto()
    CLOSING = auto()
    ENDED = auto()


@dataclass(slots=True)
class _Attempt:
    number: int
    end_sample: int
    text: str | None = None
    reply_started: bool = False


@dataclass(slots=True)
class _Turn:
    """One caller's turn: closed pieces, then the piece that is still open."""

    piece_start: int
    settled: list[_Attempt] = field(default_factory=list)
    current: _Attempt | None = None
    committed: bool = False
    speech_end: int = 0
    """Where the last utterance ended that belongs to this turn."""
    voiced_samples: int = 0
    interrupts: bool = False
    """It began over the agent's voice, and cut it off."""

    def text(self) -> str | None:
        """The whole turn's words; None while a transcript is missing."""
        parts = [a.text for a in (*self.settled, *([self.current] if self.current else []))]
        return None if None in parts else " ".join(p for p in parts if p)

    def attempt(self, number: int) -> _Attempt | None:
        known = (*self.settled, *([self.current] if self.current else []))
        return next((a for a in known if a.number == number), None)


class TurnTaking:
    """Call `begin`, then `receive` every event; arm one timer at `next_deadline()` and call
    `handle_timer`. Obey the returned actions in their order."""

    def __init__(self, policy: TurnPolicy, playout: Playout, *, call_limit_s: float = 1800.0) -> None:
        self._policy = policy
        self._playout = playout
        self._call_limit_s = call_limit_s
        self._detector = UtteranceDetector(policy.pause_s)
        self._turn = _Turn(0)
        self._attempts = 0
        self._floor_sample = 0
        self._heard_to = 0
        self._pardoned = False
        self._dip = NO_DIP
        self._commit_at: float | None = None
        self._commit_latest = 0.0
        self._commit_sample = 0
        self._limit_at: float | None = None
        self._close_at: float | None = None
        self._answer_by: float | None = None
        self._closing_reason: HangUpReason = "goodbye"
        self.state = State.LISTENING
        self._table: dict[tuple[State, type], Callable[..., list[TurnAction]]] = {
            (State.LISTENING, SpeechStarted): self._turn_begins,
            (State.CALLER, SpeechStopped): self._pause,
            (State.PAUSE, SpeechStarted): self._caller_goes_on,
            (State.PAUSE, Transcribed): self._transcribed_in_pause,
            (State.PAUSE, AttemptFailed): self._failed,
            (State.CALLER, Transcribed): self._piece_transcribed,
            (State.CALLER, AttemptFailed): self._failed,
            (State.THINKING, Transcribed): self._transcribed_late,
            (State.THINKING, AttemptFailed): self._failed,
            (State.THINKING, ReplyAudible): self._audible,
            (State.SPEAKING, AttemptFailed): self._failed,
            (State.SPEAKING, PlayedOut): self._played_out,
            (State.CLOSING, PlayedOut): self._said_goodbye,
        }

    def begin(self, now: float) -> list[TurnAction]:
        """The line was answered: the agent greets."""
        self._limit_at = now + self._call_limit_s
        self.state = State.SPEAKING
        return [SpeakStock("greeting")]

    def receive(self, event: TurnEvent, now: float) -> list[TurnAction]:
        if isinstance(event, Voice):
            return self._voice(event, now)
        handler = self._table.get((self.state, type(event)))
        return handler(event, now) if handler else []

    def next_deadline(self) -> float | None:
        known = (self._commit_at, self._answer_by, self._continue_by(), self._limit_at, self._close_at)
        return min((d for d in known if d is not None), default=None)

    def _continue_by(self) -> float | None:
        """When a reply that has begun to sound is given up, unless more of it comes."""
        dry_since = self._playout.dry_since if self.state is State.SPEAKING else None
        return None if dry_since is None else dry_since + STALLED_PATIENCE_S

    def handle_timer(self, now: float) -> list[TurnAction]:
        actions: list[TurnAction] = []
        if self._commit_at is not None and now >= self._commit_at:
            actions += self._commit_if_silent(now)
        if self._answer_by is not None and now >= self._answer_by:
            self._answer_by = None
            if self.state is State.THINKING:
                actions += self.close("apology", "goodbye", now)
        continue_by = self._continue_by()
        if continue_by is not None and now >= continue_by:
            actions += self.close("apology", "goodbye", now)
        if self._limit_at is not None and now >= self._limit_at:
            actions += self.close("goodbye", "limit", now)
        if self._close_at is not None and now >= self._close_at:
            actions += self._closed(None, now)
        return actions

    def oldest_needed_sample(self) -> int:
        """Caller's audio before this position is never asked for again. What the detector has not judged
        yet is always needed: it may lag behind a burst."""
        if self.state in (State.CALLER, State.PAUSE, State.THINKING):
            return self._turn.piece_start
        start = self._detector.start_sample if self._detector.voiced_samples else self._heard_to
        return max(0, start - PREROLL_SAMPLES)

    # The caller's voice

    def _voice(self, event: Voice, now: float) -> list[TurnAction]:
        self._heard_to = event.end_sample
        change = self._detector.push(event.probability, event.start_sample, event.end_sample)
        actions: list[TurnAction] = []
        if change is not None:
            if isinstance(change, SpeechStopped):
                self._turn.voiced_samples += change.voiced_samples
                actions.append(NoteUtterance(change.start_sample, change.end_sample))
            handler = self._table.get((self.state, type(change)))
            if handler:
                actions += handler(change, now)
        if self.state is State.CALLER:
            actions += self._cut_if_long(event)
        elif self._takes_floor() and self.state is State.THINKING:
            actions += self._reopen_turn()
        elif self._takes_floor() and self.state is State.SPEAKING:
            actions += self._barge_in(now)
        return actions

    def _takes_floor(self) -> bool:
        return (
            self._detector.speaking
            and self._detector.voiced_samples >= self._policy.barge_in_s * LINE_RATE_HZ
        )

    def _turn_begins(self, *_: object) -> list[TurnAction]:
        start = max(self._floor_sample, self._detector.start_sample - PREROLL_SAMPLES)
        self._turn = _Turn(start)
        self.state = State.CALLER
        return []

    def _new_attempt(self, end_sample: int) -> Transcribe:
        self._attempts += 1
        self._turn.current = _Attempt(self._attempts, end_sample)
        follows = tuple(piece.number for piece in self._turn.settled)
        return Transcribe(self._attempts, self._turn.piece_start, end_sample, follows)

    def _pause(self, change: SpeechStopped, now: float) -> list[TurnAction]:
        pause_samples = round(self._policy.pause_s * LINE_RATE_HZ)
        self._commit_at = now + self._policy.endpoint_silence_s - self._policy.pause_s
        self._commit_sample = change.end_sample + round(self._policy.endpoint_silence_s * LINE_RATE_HZ)
        self._commit_latest = self._commit_at + STALL_PATIENCE_S
        self._turn.speech_end = change.end_sample
        self.state = State.PAUSE
        return [self._new_attempt(change.end_sample + pause_samples)]

    def _settle_piece(self) -> None:
        attempt = self._turn.current
        if attempt is not None:
            self._turn.settled.append(attempt)
            self._turn.piece_start = attempt.end_sample
            self._turn.current = None

    def _leave_attempt(self) -> list[TurnAction]:
        """The caller goes on behind the pause of the current attempt: its words are kept if they close a
        piece of a long turn, else they come again with the next attempt."""
        attempt = self._turn.current
        if attempt is None:
            return []
        # The silence since counts: the next piece must not outgrow the transcriber's window with it.
        if self._heard_to - self._turn.piece_start < PIECE_SETTLES_SAMPLES:
            self._turn.current = None
            return [DropAttempt(attempt.number)]
        self._settle_piece()
        if attempt.text is None:
            return []
        attempt.reply_started = False
        return [DropAttempt(attempt.number)]

    def _cut_if_long(self, event: Voice) -> list[TurnAction]:
        """Somebody who never pauses is cut where the voice was weakest lately: between two words."""
        length = event.end_sample - self._turn.piece_start
        if length < PIECE_LONGEST_SAMPLES - DIP_SEARCH_SAMPLES:
            self._dip = NO_DIP
            return []
        self._dip = min(self._dip, (event.probability, event.end_sample))
        if length < PIECE_LONGEST_SAMPLES:
            return []
        action = self._new_attempt(self._dip[1])
        self._settle_piece()
        return [action]

    def _caller_goes_on(self, *_: object) -> list[TurnAction]:
        self._commit_at = None
        self.state = State.CALLER
        return self._leave_attempt()

    # Words

    def _piece_transcribed(self, event: Transcribed, now: float) -> list[TurnAction]:
        attempt = self._turn.attempt(event.attempt)
        if attempt is not None:
            attempt.text = event.text
        return []

    def _transcribed_in_pause(self, event: Transcribed, now: float) -> list[TurnAction]:
        self._piece_transcribed(event, now)
        return self._start_reply()

    def _start_reply(self) -> list[TurnAction]:
        attempt, text = self._turn.current, self._turn.text()
        if attempt is None or not text or attempt.reply_started:
            return []
        attempt.reply_started = True
        return [StartReply(attempt.number, text)]

    def _commit_if_silent(self, now: float) -> list[TurnAction]:
        """Silence must have been heard, not only waited for: the network may have stalled."""
        if self._heard_to < self._commit_sample - DETECTOR_LAG_SAMPLES and now < self._commit_latest:
            self._commit_at = min(now + COMMIT_POLL_S, self._commit_latest)
            return []
        return self._commit(now)

    def _commit(self, now: float) -> list[TurnAction]:
        """The silence lasted: the floor is ours."""
        self._commit_at = None
        self._answer_by = now + THINKING_PATIENCE_S
        self.state = State.THINKING
        return self._commit_text()

    def _transcribed_late(self, event: Transcribed, now: float) -> list[TurnAction]:
        self._piece_transcribed(event, now)
        return [] if self._turn.committed else self._commit_text()

    def _commit_text(self) -> list[TurnAction]:
        attempt, text = self._turn.current, self._turn.text()
        if attempt is None or text is None:
            return []
        self._floor_sample = attempt.end_sample
        if not text:
            return [DropAttempt(attempt.number), *self._nobody_spoke()]
        self._turn.committed = True
        self._pardoned = False
        commit = CommitTurn(attempt.number, text, self._turn.speech_end)
        return [*self._start_reply(), commit]

    def _nobody_spoke(self) -> list[TurnAction]:
        """It was noise, or nothing that the transcriber trusts. Silence would leave both waiting for each
        other after a barge-in, or after what the detector took for a sentence: ask once."""
        self.state = State.LISTENING
        expects_answer = self._turn.interrupts or self._turn.voiced_samples >= SENTENCE_VOICED_SAMPLES
        if expects_answer and not self._pardoned and not self._detector.speaking:
            self._pardoned = True
            self.state = State.SPEAKING
            return [SpeakStock("pardon")]
        return self._take_up_utterance()

    def _take_up_utterance(self) -> list[TurnAction]:
        """Somebody may be in mid-utterance when the floor becomes free."""
        return self._turn_begins() if self._detector.speaking else []

    def _reopen_turn(self) -> list[TurnAction]:
        self.state = State.CALLER
        self._dip = NO_DIP
        actions: list[TurnAction] = [RetractTurn()] if self._turn.committed else []
        self._turn.committed = False
        return [*actions, *self._leave_attempt()]

    # The agent's voice

    def _audible(self, *_: object) -> list[TurnAction]:
        self.state = State.SPEAKING
        return []

    def _take_back(self, now: float) -> list[TurnAction]:
        return [CancelReply(), ClearPlayout(), TruncateReply(self._playout.heard_samples(now))]

    def _barge_in(self, now: float) -> list[TurnAction]:
        actions = [*self._take_back(now), *self._turn_begins()]
        self._turn.interrupts = True
        return actions

    def _played_out(self, *_: object) -> list[TurnAction]:
        self.state = State.LISTENING
        return [FinishReply(), *self._take_up_utterance()]

    # The end

    def _failed(self, event: AttemptFailed, now: float) -> list[TurnAction]:
        known = self._turn.attempt(event.attempt)
        return self.close("apology", "goodbye", now) if known else []

    def close(
        self, phrase: Literal["apology", "goodbye"], reason: HangUpReason, now: float
    ) -> list[TurnAction]:
        """Say a last sentence, then hang up: a limit, a shutdown, a fault."""
        self._commit_at = self._limit_at = None
        if self.state in (State.CLOSING, State.ENDED):
            return []
        self._closing_reason = reason
        self._close_at = now + CLOSING_PATIENCE_S
        self.state = State.CLOSING
        attempt = self._turn.current
        drop: list[TurnAction] = [DropAttempt(attempt.number)] if attempt and not self._turn.committed else []
        return [*drop, *self._take_back(now), SpeakStock(phrase)]

    def _said_goodbye(self, _: object, now: float) -> list[TurnAction]:
        return [FinishReply(), *self._closed(None, now)]

    def _closed(self, _: object, now: float) -> list[TurnAction]:
        self._close_at = None
        self.state = State.ENDED
        return [HangUp(self._closing_reason)]
