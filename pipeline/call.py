"""One call: the line's events go in, the turn-taking core decides, this shell obeys.

A call is one TaskGroup: a reader of the line, a conductor that feeds the core and paces playout, and
the work of the moment (transcriptions, one reply). Whatever way it ends, its voice and its sequence
in the language model are given back, and the observer hears `CallEnded`.
"""

import asyncio
import logging
import zlib
from collections import Counter, deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import numpy as np

from models.base import SHARED, ChatSession, Glimpse, Voice
from pipeline.bell import Bell
from pipeline.call_desk import CallDesk, CallTools
from pipeline.call_voice import CallVoice
from pipeline.caller_sound import ECHO_MATTERS_PROBABILITY, CallerSound
from pipeline.conversation import Conversation, SpokenClause
from pipeline.events import (
    AgentClause,
    AgentClauseHeard,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallGoesOn,
    CallObserver,
    CallStarted,
    Fault,
    KeyReceived,
    KeysEntered,
    TurnTimes,
)
from pipeline.hearing import Hearing
from pipeline.history import History
from pipeline.line import (
    LINE_RATE_HZ,
    AudioReceived,
    HangUpReason,
    HeardBefore,
    KeyPressed,
    Line,
    LineClosed,
    LineEvent,
    MarkReached,
    Pcm,
    PlaysAtOnce,
    TellsAtOnce,
)
from pipeline.passage import Passage
from pipeline.persona import Persona
from pipeline.playout import BEAT_S, TIMER_SLACK_S, Played, Playout
from pipeline.reply import Reply, Resumed
from pipeline.resuming import GREETING, CallSoFar, LaterOn, PastTurn
from pipeline.sample_clock import PlacedAudio
from pipeline.sending import Sender
from pipeline.sound_told import SoundTold
from pipeline.speakable import speakable
from pipeline.thinking import Thinking
from pipeline.turn_events import (
    AttemptFailed,
    CancelReply,
    ClearPlayout,
    CommitTurn,
    DropAttempt,
    Duck,
    FinishReply,
    Glimpsed,
    HangUp,
    KeyTouched,
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
    Transcribe,
    Transcribed,
    TranscribePart,
    TruncateReply,
    TurnAction,
    TurnEndGuessed,
    TurnEvent,
)
from pipeline.turns import TurnTaking
from pipeline.voice_hub import VoiceHub

log = logging.getLogger(__name__)

GOES_ON_S: Final = 10.0
"""Between `CallGoesOn`s."""


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """`completed`: the caller needs to hear nothing more. Otherwise the line's carrier should say sorry."""

    completed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StockSpeech:
    """A stock phrase as voiced once for all calls."""

    pcm: Pcm
    word_spans_s: Sequence[tuple[float, float]] = ()
    """See `Voice.word_spans`."""


@dataclass(slots=True)
class _Attempt:
    """Work for one pause: the transcription, then the reply behind its gate."""

    times: TurnTimes
    begun_in_round: int = 0
    """When the reply was begun, in rounds of obeying; 0: not yet."""
    confirmed: bool = False
    """The turn was over as the reply had supposed."""
    transcription: asyncio.Task[None] | None = None
    reply: Reply | None = None
    making: asyncio.Task[None] | None = None


