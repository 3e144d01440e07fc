"""The thread that owns the model's context and decodes for every call at once.

Other threads post commands; between two steps the engine runs them, so that a cancel or a close takes effect
within one step (at most 32 tokens of all calls together; more where over 16 replies are decoded at once).
Results go to *sinks*, called on this thread: they must not block. Nothing that a command, a sink or the model
raises ends the thread: it ends the session concerned.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.base import GREEDY, ModelBusy, ModelError, ModelFailed, Sampling
from models.llama.audit import Audit, Counters, Meter
from models.llama.binding import DecodeFailed
from models.llama.constraint import OPENING, Constraint, Matcher
from models.llama.reply_text import ReplyText
from models.llama.sampling import Sampler, probability
from models.llama.scheduler import Entry, Scheduler, State

_log = logging.getLogger(__name__)

ENDS_AFTER_STOP = 0.2
"""How likely a message is to end with a sentence. From 0.05 to 0.3 it makes no difference to how well ends
are told from pauses."""

PREFIX_SEQUENCES = 4
"""Personas whose prefixes are kept at the same time."""


@dataclass(frozen=True, slots=True)
class Done:
    """The request is complete."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How likely the user's message that a reply answers was to end after its last word, by the model."""

    probability: float


@dataclass(frozen=True, slots=True)
class Closing:
    """How a prompt's last words end: the lengths of the prompt up to their last word, and up to the stop
    behind it (a full stop, a question mark); equal where there is none."""

    words: int
    stop: int


Event = str | TurnEnd | Done | ModelError
"""A piece of a reply's text, what is known of its prompt before the first, the end, or what went wrong (which
is an end too)."""
Sink = Callable[[Event], None]


class Vocabulary(Protocol):
    def piece(self, token: int) -> bytes: ...
    def ends_reply(self, token: int) -> bool: ...
    def end_tokens(self) -> Sequence[int]: ...
    def stop_tokens(self) -> Sequence[int]: ...
    def matcher(self, grammar: str) -> Matcher: ...
    def tokenize(self, text: str, *, special: bool) -> list[int]: ...
    def close(self) -> None: ...


class Memory(Protocol):
    """What the engine needs of `binding.Context`."""

    def decode(self, entries: Sequence[Entry]) -> dict[Entry, NDArray[np.float32]]: ...
    def copy(self, source: int, target: int) -> None: ...
    def truncate(self, sequence: int, length: int) -> None: ...
    def length(self, sequence: int) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Sequences in use; for tests and operators."""

    calls: int
    prefixes: int


@dataclass(slots=True)
class _Question:
    """How likely is it that a message ends after these words, with a stop or without?

    P(end | words) + P(stop | words) * P(end | words, stop): whether the transcriber put a stop there is no
    evidence of the model's. Where it put none, `ENDS_AFTER_STOP` stands for the last factor, which would need
    a token more.
    """

    prompt: tuple[int, ...]
    """Up to the words' end, the stop included."""
    last_word: int
    """Position of the last token of the last word."""
    ends: float = 0.0
    after_stop: float = 0.0
    """Probability of a stop after the last word."""


@dataclass(slots=True)
class _Request:
    number: int
    sink: Sink
    text: ReplyText | None
    """None for a prefill."""
    most: int = 0
    """Tokens of the reply at most."""
    question: _Question | None = None
    """Open, until it is answered."""
    grammar: str | None = None
    constraint: Constraint | None = None
    """Holds the reply to `grammar`."""
    begun: tuple[int, ...] = ()
    """The reply's first tokens, said already: the prompt ends with them."""


@dataclass(slots=True)
class _Session:
    sequence: int
    """-1 until one is found for it."""
    prefix: tuple[int, ...]
    waiting: Sink | None
    """Told when the prefix is in place."""
    meter: Meter
    sampler: Sampler
    request: _Request | None = None
    ended: tuple[tuple[int, ...], TurnEnd] | None = None
    """What was last said of where words end, and of which. It holds whatever memory has gone through since,
    so words that are asked about again cost nothing."""
    grammar: str | None = None
    """Of the last reply: one that is begun again under another chooses anew."""


@dataclass(slots=True)
class _Prefix:
    sequence: int
    ready: bool = False
    sessions: set[int] = field(default_factory=set)
    """Tickets of the calls that began with it."""


