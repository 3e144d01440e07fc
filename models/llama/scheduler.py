"""Which tokens go into the next batch: bookkeeping of many sequences in one context, and nothing else.

Pure: no tensors, no ctypes, no threads, no clock. A *sequence* holds tokens that the model has evaluated (its
*memory*) and may have a *target*: the prompt that its memory is to become. Every step's batch is

- one token of each sequence that is decoding a reply, plus
- tokens of prompts, as many as fill the batch up to `prompt_tokens`, and half of that at least: those of
  waiting replies before those of prefills that run ahead. Inside each class the prompt that needs fewest goes
  first, then the one that came first, so that eight who ask at once do not all wait for the last one's; but
  one token in `EVEN_SHARE` goes evenly to all, so that no flow of short ones stops a long one; plus
- guesses at what follows the decoding sequences' tokens (see `drafting`), shared evenly, as many as fill the
  batch up to `draft_rows`, or to `crowd_rows` where more than that are decoding; none beside a long prompt.

States of a sequence and what moves it:

    idle --submit(target)--> prompting --recorded--> idle                 (prefill: the target is in memory)
    idle --submit(reply)---> prompting --recorded--> sampling --sampled--> decoding --recorded--> sampling ...
    any --cancel--> idle     (what is in memory stays there)

After `plan()` the caller makes the step's cuts, evaluates its batch, calls `recorded(entries)`, then
`sampled(sequence, token)` or `finish` for each sequence that it names as sampling; again for the next entry
as long as `sampled` says that the guess was right. Memory then ends before the first wrong guess (`length`),
and the caller cuts the model's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from models.llama.drafting import draft

EVEN_SHARE = 4
"""See above."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One token of a batch."""

    sequence: int
    position: int
    token: int
    wants_logits: bool


class State(Enum):
    IDLE = auto()
    PROMPTING = auto()
    SAMPLING = auto()
    """The logits after the last token in memory, guesses not counted, are at hand; a token must be chosen."""
    DECODING = auto()
    """A chosen token waits to be evaluated."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pass through the model. `cuts` first: (sequence, length) says that the model's memory of `sequence`
    ends at `length` from now on. Then `entries`, all in one batch."""

    cuts: tuple[tuple[int, int], ...]
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class _Sequence:
    memory: list[int]
    state: State = State.IDLE
    target: list[int] = field(default_factory=list)
    replying: bool = False
    next_token: int = -1
    answered: int = -1
    """Length of the prompt that `chosen` continues; -1: none."""
    chosen: list[int] = field(default_factory=list)
    most: int | None = None
    """`chosen` will not be longer than this, if given."""
    guessed: int = 0
    """So many tokens at the end of memory are guesses that nothing has been compared with yet."""
    kept: int | None = None
    """Where the prompt leaves memory. Memory is cut there only when the first changed token is evaluated: a
    request that is withdrawn before that has destroyed nothing. None: no cut is due."""
    asked: int = 0
    """The request's place among all requests."""
    watched: frozenset[int] = frozenset()
    """Positions of the prompt whose logits are wanted, besides the last one of a reply's."""

    @property
    def position(self) -> int:
        return len(self.memory) if self.kept is None else self.kept

    def answers(self, target: Sequence[int]) -> bool:
        return self.answered == len(target) and self.memory[: self.answered] == list(target)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