class _CallOver(Exception):
    """Unwinds the call's TaskGroup."""

    def __init__(self, outcome: CallOutcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Call:
    """`await run()` holds one call from greeting to hang-up and returns its outcome. With `so_far` it goes on
    from there, and counts its turns and its clock on."""

    def __init__(
        self,
        line: Line,
        hearing: Hearing,
        persona: Persona,
        session: ChatSession,
        voice: Voice,
        stock: Mapping[StockPhrase, StockSpeech],
        hub: VoiceHub,
        observer: CallObserver,
        so_far: CallSoFar | None = None,
    ) -> None:
        if so_far is not None:
            observer = LaterOn(observer, so_far.at_s)
        self._so_far = so_far
        self._line = line
        self._hearing = hearing
        self._persona = persona
        self._session = session
        self._voice = CallVoice(voice)
        self._stock = stock
        self._observer = observer
        self._ear = hub.open(self._on_voice, self._on_ear_failed)
        self._playout = Playout(lead_s=line.lead_s, phase_s=_phase_s(line))
        self._core = TurnTaking(persona.turns, self._playout, persona.limits, persona.keys)
        self._sound = CallerSound()
        self._thinking = Thinking(session, line.info.call_id, self._work)
        self._history = History(so_far.messages if so_far is not None else ())
        self._conversation = Conversation(voice.takes_context)
        self._attempts: dict[int, _Attempt] = {}
        self._speaking: _Attempt | None = None
        self._passage = Passage()
        """Of the agent's, the one in hand or the last one."""
        self._turns = so_far.last_turn if so_far is not None else 0
        self._told = SoundTold(observer)
        self._sender = Sender(line, self._playout, self._told)
        self._inbox: deque[TurnEvent] = deque()
        self._decided: list[TurnAction] = []
        """Not obeyed yet."""
        self._wake = Bell(self._play_in_time)
        self._failure: Exception | None = None
        self._closing: tuple[Literal["apology", "goodbye"], HangUpReason] | None = None
        self._faults = 0
        self._apologised = False
        self._hung_up: CallOutcome | None = None
        self._part: asyncio.Task[None] | None = None
        self._rounds = 0
        self._voiced = False
        self._goes_on_at = 0.0
        self._counters: Counter[str] = Counter()
        self._placed = PlacedAudio()
        self._desk = CallDesk(
            CallTools(
                line,
                persona,
                session,
                self._history,
                self._playout,
                observer,
                self._at,
                self._tell,
                self._sound_keys,
                lambda: self._turns,
            )
        )

    # From outside

    @property
    def call_id(self) -> str:
        return self._line.info.call_id

    def end_politely(self, reason: HangUpReason = "shutdown") -> None:
        """Say goodbye and hang up: as a rule because the house closes. Returns at once."""
        self._closing = ("goodbye", reason)
        self._wake.ring()

    def only_say_goodbye(self) -> None:
        """No greeting and no conversation: the last words, then hang up. Before `run`."""
        self._closing = ("goodbye", "goodbye")

    async def run(self) -> CallOutcome:
        self._answered_s = _now()
        resumed = self._so_far is not None
        try:
            self._observer.observe(CallStarted(0.0, self._line.info, self._persona.name, resumed))
            if self._so_far is not None and self._so_far.recording_paused:
                self._desk.record(paused=True)
            outcome = await self._hold()
        except BaseException as error:
            # Cancelled by a dying process, or a fault of ours: the record says so before it propagates.
            self._cut_short()
            self._told.tell()
            self._desk.abandon()
            self._observer.observe(Fault(self._at(), "call", f"{type(error).__name__}: {error}"))
            self._observer.observe(CallEnded(self._at(), "failed", "failed", self._counted()))
            raise
        finally:
            self._ear.close()
        self._told.tell()
        await self._desk.finish()
        self._observer.observe(
            CallEnded(
                self._at(), outcome.reason, "failed" if self._apologised else "completed", self._counted()
            )
        )
        return outcome

    def _counted(self) -> dict[str, int]:
        usage = self._session.usage()
        self._counters.update(tokens_evaluated=usage.evaluated, tokens_needed=usage.kept)
        if self._desk.runs:
            self._counters["tools"] = self._desk.runs
        return dict(sorted(self._counters.items()))

    async def _hold(self) -> CallOutcome:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._read_line(), name="line")
                group.create_task(self._conduct(), name="conductor")
        except BaseExceptionGroup as errors:
            over, faults = errors.split(_CallOver)
            if faults is not None:
                raise _first(faults) from None
            if over is not None:
                # The line's end and our own may race: whichever came first is the outcome.
                return cast(_CallOver, _first(over)).outcome
        raise AssertionError("a call ends by _CallOver or by an error")

    # The line

    async def _read_line(self) -> None:
        line = self._line
        if isinstance(line, TellsAtOnce):
            line.listen(self._take)
        try:
            async for event in line.events():
                self._take(event)
            reason = "line closed"
        except LineClosed as closed:
            reason = closed.reason
        self._desk.line_closed(reason)
        if self._desk.transferred:
            self._reply_over(interrupted=False)
        else:
            self._cut_short()
        raise _CallOver(self._outcome(reason))

    def _take(self, event: LineEvent) -> None:
        if isinstance(event, AudioReceived):
            self._hear(event.pcm)
        elif isinstance(event, HeardBefore):
            self._hear(event.pcm, to_be_answered=False)
        elif isinstance(event, MarkReached):
            if event.heard:
                self._playout.mark_reached(event.name, _now())
                if self._playout.drained:
                    self._wake.ring()
        elif isinstance(event, KeyPressed):
            self._observer.observe(KeyReceived(self._at(), event.digit))
            self._tell(KeyTouched(event.digit))

    def _outcome(self, reason: str) -> CallOutcome:
        """Of a line that closed; our own doing goes before what the line says of it."""
        if self._desk.transferred:
            return CallOutcome(True, "transferred")
        return self._hung_up or CallOutcome(True, reason)

    def _hear(self, pcm: Pcm, *, to_be_answered: bool = True) -> None:
        now = _now()
        self._sound.append(pcm, now)
        if self._told.caller(pcm, now):
            self._told.tell()
            self._report_played(self._playout.played(now))
            # What was decided and is not obeyed yet may name more than the core still needs.
            if self._wake.waiting and not self._decided:
                self._sound.forget(self._core.oldest_needed_sample())
        # The ear counts samples as the call does; of silence it says nothing.
        self._ear.push(pcm if to_be_answered else np.zeros_like(pcm))

    def _on_voice(self, probability: float, start_sample: int, end_sample: int) -> None:
        now = _now()
        if probability >= ECHO_MATTERS_PROBABILITY:
            self._report_played(self._playout.played(now))
        voice = self._sound.voice(probability, start_sample, end_sample)
        core, wake = self._core, self._wake
        if self._inbox or self._decided or not wake.waiting:
            self._tell(voice)
            return
        # While the conductor sleeps: most windows change nothing, and are not worth waking it for.
        self._decided = core.receive(voice, now)
        if (
            self._decided
            or core.caller_speaks != self._voiced
            or now >= self._goes_on_at
            or wake.sleeps_beyond(core.next_deadline())
        ):
            wake.ring()

    def _on_ear_failed(self, error: Exception) -> None:
        self._failure = error
        self._wake.ring()

    # The conductor

    def _tell(self, event: TurnEvent) -> None:
        self._inbox.append(event)
        self._wake.ring()

    async def _conduct(self) -> None:
        if self._closing is None:
            await self._obey(self._begin())
        core, inbox = self._core, self._inbox
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                if self._sender.owes:
                    await self._sender.send_owed()
                if self._decided:
                    actions, self._decided = self._decided, []
                    await self._obey(actions)
                if self._closing is not None:
                    closing, self._closing = self._closing, None
                    await self._obey(core.close(*closing, _now()))
                while inbox:
                    if actions := core.receive(inbox.popleft(), _now()):
                        await self._obey(actions)
                self._note_voice()
                if actions := core.handle_timer(_now()):
                    await self._obey(actions)
                await self._play()
                self._say_that_it_goes_on()
                if inbox:
                    continue
                await self._wake.wait(_earlier(core.next_deadline(), self._playout.next_deadline()))
        finally:
            self._wake.rest()

    def _begin(self) -> list[TurnAction]:
        so_far = self._so_far
        if so_far is None or not so_far.turns:
            return self._core.begin(_now())
        persona = self._persona
        speaks = so_far.under_way is not None or bool(persona.resumed or persona.go_on)
        return self._core.resume(so_far.at_s, _now(), speaks=speaks)

    def _say_that_it_goes_on(self) -> None:
        if (now := _now()) >= self._goes_on_at:
            self._goes_on_at = now + GOES_ON_S
            self._observer.observe(CallGoesOn(self._at()))

    def _note_voice(self) -> None:
        voiced, self._voiced = self._voiced, self._core.caller_speaks
        if self._voiced and not voiced:
            self._observer.observe(CallerSpeaks(self._at()))

    def _play_in_time(self) -> float | None:
        """While the conductor sleeps: sending what is due needs nobody to decide anything. Until when it
        sleeps on; None: it is to wake."""
        now = _now()
        decides_at = self._core.next_deadline()
        if decides_at is not None and decides_at <= now + TIMER_SLACK_S:
            return None
        try:
            sent = self._sender.send_at_once(now)
            playout = self._playout
            if not sent or (playout.drained and playout.active):
                return None
            self._note_played(now)
            return _earlier(decides_at, playout.next_deadline())
        except Exception as error:
            self._failure = error
            return None

    async def _play(self) -> None:
        await self._sender.send(_now())
        playout = self._playout
        self._note_played(_now())
        if playout.drained and playout.active:
            await self._obey(self._core.receive(PlayedOut(), _now()))

    def _note_played(self, now: float) -> None:
        speaking, playout = self._speaking, self._playout
        if speaking is None:
            return
        if speaking.times.first_played_s is None and playout.started_s is not None:
            speaking.times = replace(speaking.times, first_played_s=self._clock(playout.started_s))
        if playout.drained and playout.active:
            return
        for _ in range(self._passage.newly_heard(playout.clauses_heard(now))):
            self._observer.observe(AgentClauseHeard(self._at(), speaking.times.turn))

    def _report_played(self, pieces: list[Played]) -> None:
        for piece in pieces:
            start, pcm = self._placed.place(piece, round(self._clock(piece.at_s) * LINE_RATE_HZ))
            if pcm.size:
                self._sound.played(pcm, start)
                self._told.agent(pcm, start)

    # Obeying

    async def _obey(self, actions: list[TurnAction]) -> None:
        self._rounds += 1
        for action in actions:
            match action:
                case NoteUtterance(start, end):
                    self._observer.observe(CallerSpoke(start / LINE_RATE_HZ, end / LINE_RATE_HZ))
                case Transcribe(attempt, start, end, follows):
                    self._transcribe(attempt, follows, self._sound.slice(start, end))
                case TranscribePart(start, end):
                    part = self._transcribe_part(self._sound.slice(start, end))
                    self._part = self._work(part, "transcribe-part")
                case Prefill(text):
                    self._thinking.prefill(self._history.with_caller(text))
                    self._observer.observe(CallerSpeaks(self._at(), text))
                case TakeGlimpse(number, start, end):
                    self._work(self._glimpse(number, self._sound.slice(start, end)), "glimpse")
                case Duck():
                    await self._turn_voice(down=True)
                case Restore():
                    await self._turn_voice(down=False)
                case NoteKeys(digits, by):
                    self._observer.observe(KeysEntered(self._at(), digits, by))
                case StartReply(attempt, text, chosen):
                    self._start_reply(attempt, text, chosen)
                case ResumeReply(attempt):
                    self._resume_reply(attempt)
                case CommitTurn(attempt, text, speech_end):
                    self._commit(attempt, text, speech_end)
                case DropAttempt(attempt):
                    self._drop(self._attempts.pop(attempt, None))
                case RetractTurn():
                    self._history.retract_caller()
                    self._conversation.retract_caller()
                    self._turns -= 1
                    self._counters["turns"] -= 1
                    if self._speaking is not None:
                        self._counters["speculations_confirmed"] -= self._speaking.confirmed
                    self._drop(self._speaking)
                    self._speaking = None
                    # The reply may have been queued in this very round; nothing of it was sent.
                    self._report_played(self._playout.clear(_now()))
                case CancelReply():
                    self._drop(self._speaking)
                case ClearPlayout():
                    self._cut_short()
                    await self._sender.clear()
                case TruncateReply():
                    # The history was cut together with the playout, at the same instant of the ledger.
                    self._make_ready()
                case FinishReply():
                    self._reply_over(interrupted=False)
                    self._make_ready()
                case SpeakStock(phrase):
                    self._speak_stock(phrase)
                case HangUp(reason):
                    self._cut_short()
                    self._hung_up = CallOutcome(True, "apologised" if self._apologised else reason)
                    await self._line.hang_up(reason)
                    raise _CallOver(self._hung_up)

    async def _turn_voice(self, *, down: bool) -> None:
        self._counters["ducks" if down else "restores"] += 1
        now = _now()
        if self._playout.duck(now) if down else self._playout.restore(now):
            self._report_played(self._playout.played(now))
            await self._sender.clear()
        self._observer.observe(AgentTurnedDown(self._at(), down))

    # Hearing

    def _transcribe(self, number: int, follows: Sequence[int], pcm: Pcm) -> None:
        if self._part is not None:
            self._part.cancel()
            self._part = None
        self._conversation.caller_paused(number, follows, pcm)
        attempt = self._attempts[number] = _Attempt(TurnTimes(0, transcribe_started_s=self._at()))
        attempt.transcription = self._work(self._transcribe_attempt(number, attempt, pcm), "transcribe")

    async def _transcribe_attempt(self, number: int, attempt: _Attempt, pcm: Pcm) -> None:
        try:
            text = await self._hearing.words(pcm, **self._expectations())
        except Exception as error:
            self._attempt_failed(number, "transcriber", error)
            return
        attempt.times = replace(attempt.times, transcribed_s=self._at())
        self._conversation.transcribed(number, text)
        self._tell(Transcribed(number, text))

    async def _transcribe_part(self, pcm: Pcm) -> None:
        text = None
        try:
            text = await self._hearing.part(pcm, **self._expectations())
        except Exception as error:
            log.warning("call %s: a partial transcript failed: %s", self._line.info.call_id, error)
        self._counters["parts"] += text is not None
        self._tell(PartTranscribed(text))

    def _expectations(self) -> dict[str, str]:
        persona = self._persona
        return {"language": persona.language, "hot_words": ", ".join(persona.vocabulary)}

    async def _glimpse(self, number: int, pcm: Pcm) -> None:
        seen: Glimpse | None = None
        try:
            seen = await self._hearing.glimpse(pcm, language=self._persona.language)
        except Exception as error:
            log.warning("call %s: a glimpse failed: %s", self._line.info.call_id, error)
        self._counters["glimpses"] += 1
        self._tell(Glimpsed(number, seen))

    def _attempt_failed(self, number: int, where: str, error: Exception) -> None:
        log.warning("call %s: %s failed: %s", self._line.info.call_id, where, error, exc_info=error)
        self._fault(where, f"{type(error).__name__}: {error}")
        self._tell(AttemptFailed(number))

    def _fault(self, where: str, detail: str) -> None:
        self._faults += 1
        self._observer.observe(Fault(self._at(), where, detail))

    # Answering

    def _make_ready(self) -> None:
        """Evaluate what is known of the next prompt while somebody speaks: when the caller has finished,
        only the caller's words are left."""
        self._thinking.prefill(self._history.messages)
        self._voice.prepare(self._conversation.speeches)

    def _start_reply(self, number: int, text: str, chosen: str) -> None:
        # Keys alone are an attempt without a transcription.
        attempt = self._attempts.setdefault(number, _Attempt(TurnTimes(0)))
        attempt.begun_in_round = self._rounds
        self._counters["speculations"] += 1
        context = self._conversation.with_caller()
        self._voice.prepare(context)
        messages = self._history.with_caller(text)

        def guessed(probability: float) -> None:
            self._tell(TurnEndGuessed(number, probability))

        reply = attempt.reply = Reply(
            self._session,
            self._voice,
            messages,
            max_tokens=self._persona.limits.reply_tokens,
            if_silent=self._persona.pardon,
            name=f"reply/{number}",
            context=context,
            on_clause=self._clause_begins,
            on_audio=self._audio_made,
            on_turn_end=guessed,
            tools=self._desk.answer(number, messages, on_turn_end=guessed, chosen=chosen),
            on_silence=self._desk.silence,
        )
        attempt.making = self._thinking.reply(lambda: self._make_reply(number, reply))

    async def _make_reply(self, number: int, reply: Reply) -> None:
        try:
            await reply.run()
        except Exception as error:
            if not reply.stopped:
                self._attempt_failed(number, "reply", error)
            return
        self._playout.finish()
        self._wake.ring()

    def _commit(self, number: int, text: str, speech_end_sample: int) -> None:
        attempt = self._attempts.pop(number)
        self._turns += 1
        self._counters["turns"] += 1
        # A reply that is begun with the turn's end, not ahead of it, is no speculation.
        attempt.confirmed = 0 < attempt.begun_in_round < self._rounds
        self._counters["speculations"] -= attempt.begun_in_round == self._rounds
        self._counters["speculations_confirmed"] += attempt.confirmed
        attempt.times = replace(
            attempt.times,
            turn=self._turns,
            speech_end_s=speech_end_sample / LINE_RATE_HZ,
            audible_end_s=self._clock(self._sound.audible_end_at(speech_end_sample)),
            committed_s=self._at(),
        )
        self._history.caller_said(text)
        self._conversation.caller_said()
        self._observer.observe(CallerTurn(self._at(), self._turns, text))
        self._attempts.clear()
        self._begin_speaking(attempt)
        if attempt.reply is not None:
            attempt.reply.gate.set()

    def _resume_reply(self, number: int) -> None:
        assert self._so_far is not None  # noqa: S101  (the core resumes what we told it of)
        lost = self._so_far.under_way
        if lost is None:
            # The record must not take what follows for the answer to the turn before.
            self._turns += 1
            lost = PastTurn(self._turns, over=False)
        elif lost.caller:
            self._counters["turns"] += 1
            self._observer.observe(CallerTurn(self._at(), lost.number, lost.caller))
        attempt = _Attempt(TurnTimes(lost.number))
        resumes = self._rest_of(lost)
        attempt.reply = Reply(
            self._session,
            self._voice,
            self._history.messages,
            max_tokens=self._persona.limits.reply_tokens,
            if_silent=self._persona.pardon,
            name=f"reply/{number}",
            context=self._conversation.speeches,
            on_clause=self._clause_begins,
            on_audio=self._audio_made,
            on_turn_end=lambda probability: None,
            resumes=resumes,
        )
        attempt.reply.gate.set()
        self._counters["resumed"] += 1
        self._begin_speaking(attempt, heard_before=lost.heard_clauses)
        reply = attempt.reply
        attempt.making = self._thinking.reply(lambda: self._make_reply(number, reply))

    def _rest_of(self, lost: PastTurn) -> Resumed:
        persona, unheard = self._persona, lost.unheard
        # With tools it cannot be known what was done for it already: nothing is done twice, nor made up.
        goes_on = bool(lost.caller) and not persona.toolbox
        if not goes_on and not unheard:
            unheard = (persona.greeting if lost.number == GREETING else persona.go_on,)
        return Resumed(persona.resumed, unheard, " ".join(lost.clauses), goes_on)

    def _begin_speaking(self, attempt: _Attempt, heard_before: str = "") -> None:
        self._speaking = attempt
        self._passage = Passage(heard_before)

    def _clause_begins(self, clause: SpokenClause) -> None:
        self._passage.begin_clause(clause)
        self._playout.begin_clause(clause.text)
        turn = self._speaking.times.turn if self._speaking else 0
        self._observer.observe(AgentClause(self._at(), turn, clause.text, clause.filler))

    def _audio_made(self, pcm: Pcm) -> None:
        first = not self._playout.active
        if self._playout.ran_dry(_now()):
            self._told.paused()
        self._passage.made(pcm)
        self._playout.append(pcm)
        if first and self._playout.active:
            self._tell(ReplyAudible())
        elif self._wake.sleeps_beyond(self._playout.next_deadline()):
            self._wake.ring()

    def _sound_keys(self, tones: Pcm) -> None:
        self._passage.begin_clause(SpokenClause("", "", "keys"))
        self._playout.begin_clause("")
        self._audio_made(tones)

    def _speak_stock(self, phrase: StockPhrase) -> None:
        text = getattr(self._persona, phrase)
        if phrase == "apology":
            self._apologised = True
            if not self._faults:
                self._fault("reply", "no model answered in time")
        if phrase != "greeting":
            # A turn of its own: the record must not take it for the answer to the turn before.
            self._turns += 1
        self._begin_speaking(_Attempt(TurnTimes(self._turns)))
        self._clause_begins(SpokenClause(text, speakable(text).strip(), SHARED + phrase))
        self._audio_made(self._stock[phrase].pcm)
        self._playout.finish()

    # The end of a reply

    def _cut_short(self) -> None:
        """Whatever plays is cut now: the history keeps the words that were heard."""
        if self._speaking is not None:
            self._reply_over(interrupted=True)
        else:
            self._report_played(self._playout.clear(_now()))

    def _reply_over(self, *, interrupted: bool) -> None:
        now = _now()
        attempt, self._speaking = self._speaking, None
        interrupted = interrupted and not self._playout.all_heard(now)
        clauses = self._playout.heard(now)
        played = self._playout.clear(now) if interrupted else self._playout.next_passage(now)
        self._report_played(played)
        if attempt is None:
            return
        passage = self._passage
        if interrupted:
            self._conversation.agent_cut(passage.clauses, clauses)
        else:
            self._conversation.agent_said(passage.clauses)
        said = passage.heard(clauses if interrupted else None, self._word_spans)
        heard = passage.behind_before(" ".join(words for _, words in said if words))
        if passage.audible_at is not None and attempt.times.first_played_s is not None:
            audible_s = attempt.times.first_played_s + passage.audible_at / LINE_RATE_HZ
            attempt.times = replace(attempt.times, first_audible_s=audible_s)
        if attempt.reply is not None:
            made = attempt.reply.times
            attempt.times = replace(
                attempt.times,
                first_token_s=self._clock(made.first_token),
                first_clause_s=self._clock(made.first_clause),
                first_audio_s=self._clock(made.first_audio),
            )
        if attempt.times.turn > 0 or interrupted:
            # A greeting that was heard to its end is in the persona's prefix already.
            tools = None if attempt.reply is None else attempt.reply.tools
            answer = passage.behind_before(self._desk.remember(tools.runs if tools else (), said))
            self._history.agent_said(answer, interrupted=interrupted)
        self._observer.observe(
            AgentTurn(self._at(), attempt.times.turn, passage.text, heard, interrupted, attempt.times)
        )

    def _word_spans(self, clause: SpokenClause) -> Sequence[tuple[float, float]]:
        if clause.utterance.startswith(SHARED):
            phrase = cast(StockPhrase, clause.utterance.removeprefix(SHARED))
            return self._stock[phrase].word_spans_s
        return self._voice.word_spans(clause.utterance)

    # Helpers

    def _work(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._group.create_task(work, name=name)

    def _drop(self, attempt: _Attempt | None) -> None:
        if attempt is None:
            return
        if attempt.reply is not None:
            attempt.reply.stop()
        for task in (attempt.transcription, attempt.making):
            if task is not None:
                task.cancel()

    def _clock(self, moment: float | None) -> Any:
        """Monotonic seconds to the call's own clock, which counts the caller's samples: 0 is when the first
        one began. Until it comes, 0 is when the line was answered."""
        if moment is None:
            return None
        clock = self._sound.clock
        return clock.at(moment) / LINE_RATE_HZ if clock.running else moment - self._answered_s

    def _at(self) -> float:
        return max(0.0, float(self._clock(_now())))


def _phase_s(line: Line) -> float:
    """Calls that send at once do it one after another. Where each wakes a task for it, and another clock
    sends the packets, all at the same moment would hold that clock up."""
    if isinstance(line, PlaysAtOnce):
        return 0.0
    return zlib.crc32(line.info.call_id.encode()) / 2**32 * BEAT_S


def _now() -> float:
    return asyncio.get_running_loop().time()


def _earlier(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a possibly nested group."""
    head = group.exceptions[0]
    return _first(head) if isinstance(head, BaseExceptionGroup) else head
