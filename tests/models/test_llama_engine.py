"""The engine's thread with a pretended model: faults end the session concerned and no other."""

import threading
from collections.abc import Iterator, Sequence
from queue import Queue

import numpy as np
import pytest
from numpy.typing import NDArray

from models.base import GREEDY, ModelBusy, ModelError, ModelFailed, Sampling
from models.llama.audit import Meter, Usage
from models.llama.binding import DecodeFailed
from models.llama.engine import Closing, Done, Engine, Event, TurnEnd
from models.llama.scheduler import Entry

END = 99
STOP = 90
"""Stands for a full stop."""
POISON = 66
"""A batch with this token fails as `llama_decode` does."""
NOT_A_NUMBER = 77
DEFECT = 55


class PretendedVocabulary:
    closed = False

    def piece(self, token: int) -> bytes:
        return f"{token} ".encode()

    def ends_reply(self, token: int) -> bool:
        return token == END

    def end_tokens(self) -> tuple[int, ...]:
        return (END, 98)

    def stop_tokens(self) -> tuple[int, ...]:
        return (STOP,)

    def close(self) -> None:
        self.closed = True


class PretendedMemory:
    """Follows every token by the next number. Refuses gaps, as llama.cpp does."""

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}
        self.steps: list[tuple[Entry, ...]] = []
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def decode(self, entries: Sequence[Entry]) -> dict[Entry, NDArray[np.float32]]:
        assert self.gate.wait(10)
        self.steps.append(tuple(entries))
        tokens = [entry.token for entry in entries]
        if POISON in tokens:
            raise DecodeFailed(1)
        if DEFECT in tokens:
            raise RuntimeError("a defect")
        rows = {}
        for entry in entries:
            held = self.held.setdefault(entry.sequence, [])
            assert entry.position == len(held)
            held.append(entry.token)
            if entry.wants_logits:
                row = np.zeros(100, np.float32)
                row[(entry.token + 1) % 100] = np.nan if entry.token == NOT_A_NUMBER else 1
                rows[entry] = row
        return rows

    def copy(self, source: int, target: int) -> None:
        self.held[target] = list(self.held[source])

    def truncate(self, sequence: int, length: int) -> None:
        del self.held.setdefault(sequence, [])[length:]

    def length(self, sequence: int) -> int:
        return len(self.held.get(sequence, []))

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(
        self, *, calls: int = 2, prefix_tokens: int = 20, draft_rows: int = 0, stops: Sequence[str] = ()
    ) -> None:
        self.memory = PretendedMemory()
        self.vocabulary = PretendedVocabulary()
        self.engine = Engine(
            self.vocabulary,
            self.memory,
            calls=calls,
            prefix_tokens=prefix_tokens,
            prompt_tokens=32,
            draft_rows=draft_rows,
            stops=stops,
        )
        self._number = 0

    def open(self, ticket: int, prefix: Sequence[int] = (1, 2, 3)) -> Event:
        events: Queue[Event] = Queue()
        self.engine.open(ticket, prefix, events.put)
        return events.get(timeout=10)

    def begin(self, ticket: int, target: Sequence[int], *, max_tokens: int = 50) -> tuple[int, Queue[Event]]:
        events: Queue[Event] = Queue()
        self._number += 1
        self.engine.reply(ticket, self._number, target, max_tokens, events.put)
        return self._number, events

    def reply(self, ticket: int, target: Sequence[int], *, max_tokens: int = 50) -> tuple[str, Event]:
        return read(self.begin(ticket, target, max_tokens=max_tokens)[1])

    def prefill(self, ticket: int, target: Sequence[int]) -> Event:
        events: Queue[Event] = Queue()
        self._number += 1
        self.engine.prefill(ticket, self._number, target, events.put)
        return events.get(timeout=10)

    def asked(
        self, ticket: int, target: Sequence[int], *, words: int, stop: int = 0, max_tokens: int = 2
    ) -> list[Event]:
        """All that the sink of a reply hears which asks how likely its first `words` tokens end there, whose
        stop comes after `stop` tokens."""
        events: Queue[Event] = Queue()
        self._number += 1
        closing = Closing(words, stop or words)
        self.engine.reply(ticket, self._number, target, max_tokens, events.put, closing=closing)
        heard: list[Event] = []
        while not heard or isinstance(heard[-1], str | TurnEnd):
            heard.append(events.get(timeout=10))
        return heard

    def evaluated(self, since: int) -> list[int]:
        return [entry.token for step in self.memory.steps[since:] for entry in step]


