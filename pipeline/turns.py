"""Who has the floor. Events in, actions out; no clock, no I/O, no tasks.

    LISTENING -speech-> CALLER -pause-> PAUSE -silence-> THINKING -audio-> SPEAKING -played-> LISTENING
                          ^----speech-----'                 |                 |
                          ^------speech (turn reopened)-----'                 |
                          ^------speech (barge-in)----------------------------'

At a pause the words so far are transcribed and a reply is begun behind a gate; `CommitTurn` opens the
gate. If the caller goes on, `DropAttempt` leaves no trace of it. A voice over the agent's first turns it down
(`Duck`); `pipeline.overlap` judges, and then comes `Restore` or a barge-in, which is always the three actions
CancelReply, ClearPlayout, TruncateReply, in that order. An event that a state does not know is ignored:
transcripts and replies of dropped attempts arrive late by nature.

Positions are samples of the caller's audio (8 kHz); `now` is monotonic seconds.
"""

import math
from collections.abc import Callable
from enum import Enum, auto
from typing import Literal

from pipeline.caller_turn import PIECE_LONGEST_SAMPLES, PIECE_SETTLES_SAMPLES, Attempt, CallerTurn
from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.keys import Chosen, Entered, KeyPad, KeySettings
from pipeline.line import LINE_RATE_HZ, HangUpReason
from pipeline.overlap import AUDIBLE_DB, ECHO_SHARE, OverlapJudge, Verdict
from pipeline.persona import Limits
from pipeline.persona import TurnTaking as TurnPolicy
from pipeline.playout import Playout
from pipeline.turn_end import silence_needed_s
from pipeline.turn_events import (
    AttemptFailed,
    CancelReply,
    ClearPlayout,
    CommitTurn,
    DropAttempt,
    Duck,
    FinishReply,
    Glimpsed,
    HandedOver,
    HangUp,
    KeyTouched,
    Leaving,
    NoteKeys,
    NoteUtterance,
    PartTranscribed,
    PlayedOut,
    Prefill,
    ReplyAudible,
    Restore,
    ResumeReply,
    RetractTurn,
    SpeakStock,
    StartReply,
    StockPhrase,
    TakeGlimpse,
    ToolBegan,
    ToolEnded,
    Transcribe,
    Transcribed,
    TranscribePart,
    TruncateReply,
    TurnAction,
    TurnEndGuessed,
    TurnEvent,
    Voice,
)

PREROLL_SAMPLES = LINE_RATE_HZ * 300 // 1000
"""Kept before a detected onset: soft first syllables come before the detector is sure."""
DIP_SEARCH_SAMPLES = LINE_RATE_HZ * 5
NO_DIP = (2.0, 0)
SENTENCE_VOICED_SAMPLES = LINE_RATE_HZ * 600 // 1000
"""So much voice without a word that the transcriber trusts deserves a question, less is noise."""
DETECTOR_LAG_SAMPLES = LINE_RATE_HZ * 120 // 1000
"""How far the detector's last word may lie behind the clock: packet, window, tick and jitter."""
COMMIT_POLL_S = 0.02
SOFTEST_STRANGER_DBFS = -40.0
"""While the agent's echo may be heard, a caller who has not spoken yet is at least so loud: telephone speech
lies about -20 to -30 dBFS, the echo of a voice at -20 dBFS at -45 or below."""
NO_WORDS_SILENCE_S = 0.7
"""After a sound without words: nobody is in mid-sentence."""
PART_FIRST_SAMPLES = LINE_RATE_HZ * 8 // 10
PART_EVERY_SAMPLES = LINE_RATE_HZ * 12 // 10
"""While the caller speaks, what there is of a turn is transcribed when it is this long, and this much longer
each time: often enough that few words are new to the language model at the end, seldom enough that the
transcriber is mostly free when the caller pauses. Longer pieces cost more, and come at longer intervals."""
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