class Engine:
    """`calls` sequences for calls are numbered from 0, those of prefixes follow. Owns `vocabulary` and
    `memory` and closes them when it stops."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        memory: Memory,
        *,
        calls: int,
        prefix_tokens: int,
        prompt_tokens: int,
        stops: Sequence[str] = (),
        draft_rows: int = 0,
        crowd_rows: int = 0,
    ) -> None:
        self._vocabulary = vocabulary
        self._memory = memory
        self._prefix_room = prefix_tokens
        self._stops = tuple(stops)
        self._end_tokens = tuple(vocabulary.end_tokens())
        self._stop_tokens = tuple(vocabulary.stop_tokens())
        self._scheduler = Scheduler(
            prompt_tokens=prompt_tokens,
            draft_rows=draft_rows,
            crowd_rows=crowd_rows,
            ends_reply=vocabulary.ends_reply,
        )
        self._audit = Audit()
        self._free = deque(range(calls))
        self._free_prefixes = deque(range(calls, calls + PREFIX_SEQUENCES))
        self._prefixes: dict[tuple[int, ...], _Prefix] = {}
        """Least recently used first."""
        self._sessions: dict[int, _Session] = {}
        self._tickets: dict[int, int] = {}
        """Sequence -> ticket."""
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="maya-llama", daemon=True)
        self._thread.start()

    # -- From any thread -------------------------------------------------------------------------------------

    def open(
        self,
        ticket: int,
        prefix: Sequence[int],
        sink: Sink,
        meter: Meter | None = None,
        sampling: Sampling = GREEDY,
    ) -> None:
        """Reserve a sequence that begins with `prefix` for the session `ticket` (a number never used before).
        `sink` hears `Done`, or `ModelBusy`, or `ModelFailed`. `meter` counts the session's tokens."""
        session = _Session(-1, tuple(prefix), sink, meter or Meter(), Sampler(sampling))
        self._post(lambda: self._open(ticket, session, sink), sink)

    def prefill(self, ticket: int, number: int, target: Sequence[int], sink: Sink) -> None:
        """Make `target` the session's memory. `number` names the request for `cancel`."""
        self._post(lambda: self._submit(ticket, _Request(number, sink, None), target), sink)

    def reply(
        self,
        ticket: int,
        number: int,
        target: Sequence[int],
        max_tokens: int,
        sink: Sink,
        *,
        closing: Closing | None = None,
        grammar: str | None = None,
        begun: int = 0,
    ) -> None:
        """Make `target` the session's memory and decode from there, at most `max_tokens`. With `closing`,
        `sink` hears a `TurnEnd` before the first piece. `grammar`: see `ChatSession.reply`. The last `begun`
        tokens of `target` are the reply's own."""
        text = ReplyText(max_tokens=max_tokens, stops=self._stops)
        question = _Question(tuple(target[: closing.stop]), closing.words - 1) if closing else None
        own = tuple(target[len(target) - begun :])
        request = _Request(number, sink, text, max_tokens, question, grammar, begun=own)
        self._post(lambda: self._submit(ticket, request, target), sink)

    def cancel(self, ticket: int, number: int) -> None:
        """Stop request `number` if it is still the session's current one. Its sink hears no more."""
        self._post(lambda: self._cancel(ticket, number))

    def close(self, ticket: int) -> None:
        """Give the session's sequence back. A request under way fails. Unknown tickets are ignored."""
        self._post(lambda: self._close(ticket))

    def stop(self) -> None:
        """Fail what is under way, free the model, end the thread. Returns when it has ended (within a
        step)."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """The engine's thread runs."""
        return self._thread.is_alive()

    def counters(self) -> Counters:
        return self._audit.counters()

    def occupancy(self) -> Occupancy:
        return Occupancy(calls=len(self._sessions), prefixes=len(self._prefixes))

    def _post(self, command: Callable[[], None], sink: Sink | None = None) -> None:
        with self._wake:
            if not self._stopping:
                self._commands.append(command)
                self._wake.notify()
                return
        if sink is not None:
            self._tell(sink, _stopped())

    # -- On the engine's thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._await_work():
                self._guarded(self._step)
        finally:
            with self._wake:
                self._stopping = True
            self._end()

    def _await_work(self) -> bool:
        """Run the posted commands; when there is nothing to evaluate, sleep until there are more. False:
        stop."""
        while True:
            with self._wake:
                while not (self._commands or self._stopping or self._scheduler.busy()):
                    self._wake.wait()
                if self._stopping:
                    return False
                commands = list(self._commands)
                self._commands.clear()
            for command in commands:
                self._guarded(command)
            if self._scheduler.busy():
                return True

    def _guarded(self, work: Callable[[], None]) -> None:
        """A defect in one command or step fails what was under way and leaves the engine running."""
        try:
            work()
        except Exception as error:
            _log.exception("the language model's engine failed; every reply under way ends")
            for tokens in [t for t, prefix in self._prefixes.items() if not prefix.ready]:
                self._drop_prefix(tokens)
            for ticket in list(self._sessions):
                self._fail_session(ticket, ModelFailed(f"the language model's engine failed: {error}"))

    def _step(self) -> None:
        step = self._scheduler.plan()
        entries = step.entries
        self._audit.evaluating(entries)
        try:
            for sequence, length in step.cuts:
                self._memory.truncate(sequence, length)
            logits = self._memory.decode(entries)
        except DecodeFailed as error:
            self._one_by_one(entries, error)
        except Exception as error:
            for sequence in dict.fromkeys(entry.sequence for entry in entries):
                self._lose(sequence, error)
        else:
            self._advance(entries, logits)

    def _one_by_one(self, entries: Sequence[Entry], error: DecodeFailed) -> None:
        """A batch failed as a whole: find out whose part of it fails, and let the others go on."""
        groups: dict[int, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.sequence, []).append(entry)
        for sequence, group in groups.items():
            self._memory.truncate(sequence, group[0].position)
        if len(groups) == 1:
            self._lose(next(iter(groups)), error)
            return
        for sequence, group in groups.items():
            try:
                logits = self._memory.decode(group)
            except DecodeFailed as own:
                self._lose(sequence, own)
            else:
                self._advance(group, logits)

    def _advance(self, entries: Sequence[Entry], logits: dict[Entry, NDArray[np.float32]]) -> None:
        complete, sampling = self._scheduler.recorded(entries)
        for entry, row in logits.items():
            self._judge_end(entry, row)
        for sequence, asked in sampling.items():
            try:
                self._choose(sequence, [logits[entry] for entry in asked])
            except (ValueError, KeyError, ModelFailed) as error:
                self._lose(sequence, error)
            self._forget_guesses(sequence)
        for sequence in complete:
            self._completed(sequence)

    def _choose(self, sequence: int, rows: Sequence[NDArray[np.float32]]) -> None:
        """Choose the token after the first of `rows`, and after each of the others, which follow guesses, as
        long as the guesses are what was chosen and the reply goes on."""
        self._audit.guessed(len(rows) - 1)
        constraint = self._constraint_of(sequence)
        choose = self._sessions[self._tickets[sequence]].sampler if constraint is None else constraint.choose
        for row in rows:
            token = choose(row)
            guessed = self._scheduler.sampled(sequence, token)
            if guessed:
                self._audit.guessed_right()
            self._say(sequence, token)
            if not guessed or self._scheduler.state(sequence) is not State.SAMPLING:
                break

    def _constraint_of(self, sequence: int) -> Constraint | None:
        request = self._sessions[self._tickets[sequence]].request
        return None if request is None else request.constraint

    def _constrain(self, grammar: str, choose: Sampler) -> Constraint:
        vocabulary = self._vocabulary
        [opening, *_] = vocabulary.tokenize(OPENING.decode(), special=False)
        return Constraint(
            (lambda: vocabulary.matcher(grammar)) if grammar else None,
            opening=opening,
            ends=self._end_tokens,
            piece=vocabulary.piece,
            choose=choose,
        )

    def _forget_guesses(self, sequence: int) -> None:
        """Cut the model's memory where the scheduler has cut its own."""
        length = self._scheduler.length(sequence)
        if self._memory.length(sequence) > length:
            self._memory.truncate(sequence, length)
            self._audit.lost(sequence, length)

    def _judge_end(self, entry: Entry, row: NDArray[np.float32]) -> None:
        """Tell the request that asks for it how likely its words end. Logits that are no numbers say nothing;
        the reply fails of them by itself."""
        session = self._sessions[self._tickets[entry.sequence]]
        request = session.request
        question = None if request is None else request.question
        if request is None or question is None:
            return
        try:
            ends = probability(self._end_tokens, row)
            if entry.position == question.last_word:
                question.ends, question.after_stop = ends, probability(self._stop_tokens, row)
                ends = ENDS_AFTER_STOP
        except ValueError as error:
            _log.debug("the end of the words is not known: %s", error)
            request.question = None
            return
        if entry.position == len(question.prompt) - 1:
            request.question = None
            session.ended = (question.prompt, TurnEnd(question.ends + question.after_stop * ends))
            self._tell(request.sink, session.ended[1])

    def _completed(self, sequence: int) -> None:
        ticket = self._tickets.get(sequence)
        if ticket is not None:
            self._end_request(self._sessions[ticket], Done())
            return
        for prefix in self._prefixes.values():
            if prefix.sequence == sequence:
                prefix.ready = True
                for ticket in sorted(prefix.sessions):
                    self._begin(self._sessions[ticket], prefix)

    def _say(self, sequence: int, token: int) -> None:
        """Hand the token's text to the reply that it belongs to; end the reply where it ends."""
        session = self._sessions[self._tickets[sequence]]
        request = session.request
        if request is None or request.text is None:
            self._scheduler.finish(sequence)
            return
        ends = self._vocabulary.ends_reply(token)
        text = request.text.push(token, b"" if ends else self._vocabulary.piece(token), ends=ends)
        if request.constraint is not None and request.constraint.complete:
            text += request.text.push(token, b"", ends=True)
        if text and not self._tell(request.sink, text):
            self._scheduler.cancel(sequence)
            session.request = None
        elif request.text.done:
            self._scheduler.finish(sequence)
            self._forget_guesses(sequence)  # Before anybody who has heard of the end asks for the usage.
            self._end_request(session, Done())

    def _lose(self, sequence: int, error: Exception) -> None:
        """The model failed for one sequence: forget what cannot be trusted and tell its call."""
        _log.warning("the language model failed for sequence %d: %s", sequence, error)
        known = self._scheduler.length(sequence)
        if self._memory.length(sequence) != known:
            known = 0
            self._memory.truncate(sequence, 0)
        self._scheduler.forget(sequence, known)
        self._audit.lost(sequence, known)
        ticket = self._tickets.get(sequence)
        failure = ModelFailed(f"the language model failed for this call: {error}")
        if ticket is not None:
            self._end_request(self._sessions[ticket], failure)
            return
        for tokens in [t for t, prefix in self._prefixes.items() if prefix.sequence == sequence]:
            waiting = sorted(self._prefixes[tokens].sessions)
            self._drop_prefix(tokens)
            for ticket in waiting:
                self._fail_session(ticket, failure)

    def _fail_session(self, ticket: int, failure: ModelFailed) -> None:
        session = self._sessions[ticket]
        if session.waiting is not None:
            self._close(ticket, failure)
            return
        self._scheduler.cancel(session.sequence)
        self._end_request(session, failure)

    def _end_request(self, session: _Session, event: Event) -> None:
        request, session.request = session.request, None
        if request is not None:
            self._tell(request.sink, event)

    @staticmethod
    def _tell(sink: Sink, event: Event) -> bool:
        """False: the listener is gone (its event loop is closed)."""
        try:
            sink(event)
        except Exception as error:
            _log.debug("a reply's listener is gone: %s", error)
            return False
        return True

    # -- Commands --------------------------------------------------------------------------------------------

    def _open(self, ticket: int, session: _Session, sink: Sink) -> None:
        prefix = session.prefix
        if not self._free:
            busy = len(self._sessions)
            self._tell(sink, ModelBusy(f"all {busy} sequences of the language model are in use"))
            return
        if prefix and prefix not in self._prefixes:
            problem = self._load_prefix(prefix)
            if problem is not None:
                self._tell(sink, problem)
                return
        session.sequence = self._free.popleft()
        self._sessions[ticket] = session
        self._tickets[session.sequence] = ticket
        if not prefix:
            self._begin(session, None)
            return
        shared = self._prefixes[prefix] = self._prefixes.pop(prefix)  # Now the most recently used.
        shared.sessions.add(ticket)
        if shared.ready:
            self._begin(session, shared)

    def _load_prefix(self, tokens: tuple[int, ...]) -> ModelError | None:
        """Make room for a prefix, the least recently used without calls going first, and begin to evaluate
        it."""
        if len(tokens) > self._prefix_room:
            return ModelFailed(
                f"the persona's prompt is {len(tokens)} tokens long; at most {self._prefix_room} fit: "
                "shorten it, or give the language model a larger context"
            )
        idle = [t for t, prefix in self._prefixes.items() if not prefix.sessions]
        while not self._free_prefixes or len(tokens) > self._prefix_room - sum(map(len, self._prefixes)):
            if not idle:
                return ModelBusy("the prompts of other personas with calls under way fill the language model")
            self._drop_prefix(idle.pop(0))
        sequence = self._free_prefixes.popleft()
        self._prefixes[tokens] = _Prefix(sequence)
        self._scheduler.open(sequence)
        self._audit.opened(sequence)
        self._scheduler.submit(sequence, tokens, reply=False)
        return None

    def _drop_prefix(self, tokens: tuple[int, ...]) -> None:
        """Calls that share its cells keep them."""
        prefix = self._prefixes.pop(tokens)
        self._scheduler.close(prefix.sequence)
        self._audit.closed(prefix.sequence)
        self._memory.truncate(prefix.sequence, 0)
        self._free_prefixes.append(prefix.sequence)

    def _begin(self, session: _Session, prefix: _Prefix | None) -> None:
        if prefix is None:
            self._audit.opened(session.sequence, meter=session.meter)
        else:
            self._memory.copy(prefix.sequence, session.sequence)
            self._audit.opened(session.sequence, copied_from=prefix.sequence, meter=session.meter)
        self._scheduler.open(session.sequence, session.prefix)
        sink, session.waiting = session.waiting, None
        if sink is not None:
            self._tell(sink, Done())

    def _submit(self, ticket: int, request: _Request, target: Sequence[int]) -> None:
        session = self._sessions.get(ticket)
        if session is None or session.waiting is not None:
            self._tell(request.sink, ModelFailed("this session of the language model is closed"))
            return
        self._end_request(session, ModelFailed("a newer request of the same session took over"))
        session.request = request
        self._audit.requested(session.sequence, target)
        question = request.question
        if question is not None and session.ended is not None and session.ended[0] == question.prompt:
            request.question = question = None
            self._tell(request.sink, session.ended[1])
        if request.text is not None:
            if request.grammar != session.grammar:
                self._scheduler.forget_reply(session.sequence)
            session.grammar = request.grammar
            if request.grammar is not None:
                request.constraint = self._constrain(request.grammar, session.sampler)
            if not self._follow_begun(session, request):
                return
        watched = () if question is None else (question.last_word, len(question.prompt) - 1)
        replay = self._scheduler.submit(
            session.sequence, target, reply=request.text is not None, most=request.most, watched=watched
        )
        for token in replay:
            if session.request is request:
                if request.constraint is not None:
                    request.constraint.follow(token)
                self._say(session.sequence, token)
        if request.text is None and not self._scheduler.busy(session.sequence):
            self._end_request(session, Done())

    def _follow_begun(self, session: _Session, request: _Request) -> bool:
        """Bring the reply's text and grammar to the end of what was said already. False: it is over."""
        constraint, over = request.constraint, None
        try:
            for token in request.begun:
                if request.text is not None:
                    request.text.follow(token)
                if constraint is not None and not constraint.may_follow(token):
                    over = ModelFailed("what was said already does not follow the grammar")
                    break
        except (ValueError, ModelFailed) as error:
            over = ModelFailed(str(error))
        event = over or (Done() if constraint is not None and constraint.complete else None)
        if event is None:
            return True
        self._scheduler.cancel(session.sequence)
        self._end_request(session, event)
        return False

    def _cancel(self, ticket: int, number: int) -> None:
        session = self._sessions.get(ticket)
        if session is not None and session.request is not None and session.request.number == number:
            session.request = None
            self._scheduler.cancel(session.sequence)

    def _close(self, ticket: int, why: ModelFailed | None = None) -> None:
        """Give everything back first, then tell whoever still waits."""
        session = self._sessions.pop(ticket, None)
        if session is None:
            return
        if session.waiting is None:
            self._scheduler.close(session.sequence)
            self._audit.closed(session.sequence)
            self._memory.truncate(session.sequence, 0)
        if session.prefix in self._prefixes:
            self._prefixes[session.prefix].sessions.discard(ticket)
        del self._tickets[session.sequence]
        self._free.append(session.sequence)
        failure = why or ModelFailed("this session of the language model was closed")
        if session.waiting is not None:
            self._tell(session.waiting, failure)
        self._end_request(session, failure)

    def _end(self) -> None:
        with self._wake:
            commands = list(self._commands)
            self._commands.clear()
        for command in commands:
            self._guarded(command)
        for ticket in list(self._sessions):
            self._guarded(partial(self._close, ticket))
        self._memory.close()
        self._vocabulary.close()


def _stopped() -> ModelFailed:
    return ModelFailed("the language model has been shut down")