def share(after: int, *tokens: int) -> float:
    """The probability that `PretendedMemory` gives to `tokens` after `after`."""
    e = float(np.exp(1))
    return sum(e if token == after + 1 else 1 for token in tokens) / (e + 99)


def end_after(word: int, stop: int | None = None) -> TurnEnd:
    ends = share(word, 98, END) + share(word, STOP) * (0.2 if stop is None else share(stop, 98, END))
    return TurnEnd(pytest.approx(ends))  # type: ignore[arg-type]


def read(events: Queue[Event]) -> tuple[str, Event]:
    text = ""
    while isinstance(event := events.get(timeout=10), str):
        text += event
    return text, event


@pytest.fixture(params=[0, 4], ids=["plain", "guessing"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    yield from rigged(draft_rows=request.param)


@pytest.fixture
def guessing() -> Iterator[Rig]:
    yield from rigged(draft_rows=4)


def rigged(*, draft_rows: int, stops: Sequence[str] = ()) -> Iterator[Rig]:
    made = Rig(draft_rows=draft_rows, stops=stops)
    yield made
    made.memory.gate.set()
    made.engine.stop()
    assert made.memory.closed
    assert made.vocabulary.closed


def test_a_reply_counts_up_to_the_end_token(rig: Rig) -> None:
    assert rig.open(0) == Done()
    assert rig.reply(0, (1, 2, 3, 95)) == ("96 97 98 ", Done())
    assert rig.reply(0, (1, 2, 3, 20), max_tokens=2) == ("21 22 ", Done())


def metered(rig: Rig, ticket: int) -> Meter:
    meter = Meter()
    events: Queue[Event] = Queue()
    rig.engine.open(ticket, (1, 2, 3), events.put, meter)
    assert events.get(timeout=10) == Done()
    return meter


def test_right_guesses_save_passes(guessing: Rig) -> None:
    meter = metered(guessing, 0)
    steps = len(guessing.memory.steps)
    assert guessing.reply(0, (1, 2, 3, 30, 31, 32, 33, 34, 35, 29), max_tokens=7) == (
        "30 31 32 33 34 35 36 ",
        Done(),
    )
    assert [[entry.token for entry in step][-4:] for step in guessing.memory.steps[steps + 1 :]] == [
        [30],
        [31, 32, 33, 34],
        [35],
    ]
    assert meter.usage() == Usage(13, 13)
    assert guessing.engine.counters().guessed == guessing.engine.counters().guessed_right == 3


def test_wrong_guesses_leave_memory_and_count_as_evaluated_for_nothing(guessing: Rig) -> None:
    meter = metered(guessing, 0)
    target = (1, 2, 3, 30, 31, 32, 60, 61, 29)
    assert guessing.reply(0, target, max_tokens=6) == ("30 31 32 33 34 35 ", Done())
    assert guessing.memory.held[0] == [*target, 30, 31, 32, 33, 34]
    assert meter.usage() == Usage(13, 11), "60 and 61 were guessed"
    counters = guessing.engine.counters()
    assert (counters.guessed, counters.guessed_right, counters.reevaluated) == (3, 1, 0)


def test_a_reply_that_ends_among_right_guesses_leaves_memory_as_it_should() -> None:
    """Here a stop string ends it, which no token tells: the guesses go on behind it."""
    for rig in rigged(draft_rows=4, stops=("32 ",)):
        meter = metered(rig, 0)
        target = (1, 2, 3, 30, 31, 32, 33, 34, 35, 29)
        assert rig.reply(0, target) == ("30 31 ", Done())
        assert rig.memory.held[0] == [*target, 30, 31]
        assert meter.usage() == Usage(12, 9)
        assert rig.reply(0, target) == ("30 31 ", Done()), "a replay"
        assert rig.reply(0, (*target, 40), max_tokens=2) == ("41 42 ", Done())
        assert rig.engine.counters().reevaluated == 0


def test_a_fault_among_guesses_ends_the_reply_and_the_memory_stays_true(guessing: Rig) -> None:
    guessing.open(0)
    target = (1, 2, 3, 76, NOT_A_NUMBER, 50, 51, 75)
    text, event = guessing.reply(0, target)
    assert text == "76 77 "
    assert isinstance(event, ModelFailed)
    assert guessing.reply(0, (1, 2, 3, 95)) == ("96 97 98 ", Done())


def test_two_calls_guess_side_by_side(guessing: Rig) -> None:
    guessing.open(0)
    guessing.open(1)
    guessing.memory.gate.clear()
    _, first = guessing.begin(0, (1, 2, 3, 30, 31, 32, 33, 34, 35, 29), max_tokens=9)
    _, second = guessing.begin(1, (1, 2, 3, 40, 41, 60, 61, 62, 63, 39), max_tokens=9)
    guessing.memory.gate.set()
    assert read(first) == ("30 31 32 33 34 35 36 37 38 ", Done())
    assert read(second) == ("40 41 42 43 44 45 46 47 48 ", Done())
    assert 0 < guessing.engine.counters().guessed_right < guessing.engine.counters().guessed


def test_how_likely_the_words_end_comes_before_the_first_piece_and_once(rig: Rig) -> None:
    rig.open(0)
    steps = len(rig.memory.steps)
    heard = rig.asked(0, (1, 2, 3, 20, 97, 40, 41), words=5)
    assert heard == [end_after(97), "42 ", "43 ", Done()]
    assert heard[0] != end_after(50), "98 and 99 end a message, 51 does not"
    assert rig.evaluated(steps) == [20, 97, 40, 41, 42], "in the passes that the reply needs anyway"
    assert rig.asked(0, (1, 2, 3, 30, 50, 40, 41), words=5)[0] == end_after(50)


def test_a_stop_behind_the_words_counts_as_far_as_it_ends_them(rig: Rig) -> None:
    """Whether the transcriber heard a full stop is not the model's evidence."""
    rig.open(0)
    steps = len(rig.memory.steps)
    assert rig.asked(0, (1, 2, 3, 89, 90, 40), words=4, stop=5)[0] == end_after(89, 90)
    assert rig.evaluated(steps)[:3] == [89, 90, 40]
    assert rig.asked(0, (1, 2, 3, 89, 97, 40), words=4, stop=5)[0] == end_after(89, 97)
    assert end_after(89, 97) != end_after(89, 90)


def test_the_words_end_may_be_asked_for_in_a_later_step_than_the_prompts_end(rig: Rig) -> None:
    rig.open(0)
    assert rig.asked(0, (1, 2, 3, 97, *range(60)), words=4)[0] == end_after(97)


def test_words_that_were_evaluated_ahead_pass_once_more_by_their_last_token(rig: Rig) -> None:
    rig.open(0)
    rig.prefill(0, (1, 2, 3, 20, 97))
    steps = len(rig.memory.steps)
    assert rig.asked(0, (1, 2, 3, 20, 97, 40), words=5)[0] == end_after(97)
    assert rig.evaluated(steps)[:2] == [97, 40]
    rig.prefill(0, (1, 2, 3, 20, 97, 60))
    steps = len(rig.memory.steps)
    assert rig.asked(0, (1, 2, 3, 20, 97, 40), words=5)[0] == end_after(97)
    assert rig.evaluated(steps)[:1] == [40], "what was said of them is remembered"
    rig.prefill(0, (1, 2, 3, 20, 30, 31))
    steps = len(rig.memory.steps)
    assert rig.asked(0, (1, 2, 3, 20, 30, 31, 40), words=5, stop=6)[0] == end_after(30, 31)
    assert rig.evaluated(steps)[:3] == [30, 31, 40], "the last word and its stop"


def test_a_replayed_reply_tells_the_end_again_and_evaluates_nothing_twice(rig: Rig) -> None:
    rig.open(0)
    first = rig.asked(0, (1, 2, 3, 97, 40), words=4, max_tokens=3)
    steps = len(rig.memory.steps)
    assert rig.asked(0, (1, 2, 3, 97, 40), words=4, max_tokens=3) == first
    assert rig.evaluated(steps) == []
    assert rig.engine.counters().reevaluated == 0


def test_a_reply_that_was_not_asked_for_the_end_is_not_replayed_to_one_that_is(rig: Rig) -> None:
    rig.open(0)
    assert rig.reply(0, (1, 2, 3, 97, 40), max_tokens=2) == ("41 42 ", Done())
    assert rig.asked(0, (1, 2, 3, 97, 40), words=4) == [end_after(97), "41 ", "42 ", Done()]


def test_an_end_that_is_no_number_is_not_told(rig: Rig) -> None:
    rig.open(0)
    assert rig.asked(0, (1, 2, 3, NOT_A_NUMBER, 40), words=4) == ["41 ", "42 ", Done()]


def test_the_meter_counts_one_sessions_tokens_and_those_that_stand(rig: Rig) -> None:
    meter = Meter()
    events: Queue[Event] = Queue()
    rig.engine.open(0, (1, 2, 3), events.put, meter)
    events.get(timeout=10)
    assert meter.usage() == Usage(0, 0)
    rig.prefill(0, (1, 2, 3, 10, 20))
    rig.prefill(0, (1, 2, 3, 10, 30, 40))
    assert meter.usage() == Usage(4, 3)
    rig.open(1)
    rig.prefill(1, (1, 2, 3, 4, 5, 6))
    rig.reply(0, (1, 2, 3, 10, POISON))
    assert meter.usage() == Usage(5, 1), "20, 30 and 40 were for nothing, and so was what failed"
    rig.engine.close(0)
    rig.open(2)
    rig.prefill(2, (1, 2, 3, 4, 5))
    assert meter.usage() == Usage(5, 1)


def test_a_prefix_is_evaluated_once_for_all_calls(rig: Rig) -> None:
    assert rig.open(0) == rig.open(1) == Done()
    assert rig.engine.counters().evaluated == 3
    assert rig.open(2).__class__ is ModelBusy
    rig.engine.close(0)
    assert rig.open(3) == Done()
    assert rig.engine.counters().evaluated == 3
    assert rig.engine.occupancy().calls == 2


def test_closing_while_the_prefix_is_evaluated_gives_the_sequence_back(rig: Rig) -> None:
    rig.memory.gate.clear()
    events: Queue[Event] = Queue()
    rig.engine.open(0, (1, 2, 3), events.put)
    rig.engine.close(0)
    rig.memory.gate.set()
    assert isinstance(events.get(timeout=10), ModelFailed)
    assert [rig.open(1), rig.open(2)] == [Done(), Done()]


def test_prefixes_leave_least_recently_used_first(rig: Rig) -> None:
    for ticket, first in enumerate((10, 20, 30)):
        assert rig.open(ticket, range(first, first + 7)) == Done()
        rig.engine.close(ticket)
    assert rig.engine.occupancy().prefixes == 2, "20 tokens of room hold two of seven"
    assert rig.open(5, range(20, 27)) == Done()
    assert rig.engine.counters().evaluated == 21, "the second is still there"
    assert rig.open(6, range(10, 17)) == Done()
    assert rig.engine.counters().evaluated == 28
    long = rig.open(7, range(21))
    assert isinstance(long, ModelBusy)
    rig.engine.close(5)
    assert "21 tokens long; at most 20 fit" in str(rig.open(8, range(21)))


def test_a_failing_batch_ends_only_the_session_that_fails_alone_too(rig: Rig) -> None:
    rig.open(0)
    rig.open(1)
    rig.memory.gate.clear()
    _, good = rig.begin(0, (1, 2, 3, 30), max_tokens=8)
    _, bad = rig.begin(1, (1, 2, 3, 40, POISON))
    rig.memory.gate.set()
    text, event = read(bad)
    assert text == ""
    assert isinstance(event, ModelFailed)
    assert "llama_decode returned 1" in str(event)
    assert read(good) == ("31 32 33 34 35 36 37 38 ", Done())
    assert rig.reply(1, (1, 2, 3, 40), max_tokens=1) == ("41 ", Done()), "the session lives on"
    assert rig.engine.counters().reevaluated == 0


@pytest.mark.parametrize("token", [NOT_A_NUMBER, DEFECT])
def test_a_fault_of_the_model_ends_the_reply_and_not_the_engine(rig: Rig, token: int) -> None:
    rig.open(0)
    _, event = rig.reply(0, (1, 2, 3, token))
    assert isinstance(event, ModelFailed)
    assert rig.reply(0, (1, 2, 3, 95))[0] == "96 97 98 "


def test_a_failing_prefix_fails_the_open_and_can_be_tried_again(rig: Rig) -> None:
    assert isinstance(rig.open(0, (1, POISON)), ModelFailed)
    assert rig.engine.occupancy() == type(rig.engine.occupancy())(0, 0)
    assert rig.open(1) == Done()


def test_a_listener_that_is_gone_hurts_nobody(rig: Rig) -> None:
    rig.open(0)
    rig.open(1)

    def gone(_event: Event) -> None:
        raise RuntimeError("Event loop is closed")

    rig.engine.reply(0, 1000, (1, 2, 3, 10), 50, gone)
    assert rig.reply(1, (1, 2, 3, 95))[0] == "96 97 98 "
    assert rig.reply(0, (1, 2, 3, 95))[0] == "96 97 98 "


def test_cancel_takes_effect_after_the_step_under_way(rig: Rig) -> None:
    rig.open(0)
    rig.memory.gate.clear()
    steps = len(rig.memory.steps)
    number, events = rig.begin(0, (1, 2, 3, *([4] * 200)))
    rig.engine.cancel(0, number)
    rig.memory.gate.set()
    assert rig.prefill(0, (1, 2, 3)) == Done()
    assert len(rig.memory.steps) - steps <= 1
    assert events.empty()


def test_a_late_cancel_does_not_touch_the_next_request(rig: Rig) -> None:
    rig.open(0)
    number, events = rig.begin(0, (1, 2, 3, 97))
    assert read(events)[0] == "98 "
    rig.memory.gate.clear()
    _, second = rig.begin(0, (1, 2, 3, 95))
    rig.engine.cancel(0, number)
    rig.memory.gate.set()
    assert read(second) == ("96 97 98 ", Done())


def test_a_newer_request_ends_the_older(rig: Rig) -> None:
    rig.open(0)
    rig.memory.gate.clear()
    _, first = rig.begin(0, (1, 2, 3, 10), max_tokens=1000)
    _, second = rig.begin(0, (1, 2, 3, 95))
    rig.memory.gate.set()
    assert isinstance(read(first)[1], ModelFailed)
    assert read(second)[0] == "96 97 98 "


def test_closing_fails_what_is_under_way_and_unknown_tickets_are_ignored(rig: Rig) -> None:
    rig.open(0)
    rig.memory.gate.clear()
    _, events = rig.begin(0, (1, 2, 3, 10), max_tokens=1000)
    rig.engine.close(0)
    rig.engine.close(0)
    rig.engine.close(12345)
    rig.memory.gate.set()
    assert isinstance(read(events)[1], ModelFailed)
    assert isinstance(rig.prefill(0, (1, 2)), ModelFailed)


def test_after_stop_everything_fails_at_once() -> None:
    rig = Rig()
    rig.open(0)
    _, events = rig.begin(0, (1, 2, 3, 10), max_tokens=10_000)
    rig.engine.stop()
    assert isinstance(read(events)[1], ModelError)
    assert isinstance(rig.open(1), ModelFailed)
    assert isinstance(rig.prefill(0, (1,)), ModelFailed)
    rig.engine.stop()


# Grammars


class Counting:
    """Allows what is written as a list of tokens, one after the other, then the end."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = [*tokens, END]

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        return np.array([self.tokens[:1] == [token] for token in tokens], np.bool_)

    def accept(self, token: int) -> None:
        assert self.tokens.pop(0) == token


def constrained(rig: Rig) -> Rig:
    """The vocabulary knows a brace, 70, and tokens that hold one or end an object."""
    pieces = {70: b"{", 71: b' {"', 80: b"}"}
    plain = rig.vocabulary.piece
    rig.vocabulary.piece = lambda token: pieces.get(token, plain(token))  # type: ignore[method-assign]
    rig.vocabulary.tokenize = lambda text, special: [70]  # type: ignore[attr-defined]
    rig.vocabulary.matcher = lambda text: Counting([int(token) for token in text.split()])  # type: ignore[attr-defined]
    return rig


def held(
    rig: Rig, target: Sequence[int], grammar: str | None, *, ticket: int = 0, number: int = 500
) -> tuple[str, Event]:
    events: Queue[Event] = Queue()
    rig.engine.reply(ticket, number, target, 30, events.put, grammar=grammar)
    return read(events)


@pytest.mark.parametrize("draft_rows", [0, 4])
def test_a_reply_is_held_to_its_grammar_from_the_first_brace_on(draft_rows: int) -> None:
    rig = constrained(Rig(draft_rows=draft_rows))
    rig.open(0)
    said, end = held(rig, (1, 2, 3, 68), "70 5 9 80")
    assert (said, end) == ("69 {5 9 }", Done()), "and it ends where the grammar does"


def test_without_a_brace_a_reply_is_free() -> None:
    rig = constrained(Rig())
    rig.open(0)
    assert held(rig, (1, 2, 3, 94), "70 5 80") == ("95 96 97 98 ", Done())


def test_a_brace_that_hangs_on_to_other_text_is_taken_alone() -> None:
    rig = constrained(Rig())
    rig.open(0)
    rig.vocabulary.piece = {**dict.fromkeys(range(100), b"x"), 71: b' {"', 70: b"{", 80: b"}"}.__getitem__  # type: ignore[method-assign]
    assert held(rig, (1, 2, 3, 70), "70 5 80")[0] == "{x}"


def test_with_no_grammar_but_words_there_is_no_brace() -> None:
    rig = constrained(Rig())
    rig.open(0)
    said, _ = held(rig, (1, 2, 3, 68), "")
    assert said.startswith("69 ")
    assert "{" not in said


def test_a_reply_that_was_cut_off_goes_on_where_its_grammar_stood() -> None:
    rig = constrained(Rig())
    rig.open(0)
    rig.memory.gate.clear()
    events: Queue[Event] = Queue()
    rig.engine.reply(0, 1, (1, 2, 3, 68), 30, events.put, grammar="70 5 9 80")
    rig.memory.gate.set()
    while (event := events.get(timeout=10)) != "{":
        assert isinstance(event, str)
    rig.engine.cancel(0, 1)
    assert held(rig, (1, 2, 3, 68), "70 5 9 80")[0] == "69 {5 9 }"


def test_a_reply_begun_under_another_grammar_is_chosen_anew() -> None:
    rig = constrained(Rig())
    rig.open(0)
    assert held(rig, (1, 2, 3, 68), "70 5 80")[0] == "69 {5 }"
    assert held(rig, (1, 2, 3, 68), "70 6 80", number=501)[0] == "69 {6 }"
    assert "{" not in held(rig, (1, 2, 3, 68), "", number=502)[0]


def test_a_grammar_that_cannot_be_read_fails_its_own_reply_alone() -> None:
    rig = constrained(Rig())
    rig.open(0)
    rig.open(1)

    def unreadable(text: str) -> Counting:
        raise ModelFailed("cannot read the grammar")

    rig.vocabulary.matcher = unreadable  # type: ignore[attr-defined]
    _, end = held(rig, (1, 2, 3, 68), "nonsense")
    assert isinstance(end, ModelFailed)
    assert rig.reply(1, (1, 2, 3, 95))[0] == "96 97 98 "
    assert held(rig, (1, 2, 3, 95), None, number=502)[0] == "96 97 98 ", "the session lives on"


# Replies that were begun elsewhere


def test_a_reply_that_was_begun_goes_on_after_its_first_words(rig: Rig) -> None:
    rig.open(0)
    events: Queue[Event] = Queue()
    rig.engine.reply(0, 1, (1, 2, 3, 40, 95, 96), 30, events.put, begun=2)
    assert read(events) == ("97 98 ", Done())
    assert rig.memory.held[0] == [1, 2, 3, 40, 95, 96, 97, 98]


def begun(rig: Rig, own: Sequence[int], grammar: str, *, number: int) -> tuple[str, Event]:
    events: Queue[Event] = Queue()
    rig.engine.reply(0, number, (1, 2, 3, *own), 30, events.put, grammar=grammar, begun=len(own))
    return read(events)


@pytest.mark.parametrize("draft_rows", [0, 4])
def test_a_call_that_was_begun_is_held_to_the_rest_of_its_grammar(draft_rows: int) -> None:
    rig = constrained(Rig(draft_rows=draft_rows))
    rig.open(0)
    assert begun(rig, (69, 70, 5), "70 5 9 80", number=1) == ("9 }", Done())
    assert begun(rig, (69,), "70 5 9 80", number=2) == ("{5 9 }", Done())
    assert "{" not in begun(rig, (69,), "", number=3)[0]


def test_a_call_that_was_said_whole_is_over_and_costs_nothing() -> None:
    rig = constrained(Rig())
    rig.open(0)
    steps = len(rig.memory.steps)
    assert begun(rig, (69, 70, 5, 80), "70 5 80", number=1) == ("", Done())
    assert len(rig.memory.steps) == steps


def test_words_that_do_not_follow_the_grammar_fail_their_own_reply_alone() -> None:
    rig = constrained(Rig())
    rig.open(0)
    rig.open(1)
    assert isinstance(begun(rig, (69, 70, 6), "70 5 80", number=1)[1], ModelFailed)
    assert isinstance(begun(rig, (69, 70, 5, 80, 7), "70 5 80", number=2)[1], ModelFailed), "nothing follows"

    def unreadable(text: str) -> Counting:
        raise ModelFailed("cannot read the grammar")

    rig.vocabulary.matcher = unreadable  # type: ignore[attr-defined]
    assert isinstance(begun(rig, (69, 70), "nonsense", number=3)[1], ModelFailed)
    assert rig.reply(1, (1, 2, 3, 95))[0] == "96 97 98 "


# Calls beside each other


def test_each_call_samples_by_its_own_settings() -> None:
    """The pretended model likes the next number little better than the others."""
    rig = Rig(calls=3)
    said = []
    for ticket, sampling in enumerate((GREEDY, Sampling(1.0, seed=1), Sampling(1.0, seed=2))):
        events: Queue[Event] = Queue()
        rig.engine.open(ticket, (1, 2, 3), events.put, sampling=sampling)
        assert events.get(timeout=10) == Done()
    rig.memory.gate.clear()
    heard = [rig.begin(ticket, (1, 2, 3, 20), max_tokens=6)[1] for ticket in range(3)]
    rig.memory.gate.set()
    said = [read(events)[0] for events in heard]
    assert said[0] == "21 22 23 24 25 26 "
    assert len(set(said)) == 3
    rig.engine.stop()


def test_a_cancel_among_eight_calls_takes_one_step_and_the_others_go_on() -> None:
    rig = Rig(calls=8)
    for ticket in range(8):
        rig.open(ticket)
    rig.memory.gate.clear()
    begun = [rig.begin(ticket, (1, 2, 3, 4 * ticket), max_tokens=20) for ticket in range(8)]
    rig.memory.gate.set()
    assert isinstance(begun[7][1].get(timeout=10), str)
    rig.memory.gate.clear()  # the step under way, or the next one, waits here
    rig.engine.cancel(3, begun[3][0])
    steps = len(rig.memory.steps)
    rig.memory.gate.set()
    for ticket, (_, others) in enumerate(begun):
        if ticket not in (3, 7):
            assert read(others)[1] == Done()
    later = [entry.sequence for step in rig.memory.steps[steps + 1 :] for entry in step]
    assert 3 not in later
    rig.engine.stop()


def test_eight_calls_of_one_persona_evaluate_its_prompt_once() -> None:
    rig = Rig(calls=8)
    for ticket in range(8):
        assert rig.open(ticket, prefix=(1, 2, 3, 4)) == Done()
    assert rig.evaluated(0) == [1, 2, 3, 4]
    rig.engine.stop()


def test_a_long_prompt_beside_a_reply_costs_it_no_step() -> None:
    rig = Rig(calls=2)
    rig.open(0)
    rig.open(1)
    rig.memory.gate.clear()
    _, events = rig.begin(0, (1, 2, 3, 40), max_tokens=12)
    rig.begin(1, (1, 2, 3, *[50] * 400), max_tokens=1)
    rig.memory.gate.set()
    assert read(events)[1] == Done()
    with_reply = [n for n, step in enumerate(rig.memory.steps) if any(e.sequence == 0 for e in step)]
    first = with_reply[0]
    assert with_reply == list(range(first, first + 12)), "a token in every step"
    assert all(len(rig.memory.steps[n]) <= 32 for n in with_reply)
    rig.engine.stop()