class Scheduler:
    """See the module's text. Sequence numbers are the caller's; an unknown one is a `KeyError`."""

    def __init__(
        self,
        *,
        prompt_tokens: int = 32,
        draft_rows: int = 0,
        crowd_rows: int = 0,
        ends_reply: Callable[[int], bool] = lambda token: False,
    ) -> None:
        """`draft_rows` and `crowd_rows` 0: nothing is guessed. What `ends_reply` is never guessed, as nothing
        follows it."""
        if prompt_tokens < 1:
            raise ValueError("prompt_tokens must be at least 1")
        self._prompt_tokens = prompt_tokens
        self._draft_rows = draft_rows
        self._crowd_rows = crowd_rows
        self._ends_reply = ends_reply
        self._sequences: dict[int, _Sequence] = {}
        self._turn = 0
        self._requests = 0

    def open(self, sequence: int, memory: Iterable[int] = ()) -> None:
        """Begin a sequence whose `memory` the model holds already (a shared prefix)."""
        if sequence in self._sequences:
            raise ValueError(f"sequence {sequence} is open already")
        self._sequences[sequence] = _Sequence(list(memory))

    def close(self, sequence: int) -> None:
        del self._sequences[sequence]

    def state(self, sequence: int) -> State:
        return self._sequences[sequence].state

    def memory(self, sequence: int) -> tuple[int, ...]:
        return tuple(self._sequences[sequence].memory)

    def length(self, sequence: int) -> int:
        """Tokens in memory."""
        return len(self._sequences[sequence].memory)

    def busy(self, sequence: int | None = None) -> bool:
        """Is there anything to evaluate, at all or for `sequence`?"""
        if sequence is not None:
            return self._sequences[sequence].state is not State.IDLE
        return any(s.state is not State.IDLE for s in self._sequences.values())

    def submit(
        self,
        sequence: int,
        target: Sequence[int],
        *,
        reply: bool,
        most: int | None = None,
        watched: Iterable[int] = (),
    ) -> tuple[int, ...]:
        """Ask that `sequence`'s memory become `target`, and with `reply` that decoding start from there.
        Replaces any earlier request. A prefill that memory covers already (it may hold more) is over at once:
        `IDLE`. `most`: so many tokens at most will be chosen. `watched`: the logits after these positions of
        `target` are wanted as well, so that they are evaluated (again) whatever memory holds.

        Returns tokens that an earlier reply to this very prompt chose before it was cancelled: they begin
        this reply, and need no evaluation."""
        if not target:
            raise ValueError("an empty prompt")
        s = self._sequences[sequence]
        self._rest(s)
        positions = frozenset(watched)
        if any(not 0 <= position < len(target) for position in positions):
            raise ValueError(f"positions {sorted(positions)} are not all inside the prompt")
        s.most = most
        if reply and s.chosen and s.answers(target) and not positions:
            s.state, s.next_token = State.DECODING, s.chosen[-1]
            return tuple(s.chosen)
        kept = min(common_prefix(s.memory, target), *positions, len(target))
        s.watched = positions
        if kept == len(target):
            if not reply:
                return ()
            kept -= 1  # The logits after the last token are gone: it has to pass through the model again.
        self._requests += 1
        s.kept, s.target, s.replying, s.asked = kept, list(target), reply, self._requests
        s.state = State.PROMPTING
        return ()

    def cancel(self, sequence: int) -> None:
        """Stop prompting or decoding. Memory stays for the next request."""
        self._rest(self._sequences[sequence])

    def forget_reply(self, sequence: int) -> None:
        """What an earlier reply chose is not to begin another."""
        s = self._sequences[sequence]
        s.answered, s.chosen = -1, []

    def finish(self, sequence: int) -> None:
        """The reply is complete."""
        self._rest(self._sequences[sequence])

    @staticmethod
    def _rest(s: _Sequence) -> None:
        if s.state is State.SAMPLING and s.chosen:
            # A reply that ended among its guesses. For a replay its last token must not be in memory yet.
            del s.memory[s.answered + len(s.chosen) - 1 :]
        s.guessed = 0
        s.state, s.target, s.replying, s.next_token, s.kept = State.IDLE, [], False, -1, None
        s.watched = frozenset()

    def forget(self, sequence: int, length: int) -> None:
        """The model lost what `sequence` held from position `length` on; any request of it is dropped."""
        s = self._sequences[sequence]
        self._rest(s)
        del s.memory[length:]
        s.answered, s.chosen = -1, []

    def plan(self) -> Step:
        """The next step; without entries when nothing is to be done. Its cuts are made here too."""
        decoding = self._decode_step()
        entries = decoding + self._prefill_step(
            max(self._prompt_tokens - len(decoding), self._prompt_tokens // 2, 1)
        )
        rows = self._draft_rows if len(decoding) <= self._draft_rows else self._crowd_rows
        entries += self._guesses(rows - len(entries))
        cuts = tuple((entry.sequence, entry.position) for entry in entries if self._cut(entry))
        return Step(cuts, entries)

    def _cut(self, entry: Entry) -> bool:
        """Drop what the first token of a prompt replaces. Was there anything?"""
        s = self._sequences[entry.sequence]
        if s.kept is None:
            return False
        dropped = s.memory[s.kept :]
        del s.memory[s.kept :]
        s.kept, s.answered, s.chosen = None, -1, []
        return bool(dropped)

    def _decode_step(self) -> tuple[Entry, ...]:
        return tuple(
            Entry(number, len(s.memory), s.next_token, True)
            for number, s in self._sequences.items()
            if s.state is State.DECODING
        )

    def _guesses(self, room: int) -> tuple[Entry, ...]:
        """At most `room` tokens that may follow those of `_decode_step`."""
        if room < 1:
            return ()
        found: dict[int, list[int]] = {}
        for number, s in self._sequences.items():
            if s.state is State.DECODING:
                # The token after the last guess is chosen too.
                most = room if s.most is None else min(room, s.most - len(s.chosen) - 1)
                found[number] = draft([*s.memory, s.next_token], most, self._ends_reply)
        wanted = {number: len(guesses) for number, guesses in found.items() if guesses}
        return tuple(
            Entry(number, len(self._sequences[number].memory) + 1 + i, found[number][i], True)
            for number, count in share(wanted, room, self._turn).items()
            for i in range(count)
        )

    def _prefill_step(self, budget: int) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        for replying in (True, False):
            waiting = {
                number: len(s.target) - s.position
                for number, s in self._sequences.items()
                if s.state is State.PROMPTING and s.replying is replying
            }
            order = sorted(waiting, key=lambda number: (waiting[number], self._sequences[number].asked))
            for number, count in portions(waiting, order, budget, self._turn).items():
                entries += self._prompt_entries(number, count)
                budget -= count
        self._turn += 1
        return tuple(entries)

    def _prompt_entries(self, number: int, count: int) -> list[Entry]:
        s = self._sequences[number]
        last = len(s.target) - 1
        return [
            Entry(
                number,
                position,
                s.target[position],
                wants_logits=(s.replying and position == last) or position in s.watched,
            )
            for position in range(s.position, s.position + count)
        ]

    def recorded(self, entries: Sequence[Entry]) -> tuple[tuple[int, ...], dict[int, list[Entry]]]:
        """The model has evaluated `entries`. Returns (sequences whose prefill is complete, sequences that now
        sample: each with the entry after which a token is to be chosen, then its guesses)."""
        complete: list[int] = []
        sampling: dict[int, list[Entry]] = {}
        for entry in entries:
            s = self._sequences[entry.sequence]
            if entry.position != len(s.memory):
                raise ValueError(f"sequence {entry.sequence}: position {entry.position} is out of order")
            s.memory.append(entry.token)
            if s.state is State.DECODING:
                s.state = State.SAMPLING
                sampling[entry.sequence] = [entry]
            elif s.state is State.SAMPLING:
                s.guessed += 1
                sampling[entry.sequence].append(entry)
            elif s.state is State.PROMPTING and len(s.memory) == len(s.target):
                if s.replying:
                    s.answered, s.chosen = len(s.target), []
                    s.state = State.SAMPLING
                    sampling[entry.sequence] = [entry]
                else:
                    self._rest(s)
                    complete.append(entry.sequence)
        return tuple(complete), sampling

    def sampled(self, sequence: int, token: int) -> bool:
        """`token` was chosen to follow the memory, its guesses not counted. True: so it was guessed, it is in
        memory, and unless `finish` comes first the token after it is to be chosen now. Otherwise the guesses
        are dropped, and `token` is evaluated in the next step unless `finish` comes first."""
        s = self._sequences[sequence]
        if s.state is not State.SAMPLING:
            raise ValueError(f"sequence {sequence} is not sampling")
        s.chosen.append(token)
        settled = len(s.memory) - s.guessed
        if s.guessed and s.memory[settled] == token:
            s.guessed -= 1
            return True
        del s.memory[settled:]
        s.guessed = 0
        s.next_token = token
        s.state = State.DECODING
        return False


def portions(waiting: dict[int, int], order: Sequence[int], budget: int, turn: int) -> dict[int, int]:
    """Divide `budget` tokens among `waiting` (sequence -> tokens it still needs): one in `EVEN_SHARE` evenly,
    the rest to the first in `order` until it has all it needs, then to the next. Sums to min(budget, all
    needs)."""
    granted = share(waiting, budget // EVEN_SHARE, turn)
    left = budget - sum(granted.values())
    for number in order:
        more = min(left, waiting[number] - granted.get(number, 0))
        if more:
            granted[number] = granted.get(number, 0) + more
            left -= more
    return granted


def share(waiting: dict[int, int], budget: int, turn: int) -> dict[int, int]:
    """Divide `budget` tokens evenly among `waiting` (sequence -> tokens it still needs); what one does not
    need goes to the others, and the odd tokens go to a different sequence each `turn`. Sums to min(budget,
    all needs)."""
    granted = dict.fromkeys(waiting, 0)
    hungry = dict(waiting)
    while hungry and budget >= len(hungry):
        portion = min(budget // len(hungry), *hungry.values())
        for number in list(hungry):
            granted[number] += portion
            hungry[number] -= portion
            if hungry[number] == 0:
                del hungry[number]
            budget -= portion
    order = list(hungry)
    for i in range(min(budget, len(order))):
        granted[order[(turn + i) % len(order)]] += 1
    return {number: count for number, count in granted.items() if count}