class TurnTaking:
    """Call `begin`, then `receive` every event; arm one timer at `next_deadline()` and call
    `handle_timer`. Obey the returned actions in their order."""

    def __init__(
        self, policy: TurnPolicy, playout: Playout, limits: Limits, keys: KeySettings | None = None
    ) -> None:
        self._policy = policy
        self._playout = playout
        self._limits = limits
        self._detector = UtteranceDetector(policy.pause_s)
        self._judge = OverlapJudge(policy.barge_in, eager_s=policy.barge_in_s)
        self._verdict: Verdict = "quiet"
        self._protected = policy.protect_greeting
        self._turn = CallerTurn(0)
        self._attempts = 0
        self._part_at: int | None = None
        self._part_wanted = False
        self._floor_sample = 0
        self._heard_to = 0
        self._pardoned = False
        self._dip = NO_DIP
        self._commit_at: float | None = None
        self._commit_latest = 0.0
        self._commit_sample = 0
        self._silent_since = 0.0
        self._still_there_at: float | None = None
        self._asked_still_there = 0
        self._warn_at: float | None = None
        self._limit_at: float | None = None
        self._close_at: float | None = None
        self._answer_by: float | None = None
        self._closing_reason: HangUpReason = "goodbye"
        self._pad = KeyPad(keys or KeySettings())
        self._early_keys = ""
        self._tool: ToolBegan | None = None
        self._tool_ended_at = 0.0
        self._leaving = False
        self.state = State.LISTENING
        self._table: dict[tuple[State, type], Callable[..., list[TurnAction]]] = {
            (State.LISTENING, SpeechStarted): self._turn_begins,
            (State.CALLER, SpeechStopped): self._pause,
            (State.PAUSE, SpeechStarted): self._caller_goes_on,
            (State.PAUSE, Transcribed): self._transcribed_in_pause,
            (State.PAUSE, TurnEndGuessed): self._end_guessed,
            (State.CALLER, PartTranscribed): self._part_transcribed,
            (State.PAUSE, AttemptFailed): self._failed,
            (State.CALLER, Transcribed): self._piece_transcribed,
            (State.CALLER, AttemptFailed): self._failed,
            (State.THINKING, Transcribed): self._transcribed_late,
            (State.THINKING, AttemptFailed): self._failed,
            (State.THINKING, ReplyAudible): self._audible,
            (State.SPEAKING, AttemptFailed): self._failed,
            (State.SPEAKING, Glimpsed): self._glimpsed,
            (State.SPEAKING, PartTranscribed): self._overheard,
            (State.LISTENING, PartTranscribed): self._overheard_late,
            (State.SPEAKING, PlayedOut): self._played_out,
            (State.CLOSING, PlayedOut): self._said_goodbye,
            (State.THINKING, ToolBegan): self._tool_began,
            (State.THINKING, ToolEnded): self._tool_ended,
            (State.THINKING, Leaving): self._leaves,
            (State.THINKING, HandedOver): self._handed_over,
            (State.SPEAKING, ToolBegan): self._tool_began,
            (State.SPEAKING, ToolEnded): self._tool_ended,
            (State.SPEAKING, Leaving): self._leaves,
            (State.SPEAKING, HandedOver): self._handed_over,
        }

    def begin(self, now: float) -> list[TurnAction]:
        """The line was answered: the agent greets."""
        self._set_limits(now)
        return self._speak("greeting")

    def resume(self, elapsed_s: float, now: float, *, speaks: bool) -> list[TurnAction]:
        """The call goes on that was answered `elapsed_s` ago, in place of `begin`. Where the agent `speaks`,
        the reply of the turn that was lost goes on as if it had just been begun; nothing that the caller says
        takes that turn back."""
        self._set_limits(now - elapsed_s)
        self._still_there_at = now + self._policy.still_there_s
        if not speaks:
            return []
        self._attempts += 1
        self._turn.current = Attempt(self._attempts, 0, text="", reply_started=True)
        self._turn.committed = self._turn.acted = self._turn.retried = True
        self._answer_by = now + THINKING_PATIENCE_S
        self.state = State.THINKING
        return [ResumeReply(self._attempts)]

    def _set_limits(self, answered_at: float) -> None:
        limits = self._limits
        self._limit_at = answered_at + limits.call_s
        if limits.warning_s and limits.call_s >= 3 * limits.warning_s:
            self._warn_at = self._limit_at - limits.warning_s

    def receive(self, event: TurnEvent, now: float) -> list[TurnAction]:
        if isinstance(event, Voice):
            return self._voice(event, now)
        if isinstance(event, KeyTouched):
            return self._key(event.digit, now)
        handler = self._table.get((self.state, type(event)))
        return handler(event, now) if handler else []

    def next_deadline(self) -> float | None:
        # Asked a hundred times a second of each of a hundred calls.
        earliest = math.inf
        for moment in (
            self._commit_at,
            self._answer_by,
            self._continue_by(),
            None if self._floor_held else self._limit_at,
            self._close_at,
            self._pad.next_deadline(),
            self._still_there_at if self._floor_is_free() else None,
            self._warn_at if self.state is State.LISTENING else None,
        ):
            if moment is not None and moment < earliest:
                earliest = moment
        return None if earliest == math.inf else earliest

    def _continue_by(self) -> float | None:
        """When a reply that has begun to sound is given up, unless more of it comes."""
        if self.state is not State.SPEAKING or self._tool is not None:
            return None
        dry_since = self._playout.dry_since
        return None if dry_since is None else max(dry_since, self._tool_ended_at) + STALLED_PATIENCE_S

    def handle_timer(self, now: float) -> list[TurnAction]:
        actions: list[TurnAction] = []
        if (keys := self._pad.handle_timer(now)) is not None:
            actions += self._keys_complete(keys, now)
        if self._commit_at is not None and now >= self._commit_at:
            actions += self._commit_if_silent(now)
        if self._answer_by is not None and now >= self._answer_by:
            self._answer_by = None
            if self.state is State.THINKING:
                actions += self.close("apology", "goodbye", now)
        continue_by = self._continue_by()
        if continue_by is not None and now >= continue_by:
            actions += self.close("apology", "goodbye", now)
        if self._limit_at is not None and now >= self._limit_at and not self._floor_held:
            actions += self.close("goodbye", "limit", now)
        actions += self._break_silence(now)
        if self._close_at is not None and now >= self._close_at:
            actions += self._closed(None, now)
        return actions

    # Silence, and the end of time

    def _floor_is_free(self) -> bool:
        """Nobody says anything: silence, or a line with nothing but noise on it."""
        return self.state is State.LISTENING or (self.state is State.CALLER and self._turn.wordless)

    def _break_silence(self, now: float) -> list[TurnAction]:
        if self._warn_at is not None and now >= self._warn_at and self.state is State.LISTENING:
            self._warn_at = None
            return self._speak("last_minute")
        if self._still_there_at is None or now < self._still_there_at or not self._floor_is_free():
            return []
        self._still_there_at = None
        if self._asked_still_there >= self._policy.still_there_times:
            return self.close("goodbye", "silence", now)
        self._asked_still_there += 1
        if self.state is State.CALLER:
            # What was noise so far is not asked for again.
            self._floor_sample = self._turn.piece_start
        return self._speak("still_there")

    def _speak(self, phrase: StockPhrase) -> list[TurnAction]:
        self._begin_speaking()
        return [SpeakStock(phrase)]

    @property
    def caller_speaks(self) -> bool:
        """The voice detector hears the caller now."""
        return self._detector.speaking

    def oldest_needed_sample(self) -> int:
        """Caller's audio before this position is never asked for again. What the detector has not judged
        yet is always needed: it may lag behind a burst."""
        if self.state in (State.CALLER, State.PAUSE, State.THINKING):
            return self._turn.piece_start
        start = self._detector.start_sample if self._detector.voiced_samples else self._heard_to
        judged = self._judge.oldest_needed_sample
        if judged is not None:
            start = max(min(start, judged), self._heard_to - PIECE_LONGEST_SAMPLES)
        return max(0, start - PREROLL_SAMPLES)

    # The caller's voice

    def _voice(self, event: Voice, now: float) -> list[TurnAction]:
        self._heard_to = event.end_sample
        probability = 0.0 if self._is_echo(event) else event.probability
        change = self._detector.push(probability, event.start_sample, event.end_sample, event.level_dbfs)
        actions: list[TurnAction] = []
        if change is not None:
            if isinstance(change, SpeechStopped):
                self._turn.voiced_samples += change.voiced_samples
                actions.append(NoteUtterance(change.start_sample, change.end_sample))
            handler = self._table.get((self.state, type(change)))
            if handler:
                actions += handler(change, now)
        if self.state is State.CALLER:
            actions += self._cut_if_long(probability, event.end_sample) or self._transcribe_part(event)
            self._judge.usual.hear(probability, event.level_dbfs, event.end_sample - event.start_sample)
        elif self._floor_held:
            return actions
        elif self._takes_floor() and self.state is State.THINKING:
            actions += self._interrupt_work(now) if self._turn.acted else self._reopen_turn()
        elif self.state is State.SPEAKING and not self._protected:
            actions += self._over_agent(event, isinstance(change, SpeechStopped), now)
        return actions

    def _is_echo(self, event: Voice) -> bool:
        """Our own voice, come back from a speaker-phone, or too soft for a caller while it may be that."""
        if event.echo >= ECHO_SHARE:
            return True
        usual = self._judge.usual.dbfs
        softest = SOFTEST_STRANGER_DBFS if usual is None else usual + AUDIBLE_DB
        return event.own_voice_near and event.level_dbfs < softest

    def _takes_floor(self) -> bool:
        return (
            self._detector.speaking
            and self._detector.voiced_samples >= self._policy.barge_in_s * LINE_RATE_HZ
        )

    def _turn_begins(self, *_: object) -> list[TurnAction]:
        self._turn = CallerTurn(self._turn_start(self._detector.start_sample))
        self._part_wanted, self._part_at = False, None
        self._tool, self._leaving = None, False
        self.state = State.CALLER
        return []

    def _turn_start(self, voice_start_sample: int) -> int:
        """Not before what was answered already, and no more than fits the transcriber: somebody may have
        talked over all of a long announcement."""
        longest = PIECE_LONGEST_SAMPLES - DIP_SEARCH_SAMPLES
        return max(self._floor_sample, voice_start_sample - PREROLL_SAMPLES, self._heard_to - longest)

    def _new_attempt(self, end_sample: int) -> Transcribe:
        self._attempts += 1
        self._part_wanted = False
        self._turn.current = Attempt(self._attempts, end_sample)
        follows = tuple(piece.number for piece in self._turn.settled)
        return Transcribe(self._attempts, self._turn.piece_start, end_sample, follows)

    def _pause(self, change: SpeechStopped, now: float) -> list[TurnAction]:
        pause_samples = round(self._policy.pause_s * LINE_RATE_HZ)
        self._silent_since = now - (self._heard_to - change.end_sample) / LINE_RATE_HZ
        self._turn.speech_end = change.end_sample
        self.state = State.PAUSE
        actions: list[TurnAction] = [self._new_attempt(change.end_sample + pause_samples)]
        self._set_commit()
        return actions

    def _set_commit(self) -> None:
        """How long the silence must last, by what is known of the words now. While keys are pressed, none is
        long enough."""
        if self._pad.collecting:
            self._commit_at = None
            return
        attempt, text = self._turn.current, self._turn.text()
        needed_s = silence_needed_s(text, attempt.ends if attempt else None, self._policy)
        if text == "":
            needed_s = min(needed_s, NO_WORDS_SILENCE_S)
        self._commit_at = self._silent_since + needed_s
        self._commit_sample = self._turn.speech_end + round(needed_s * LINE_RATE_HZ)
        self._commit_latest = self._commit_at + STALL_PATIENCE_S

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
        self._turn.settle()
        if attempt.text is None:
            return []
        attempt.reply_started = False
        return [DropAttempt(attempt.number)]

    def _cut_if_long(self, probability: float, end_sample: int) -> list[TurnAction]:
        """Somebody who never pauses is cut where the voice was weakest lately: between two words."""
        length = end_sample - self._turn.piece_start
        if length < PIECE_LONGEST_SAMPLES - DIP_SEARCH_SAMPLES:
            self._dip = NO_DIP
            return []
        self._dip = min(self._dip, (probability, end_sample))
        if length < PIECE_LONGEST_SAMPLES:
            return []
        action = self._new_attempt(self._dip[1])
        self._turn.settle()
        return [action]

    def _caller_goes_on(self, *_: object) -> list[TurnAction]:
        self._commit_at = None
        self.state = State.CALLER
        known = self._turn.text()
        return [*self._leave_attempt(), *([Prefill(known)] if known else [])]

    def _transcribe_part(self, event: Voice) -> list[TurnAction]:
        """Keep the language model's memory warm while the caller speaks."""
        length = event.end_sample - self._turn.piece_start
        since = length if self._part_at is None else event.end_sample - self._part_at
        due = PART_FIRST_SAMPLES if self._part_at is None else max(PART_EVERY_SAMPLES, length // 4)
        if self._part_wanted or not self._detector.speaking or min(length, since) < due:
            return []
        self._part_wanted, self._part_at = True, event.end_sample
        return [TranscribePart(self._turn.piece_start, event.end_sample)]

    # Words

    def _piece_transcribed(self, event: Transcribed, now: float) -> list[TurnAction]:
        attempt = self._turn.attempt(event.attempt)
        if attempt is not None:
            attempt.text = event.text
        return []

    def _part_transcribed(self, event: PartTranscribed, now: float) -> list[TurnAction]:
        self._part_wanted = False
        # The last word may be half a word.
        text = self._turn.with_part((event.text or "").rpartition(" ")[0])
        return [Prefill(text)] if text else []

    def _transcribed_in_pause(self, event: Transcribed, now: float) -> list[TurnAction]:
        self._piece_transcribed(event, now)
        self._set_commit()
        return self._start_reply()

    def _end_guessed(self, event: TurnEndGuessed, now: float) -> list[TurnAction]:
        attempt = self._turn.attempt(event.attempt)
        if attempt is not None:
            attempt.ends = event.probability
            self._set_commit()
        return []

    def _start_reply(self) -> list[TurnAction]:
        attempt, text = self._turn.current, self._turn.text()
        if attempt is None or not text or attempt.reply_started or self._pad.collecting:
            return []
        attempt.reply_started = True
        return [StartReply(attempt.number, text, self._turn.chosen)]

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
        self._asked_still_there = 0
        commit = CommitTurn(attempt.number, text, self._turn.speech_end)
        return [*self._start_reply(), commit]

    def _nobody_spoke(self) -> list[TurnAction]:
        """It was noise, or nothing that the transcriber trusts. Silence would leave both waiting for each
        other after a barge-in, or after what the detector took for a sentence: ask once. The wait for the
        caller's first word goes on where it was."""
        self.state = State.LISTENING
        expects_answer = self._turn.interrupts or self._turn.voiced_samples >= SENTENCE_VOICED_SAMPLES
        if expects_answer and not self._pardoned and not self._detector.speaking:
            self._pardoned = True
            return self._speak("pardon")
        return self._take_up_utterance()

    def _take_up_utterance(self) -> list[TurnAction]:
        """Somebody may be in mid-utterance when the floor becomes free."""
        return self._turn_begins() if self._detector.speaking else []

    def _reopen_turn(self) -> list[TurnAction]:
        self.state = State.CALLER
        self._dip, self._tool = NO_DIP, None
        actions: list[TurnAction] = [RetractTurn()] if self._turn.committed else []
        self._turn.committed = False
        return [*actions, *self._leave_attempt()]

    # Keys

    def _key(self, digit: str, now: float) -> list[TurnAction]:
        """Keys take the floor as a "stop" does."""
        if self.state in (State.CLOSING, State.ENDED) or self._floor_held:
            return []
        if self.state is State.SPEAKING and self._protected:
            self._early_keys += digit
            return []
        first = not self._pad.collecting
        complete = self._pad.press(digit, now)
        actions = self._make_way(now) if first and (complete or self._pad.collecting) else []
        return actions if complete is None else [*actions, *self._keys_complete(complete, now)]

    def _make_way(self, now: float) -> list[TurnAction]:
        """The turn in hand waits for the keys that belong to it; where there is none, they begin one."""
        if self.state is State.CALLER:
            return []
        if self.state is State.PAUSE:
            return self._hold_reply()
        if self.state is State.THINKING and not self._turn.acted:
            self.state = State.PAUSE
            retract: list[TurnAction] = [RetractTurn()] if self._turn.committed else []
            self._turn.committed, self._tool = False, None
            return [*retract, *self._hold_reply()]
        return self._keys_begin_turn(now)

    def _keys_begin_turn(self, now: float) -> list[TurnAction]:
        interrupts = self.state is not State.LISTENING
        actions = self._take_back(now) if interrupts else []
        self._turn_begins()
        self._turn.interrupts = interrupts
        if not self._detector.speaking:
            self._nothing_said(now)
        return actions

    def _nothing_said(self, now: float) -> None:
        """The turn in hand has no words so far."""
        self._attempts += 1
        self._turn.piece_start = self._turn.speech_end = self._heard_to
        self._turn.current = Attempt(self._attempts, self._heard_to, text="")
        self._silent_since = now
        self.state = State.PAUSE

    def _hold_reply(self) -> list[TurnAction]:
        """The reply to the words so far lacks the keys: it is begun anew, with both."""
        self._commit_at = self._answer_by = None
        held = self._turn.current
        if held is None or not held.reply_started:
            return []
        self._attempts += 1
        self._turn.current = Attempt(self._attempts, held.end_sample, held.text)
        return [DropAttempt(held.number)]

    def _keys_complete(self, keys: Entered | Chosen, now: float) -> list[TurnAction]:
        actions = [] if self.state in (State.CALLER, State.PAUSE) else self._make_way(now)
        if isinstance(keys, Chosen):
            return [*actions, NoteKeys(keys.digit, "menu"), *self._choose(keys, now)]
        actions.append(NoteKeys(keys.digits, keys.by))
        self._turn.digits += keys.digits
        return [*actions, *self._commit(now)] if self.state is State.PAUSE else actions

    def _choose(self, keys: Chosen, now: float) -> list[TurnAction]:
        """A key of the menu is a turn of its own; what was being said is not waited for."""
        attempt = self._turn.current
        drop: list[TurnAction] = [DropAttempt(attempt.number)] if attempt else []
        self._turn_begins()
        self._nothing_said(now)
        self._turn.digits, self._turn.chosen = keys.digit, keys.action
        # Begun as it were: nobody talks the agent out of it until it has ended.
        self._turn.acted = self._turn.retried = True
        self._tool = ToolBegan(self._attempts, side_effects=True, holds_floor=True)
        return [*drop, *self._commit(now)]

    # Tools

    @property
    def _floor_held(self) -> bool:
        return self._tool is not None and self._tool.holds_floor

    def _is_answered(self, attempt: int) -> bool:
        """Is `attempt` the one that is being answered?"""
        return self._turn.current is not None and self._turn.current.number == attempt

    def _tool_began(self, event: ToolBegan, now: float) -> list[TurnAction]:
        if not self._is_answered(event.attempt):
            return []
        self._tool, self._answer_by = event, None
        if event.side_effects:
            # Tried again, or taken back and answered anew, it would happen twice.
            self._turn.acted = self._turn.retried = True
        if not event.holds_floor:
            return []
        before, self._verdict = self._verdict, "quiet"
        self._judge.reset()
        return [Restore()] if before == "undecided" and self._policy.barge_in == "polite" else []

    def _tool_ended(self, event: ToolEnded, now: float) -> list[TurnAction]:
        if self._is_answered(event.attempt):
            self._tool, self._tool_ended_at = None, now
            if self.state is State.THINKING:
                self._answer_by = now + THINKING_PATIENCE_S
        return []

    def _interrupt_work(self, now: float) -> list[TurnAction]:
        """The caller speaks while something is done for a turn that cannot be taken back."""
        actions = [*self._take_back(now), *self._turn_begins()]
        self._turn.interrupts = True
        self._still_there_at = now + self._policy.still_there_s
        return actions

    def _leaves(self, event: Leaving, now: float) -> list[TurnAction]:
        self._leaving = self._is_answered(event.attempt)
        return []

    def _handed_over(self, _: object, now: float) -> list[TurnAction]:
        self.state = State.ENDED
        return [FinishReply()]

    # The agent's voice

    def _audible(self, *_: object) -> list[TurnAction]:
        self._begin_speaking()
        return []

    def _begin_speaking(self) -> None:
        self.state = State.SPEAKING
        self._judge.reset()
        self._verdict = "quiet"

    def _over_agent(self, event: Voice, utterance_over: bool, now: float) -> list[TurnAction]:
        """Somebody may be heard over the agent: turn it down, judge, then stop it or let it go on."""
        before = self._verdict
        self._judge.hear(
            event.probability, event.level_dbfs, event.echo, event.start_sample, event.end_sample
        )
        actions = self._judged(now)
        if self.state is not State.SPEAKING:
            return actions
        if (wanted := self._judge.wanted_glimpse()) is not None:
            actions.append(TakeGlimpse(*wanted))
        if utterance_over and before == "keep":
            actions += self._last_say()
        return actions

    def _last_say(self) -> list[TurnAction]:
        """What was let pass by its sound may still stop the agent by its words."""
        asked = None if self._detector.speaking else self._judge.last_say()
        return [] if asked is None else [TranscribePart(*asked)]

    def _judged(self, now: float) -> list[TurnAction]:
        before, self._verdict = self._verdict, self._judge.verdict
        if self._verdict == "stop":
            return self._barge_in(now)
        if self._verdict == before or self._policy.barge_in != "polite":
            return []
        if self._verdict == "undecided":
            return [Duck()]
        return [Restore(), *self._last_say()] if before == "undecided" else []

    def _glimpsed(self, event: Glimpsed, now: float) -> list[TurnAction]:
        self._judge.glimpsed(event.number, event.glimpse)
        return self._judged(now)

    def _overheard(self, event: PartTranscribed, now: float) -> list[TurnAction]:
        self._judge.transcribed(event.text or "")
        return self._judged(now)

    def _overheard_late(self, event: PartTranscribed, now: float) -> list[TurnAction]:
        """The agent has finished meanwhile; what was said over its last words may be the caller's turn."""
        stop = self._judge.transcribed(event.text or "") == "stop"
        return self._overlap_becomes_turn(now) if stop else []

    def _take_back(self, now: float) -> list[TurnAction]:
        return [CancelReply(), ClearPlayout(), TruncateReply(self._playout.heard_samples(now))]

    def _barge_in(self, now: float) -> list[TurnAction]:
        actions = [*self._take_back(now), *self._overlap_becomes_turn(now)]
        self._turn.interrupts = True
        self._still_there_at = now + self._policy.still_there_s
        return actions

    def _overlap_becomes_turn(self, now: float) -> list[TurnAction]:
        """What was said over the agent is the caller's turn; it may be over already: "stop"."""
        start = self._judge.start_sample
        actions = self._turn_begins()
        if start is not None:
            self._turn.piece_start = self._turn_start(start)
        if not self._detector.speaking:
            detector = self._detector
            end = SpeechStopped(self._turn.piece_start, detector.end_sample, detector.voiced_samples)
            actions += self._pause(end, now)
        return actions

    def _played_out(self, _: object, now: float) -> list[TurnAction]:
        self.state = State.LISTENING
        self._protected = False
        self._still_there_at = now + self._policy.still_there_s
        if self._verdict == "undecided" and self._judge.start_sample is not None:
            return [FinishReply(), *self._overlap_becomes_turn(now)]
        if self._leaving:
            self.state = State.ENDED
            return [FinishReply(), HangUp("goodbye")]
        actions = [FinishReply(), *self._take_up_utterance()]
        early, self._early_keys = self._early_keys, ""
        for digit in early:
            actions += self._key(digit, now)
        return actions

    # The end

    def _failed(self, event: AttemptFailed, now: float) -> list[TurnAction]:
        known = self._turn.attempt(event.attempt)
        if known is None:
            return []
        if known is not self._turn.current or self._turn.retried or self.state is State.SPEAKING:
            return self.close("apology", "goodbye", now)
        return self._try_again(known)

    def _try_again(self, failed: Attempt) -> list[TurnAction]:
        """Before the caller has heard anything, a failure can still be one that nobody notices."""
        self._turn.retried = True
        actions: list[TurnAction] = [RetractTurn()] if self._turn.committed else []
        self._turn.committed = False
        return [*actions, DropAttempt(failed.number), self._new_attempt(failed.end_sample)]

    def close(
        self, phrase: Literal["apology", "goodbye"], reason: HangUpReason, now: float
    ) -> list[TurnAction]:
        """Say a last sentence, then hang up: a limit, a shutdown, a fault."""
        self._commit_at = self._limit_at = self._still_there_at = self._warn_at = None
        if self.state in (State.CLOSING, State.ENDED):
            return []
        self._pad.forget()
        self._tool = None
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
