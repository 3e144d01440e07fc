"""`LlamaChat`: the `ChatModel` on llama.cpp, one context for all calls.

asyncio outside, one engine thread inside (`engine.py`). Each call has a sequence; the persona's prefix is
evaluated once and shared; a request evaluates only what differs from what the sequence already holds.
"""

import asyncio
import itertools
import re
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path

from models.base import GREEDY, Message, ModelError, ModelFailed, Sampling, Usage
from models.llama.audit import Counters, Meter
from models.llama.binding import Context, Model
from models.llama.drafting import CROWD_ROWS, DRAFT_ROWS
from models.llama.engine import PREFIX_SEQUENCES, Closing, Done, Engine, Event, Occupancy, Sink, TurnEnd
from models.llama.history import History
from models.llama.templates import Piece, Template, begun_pieces, choose_template

_CLOSING_MARKS = " .,;:?!-\u2026"
_FULL_STOP = re.compile(r"\.|[?!]+")

PROMPT_TOKENS_PER_STEP = 32
"""So that a cancel takes effect within one step of 32 prompt tokens."""
PREFIX_SHARE = 4
"""One part in this many of the context is set aside for prefixes."""
REPLY_SHARE = 4
"""One part in this many of a call's share is left for the reply when the history is cut to fit."""


class LlamaChat:
    """Loads `gguf` (blocks for seconds: call it off the event loop). Raises `ModelMissing` or `ModelFailed`.

    `context_tokens` is the whole KV cache. A quarter is for prefixes (`PREFIX_SHARE`); the rest is divided
    evenly among `sequences` calls. When a call's messages outgrow three quarters of its share, its oldest
    turns are dropped (see `History`); a reply ends when the share is full. `gpu_layers`: -1 for all,
    on the CUDA device number `main_gpu`. `draft_rows`: passes smaller than this are filled up with guesses at
    what the replies say next (see `drafting`); 0 for none. They change what is evaluated, not what is said,
    but for the rounding of sums in batches of another size.
    """

    def __init__(
        self,
        gguf: Path,
        *,
        threads: int,
        context_tokens: int,
        sequences: int,
        gpu_layers: int = 0,
        main_gpu: int = 0,
        draft_rows: int = DRAFT_ROWS,
    ) -> None:
        if sequences < 1 or threads < 1:
            raise ValueError("threads and sequences must be at least 1")
        self._model = Model(gguf, gpu_layers=gpu_layers, main_gpu=main_gpu)
        try:
            self._template = choose_template(
                self._model.chat_template(),
                name=self._model.metadata("general.name"),
                architecture=self._model.metadata("general.architecture"),
            )
            context_tokens = min(context_tokens, max(self._model.trained_context, 1) * sequences)
            context = Context(
                self._model,
                context_tokens=context_tokens,
                sequences=sequences + PREFIX_SEQUENCES,
                batch_tokens=PROMPT_TOKENS_PER_STEP + sequences,
                threads=threads,
            )
        except ModelError:
            self._model.close()
            raise
        prefix_tokens = context_tokens // PREFIX_SHARE
        self._share = (context_tokens - prefix_tokens) // sequences
        self._engine = Engine(
            self._model,
            context,
            calls=sequences,
            prefix_tokens=prefix_tokens,
            prompt_tokens=PROMPT_TOKENS_PER_STEP,
            stops=self._template.stops,
            draft_rows=draft_rows,
            crowd_rows=CROWD_ROWS if draft_rows else 0,
        )
        self._tickets = itertools.count()
        self._closed = False
        # Without this a process that ends without `aclose` would unload the library under the engine's feet.
        self._finalizer = weakref.finalize(self, self._engine.stop)

    async def open(self, prefix: Sequence[Message], *, sampling: Sampling = GREEDY) -> "LlamaSession":
        """See `ChatModel.open`. Waits for the prefix's first evaluation; raises `ModelBusy`, or `ModelFailed`
        when the prefix is too long. `sampling` is this session's own."""
        ticket = next(self._tickets)
        tokens = self._tokens(self._template.prefix(prefix))
        events: asyncio.Queue[Event] = asyncio.Queue()
        meter = Meter()
        try:
            self._engine.open(ticket, tokens, _sink(events), meter, sampling)
            event = await events.get()
        except BaseException:
            self._engine.close(ticket)
            raise
        if isinstance(event, ModelError):
            raise event
        return LlamaSession(self._engine, self._model, self._template, ticket, tokens, self._share, meter)

    async def aclose(self) -> None:
        """End every session, free the model. Safe to call twice."""
        await asyncio.to_thread(self._finalizer)

    @property
    def alive(self) -> bool:
        """It still answers: its thread runs."""
        return self._engine.alive

    def counters(self) -> Counters:
        """Tokens evaluated, reused and re-evaluated since loading."""
        return self._engine.counters()

    def occupancy(self) -> Occupancy:
        return self._engine.occupancy()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens that `messages` take as a prefix."""
        return len(self._tokens(self._template.prefix(messages)))

    def _tokens(self, pieces: Sequence[Piece]) -> list[int]:
        return _tokens(self._model, pieces)


class LlamaSession:
    """One call's sequence. See `ChatSession`."""

    def __init__(
        self,
        engine: Engine,
        model: Model,
        template: Template,
        ticket: int,
        prefix: list[int],
        share: int,
        meter: Meter,
    ) -> None:
        self._engine = engine
        self._model = model
        self._template = template
        self._ticket = ticket
        self._prefix = prefix
        self._share = share
        self._meter = meter
        self._history = History(share - share // REPLY_SHARE)
        self._requests = itertools.count()
        self._finalizer = weakref.finalize(self, engine.close, ticket)

    async def prefill(self, messages: Sequence[Message]) -> None:
        """See `ChatSession.prefill`. When the last message is not the user's, the opening of the user's next
        one is evaluated too."""
        target = self._tokens(self._template.growing(self._fit(messages, growing=True)))
        number = next(self._requests)
        events: asyncio.Queue[Event] = asyncio.Queue()
        self._engine.prefill(self._ticket, number, target, _sink(events))
        try:
            event = await events.get()
        except asyncio.CancelledError:
            self._engine.cancel(self._ticket, number)
            raise
        if isinstance(event, ModelError):
            raise event

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 120,
        on_turn_end: Callable[[float], None] | None = None,
        grammar: str | None = None,
        begun: str = "",
    ) -> AsyncGenerator[str, None]:
        """See `ChatSession.reply`. A reply that was cancelled and is asked for again with the same messages
        begins with the tokens already decoded, at once.

        `on_turn_end` is called while the iterator is awaited, once; not when the last message is not the
        user's. It is told whether the message ends after its last word; the punctuation there is a
        transcriber's guess and counts for nothing. The last word (or its last token, and the stop) of what a
        prefill has evaluated passes through the model once more for it, in the batch that opens the reply."""
        shown = self._fit(messages, growing=False, begun=begun)
        own = _tokens(self._model, begun_pieces(begun))
        target = self._tokens(self._template.reply(shown)) + own
        closing = self._closing(shown, target) if on_turn_end is not None else None
        room = len(self._prefix) + self._share - len(target)
        number = next(self._requests)
        events: asyncio.Queue[Event] = asyncio.Queue()
        self._engine.reply(
            self._ticket,
            number,
            target,
            min(max_tokens, room),
            _sink(events),
            closing=closing,
            grammar=grammar,
            begun=len(own),
        )
        spaced = begun != begun.rstrip()  # The model writes the space before a word with the word.
        try:
            while not isinstance(event := await events.get(), Done):
                if isinstance(event, ModelError):
                    raise event
                if not isinstance(event, TurnEnd):
                    piece = event.lstrip() if spaced else event
                    spaced = spaced and not piece
                    if piece:
                        yield piece
                elif on_turn_end is not None:
                    on_turn_end(event.probability)
        finally:
            self._engine.cancel(self._ticket, number)

    async def aclose(self) -> None:
        self._finalizer()

    @property
    def dropped_turns(self) -> int:
        """Turns that no longer fit into the call's share of the context."""
        return self._history.dropped

    def usage(self) -> Usage:
        """Tokens that this call has cost so far, and those of them that still stand; also after `aclose`."""
        return self._meter.usage()

    def _fit(self, messages: Sequence[Message], *, growing: bool, begun: str = "") -> list[Message]:
        if not self._finalizer.alive:
            raise ModelFailed("this session of the language model is closed")
        render = self._template.growing if growing else partial(self._template.reply, begun=begun)
        return self._history.fit(messages, lambda some: len(_tokens(self._model, render(some))))

    def _closing(self, shown: Sequence[Message], target: Sequence[int]) -> Closing | None:
        """Where in `target` the user's last word ends, and the stop behind it."""
        if not shown or shown[-1].role != "user":
            return None
        *before, last = shown
        text = last.content.strip()
        bare = text.rstrip(_CLOSING_MARKS)
        stop = len(self._tokens(self._template.growing(shown)))
        words = self._tokens(self._template.growing([*before, Message("user", bare)]))
        if not bare or target[: len(words)] != words:
            return Closing(stop, stop)
        return Closing(len(words), stop if _FULL_STOP.fullmatch(text[len(bare) :]) else len(words))

    def _tokens(self, pieces: Sequence[Piece]) -> list[int]:
        return self._prefix + _tokens(self._model, pieces)


def _sink(events: "asyncio.Queue[Event]") -> Sink:
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


def _tokens(model: Model, pieces: Sequence[Piece]) -> list[int]:
    return [token for piece in pieces for token in model.tokenize(piece.text, special=piece.markup)]
