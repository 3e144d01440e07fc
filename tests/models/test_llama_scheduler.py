"""The batch planner, without a model: what is evaluated, when, and what is never evaluated twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.llama.audit import Audit
from models.llama.scheduler import (
    EVEN_SHARE,
    Entry,
    Scheduler,
    State,
    Step,
    common_prefix,
    portions,
    share,
)


def step(scheduler: Scheduler, *, next_token: int = 900) -> tuple[Entry, ...]:
    """Plan, pretend to evaluate, choose `next_token` wherever a token must be chosen."""
    entries = scheduler.plan().entries
    _, sampling = scheduler.recorded(entries)
    for sequence in sampling:
        scheduler.sampled(sequence, next_token)
    return entries


def planned(scheduler: Scheduler) -> tuple[Entry, ...]:
    return scheduler.plan().entries


def tokens_of(entries: tuple[Entry, ...], sequence: int) -> list[int]:
    return [entry.token for entry in entries if entry.sequence == sequence]


def drain(scheduler: Scheduler) -> None:
    while scheduler.busy():
        step(scheduler)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1, 2], [1, 2], 2),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2], [1, 3], 1),
        ([1], [2], 0),
    ],
)
def test_common_prefix(a: list[int], b: list[int], length: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == length


def test_a_prompt_goes_in_steps_and_only_its_last_token_wants_logits() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    scheduler.open(0)
    scheduler.submit(0, list(range(70)), reply=True)
    sizes = []
    entries: tuple[Entry, ...] = ()
    while scheduler.state(0) is State.PROMPTING:
        entries = step(scheduler)
        sizes.append(len(entries))
        assert [entry.wants_logits for entry in entries[:-1]] == [False] * (len(entries) - 1)
    assert sizes == [32, 32, 6]
    assert entries[-1] == Entry(0, 69, 69, True)
    assert planned(scheduler) == (Entry(0, 70, 900, True),)


def test_a_prefill_wants_no_logits_and_ends_idle() -> None:
    scheduler = Scheduler()
    scheduler.open(3)
    scheduler.submit(3, [1, 2, 3], reply=False)
    entries = planned(scheduler)
    assert not any(entry.wants_logits for entry in entries)
    assert scheduler.recorded(entries) == ((3,), {})
    assert scheduler.state(3) is State.IDLE
    assert planned(scheduler) == ()


def test_only_the_changed_tail_is_planned() -> None:
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2, 3])
    scheduler.submit(0, [1, 2, 3, 4, 5], reply=False)
    assert tokens_of(step(scheduler), 0) == [4, 5]
    scheduler.submit(0, [1, 2, 3, 4, 6, 7], reply=True)
    assert scheduler.plan() == Step(((0, 4),), (Entry(0, 4, 6, False), Entry(0, 5, 7, True)))


def test_a_request_withdrawn_before_its_first_step_has_cut_nothing() -> None:
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2, 3])
    scheduler.submit(0, [1, 9, 9], reply=False)
    scheduler.cancel(0)
    assert scheduler.memory(0) == (1, 2, 3)
    scheduler.submit(0, [1, 2, 3, 4], reply=False)
    assert scheduler.plan() == Step((), (Entry(0, 3, 4, False),))


def test_a_covered_prefill_does_nothing_and_keeps_what_is_beyond_it() -> None:
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2, 3, 4])
    scheduler.submit(0, [1, 2], reply=False)
    assert not scheduler.busy()
    assert scheduler.memory(0) == (1, 2, 3, 4)


def test_decoding_sequences_and_prompts_share_a_step() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    scheduler.open(0)
    scheduler.open(1)
    scheduler.submit(0, [1], reply=True)
    step(scheduler, next_token=500)
    scheduler.submit(1, list(range(100)), reply=False)
    entries = planned(scheduler)
    assert entries[0] == Entry(0, 1, 500, True)
    assert len(tokens_of(entries, 1)) == 31, "the step's size is what it would be without the reply"


def test_however_many_decode_a_prompt_has_half_a_step() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    for sequence in range(40):
        scheduler.open(sequence)
        scheduler.submit(sequence, [1], reply=True)
    step(scheduler, next_token=500)
    step(scheduler, next_token=500)
    scheduler.open(40)
    scheduler.submit(40, list(range(100)), reply=True)
    entries = planned(scheduler)
    assert [entry.sequence for entry in entries[:40]] == list(range(40)), "and every reply its token"
    assert len(tokens_of(entries, 40)) == 16


def test_waiting_replies_go_before_prefills_that_run_ahead() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    scheduler.open(0)
    scheduler.open(1)
    scheduler.submit(0, list(range(100)), reply=False)
    scheduler.submit(1, list(range(20)), reply=True)
    entries = planned(scheduler)
    assert (len(tokens_of(entries, 0)), len(tokens_of(entries, 1))) == (12, 20)


def test_of_equal_prompts_the_first_to_be_asked_for_ends_first() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    for sequence in range(3):
        scheduler.open(sequence)
    for sequence in (2, 0, 1):
        scheduler.submit(sequence, list(range(48)), reply=True)
    ended: list[int] = []
    for count in range(1, 6):
        sampling = scheduler.recorded(planned(scheduler))[1]
        ended += sampling
        for sequence in sampling:
            scheduler.sampled(sequence, 500)
            scheduler.finish(sequence)
        if count == 3:
            assert ended == [2], "not all at the end"
    assert ended == [2, 0, 1], "144 tokens in five steps"


def steps_until_first_token(scheduler: Scheduler, sequence: int) -> tuple[int, list[set[int]]]:
    """Steps until `sequence` samples, and who had a token in each. Every reply goes on."""
    served: list[set[int]] = []
    while True:
        entries = planned(scheduler)
        served.append({entry.sequence for entry in entries if entry.wants_logits})
        sampling = scheduler.recorded(entries)[1]
        for number in sampling:
            scheduler.sampled(number, 500 + len(served))
        if sequence in sampling:
            return len(served), served


def test_a_long_prompt_holds_up_neither_replies_nor_a_short_prompt() -> None:
    scheduler = Scheduler(prompt_tokens=32)
    for sequence in (0, 1, 2):
        scheduler.open(sequence)
    scheduler.submit(0, [1], reply=True)
    step(scheduler, next_token=500)
    scheduler.submit(1, list(range(1000)), reply=True)
    for _ in range(5):
        assert tokens_of(planned(scheduler), 0), "the reply has a token in every step"
        step(scheduler, next_token=500)
    scheduler.submit(2, list(range(20)), reply=True)
    steps, served = steps_until_first_token(scheduler, 2)
    assert steps == 1
    assert all(0 in each for each in served)


def test_short_prompts_without_end_do_not_stop_a_long_one() -> None:
    """A quarter of each step is shared evenly: 300 tokens beside one short prompt after the other."""
    scheduler = Scheduler(prompt_tokens=32)
    scheduler.open(0)
    scheduler.submit(0, list(range(300)), reply=True)
    steps = short = 0
    while scheduler.busy(0):
        steps += 1
        if short == 0 or not scheduler.busy(short):
            short += 1
            scheduler.open(short)
            scheduler.submit(short, list(range(40)), reply=True)
        entries = planned(scheduler)
        for number in scheduler.recorded(entries)[1]:
            scheduler.sampled(number, 500)
            scheduler.finish(number)
    assert steps <= 300 / 4, "four tokens a step at least"
    assert short > 10


@given(
    st.dictionaries(st.integers(0, 9), st.integers(1, 200), max_size=8),
    st.integers(0, 64),
    st.integers(0, 1000),
)
def test_portions_give_all_they_have_the_first_most_and_the_others_their_even_part(
    waiting: dict[int, int], budget: int, turn: int
) -> None:
    order = sorted(waiting, key=waiting.__getitem__)
    granted = portions(waiting, order, budget, turn)
    assert sum(granted.values()) == min(budget, sum(waiting.values()))
    assert all(0 < count <= waiting[number] for number, count in granted.items())
    for number, count in share(waiting, budget // EVEN_SHARE, turn).items():
        assert granted[number] >= count
    unmet = [number for number in order if granted.get(number, 0) < waiting[number]]
    even = budget // EVEN_SHARE
    assert all(granted.get(number, 0) <= even for number in unmet[1:]), "the rest goes in order"


@given(
    st.dictionaries(st.integers(0, 9), st.integers(1, 200), max_size=8),
    st.integers(0, 64),
    st.integers(0, 1000),
)
def test_share_gives_all_it_has_and_nobody_more_than_he_needs(
    waiting: dict[int, int], budget: int, turn: int
) -> None:
    granted = share(waiting, budget, turn)
    assert sum(granted.values()) == min(budget, sum(waiting.values()))
    assert all(0 < count <= waiting[number] for number, count in granted.items())
    # Even: who got less than another by more than the odd token needed no more.
    for number, need in waiting.items():
        if granted.get(number, 0) < need:
            assert granted.get(number, 0) + 1 >= max(granted.values(), default=0)


def test_cancel_while_prompting_keeps_what_is_evaluated() -> None:
    scheduler = Scheduler(prompt_tokens=4)
    scheduler.open(0)
    scheduler.submit(0, list(range(10)), reply=True)
    step(scheduler)
    scheduler.cancel(0)
    assert planned(scheduler) == ()
    scheduler.submit(0, list(range(10)), reply=True)
    assert tokens_of(planned(scheduler), 0) == [4, 5, 6, 7]


def test_a_cancelled_reply_asked_for_again_is_replayed() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    scheduler.submit(0, [1, 2], reply=True)
    for token in (50, 51, 52):
        step(scheduler, next_token=token)
    scheduler.cancel(0)
    assert scheduler.memory(0) == (1, 2, 50, 51)
    assert scheduler.submit(0, [1, 2], reply=True) == (50, 51, 52)
    assert planned(scheduler) == (Entry(0, 4, 52, True),)


def test_a_prefill_inside_the_same_prompt_does_not_spoil_the_replay() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    scheduler.submit(0, [1, 2, 3], reply=True)
    step(scheduler, next_token=50)
    scheduler.cancel(0)
    scheduler.submit(0, [1, 2], reply=False)
    assert scheduler.submit(0, [1, 2, 3], reply=True) == (50,)


def test_a_changed_prompt_is_not_replayed() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    scheduler.submit(0, [1, 2], reply=True)
    step(scheduler, next_token=50)
    step(scheduler, next_token=51)
    scheduler.cancel(0)
    assert scheduler.submit(0, [1, 2, 50, 60], reply=True) == ()
    assert tokens_of(planned(scheduler), 0) == [60]


def test_a_prompt_that_goes_on_after_the_reply_ends_its_replay() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    scheduler.submit(0, [1, 2], reply=True)
    step(scheduler, next_token=50)
    step(scheduler, next_token=51)
    scheduler.submit(0, [1, 2, 50, 60], reply=False)
    step(scheduler)
    assert scheduler.submit(0, [1, 2], reply=True) == ()


def test_a_reply_from_inside_memory_evaluates_its_last_token_again() -> None:
    """Its logits are gone. The only case of a token evaluated twice, and the audit counts it."""
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2, 3, 4])
    scheduler.submit(0, [1, 2], reply=True)
    assert scheduler.plan() == Step(((0, 1),), (Entry(0, 1, 2, True),))


def test_a_watched_position_wants_logits_and_is_evaluated_whatever_memory_holds() -> None:
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2])
    scheduler.submit(0, [1, 2, 3, 4, 5], reply=True, watched=[2])
    assert [e.position for e in planned(scheduler) if e.wants_logits] == [2, 4]
    scheduler.open(1, memory=[1, 2, 3, 4])
    scheduler.submit(1, [1, 2, 3, 4, 5], reply=True, watched=[2])
    cuts, entries = (step := scheduler.plan()).cuts, [e for e in step.entries if e.sequence == 1]
    assert cuts == ((1, 2),)
    assert [(e.token, e.wants_logits) for e in entries] == [(3, True), (4, False), (5, True)]
    scheduler.cancel(1)
    scheduler.submit(1, [1, 2, 3, 4, 5], reply=False)
    assert not any(e.wants_logits for e in planned(scheduler) if e.sequence == 1), "a request of its own"


def test_a_reply_is_not_replayed_where_logits_of_its_prompt_are_wanted() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    scheduler.submit(0, [1, 2, 3], reply=True)
    step(scheduler, next_token=50)
    scheduler.cancel(0)
    assert scheduler.submit(0, [1, 2, 3], reply=True, watched=[1]) == ()
    assert tokens_of(planned(scheduler), 0) == [2, 3]


def decoding(*prompt: int, draft_rows: int = 4, most: int | None = None, end: int = -1) -> Scheduler:
    """A reply to `prompt` begun with its first token, whose two tokens stand where the prompt begins."""
    scheduler = Scheduler(draft_rows=draft_rows, ends_reply=lambda token: token == end)
    scheduler.open(0)
    scheduler.submit(0, [*prompt, prompt[0]], reply=True, most=most)
    step(scheduler, next_token=prompt[1])
    return scheduler


def choose(scheduler: Scheduler, *tokens: int) -> list[bool]:
    """Evaluate a step, then choose `tokens` as long as they are asked for."""
    scheduler.recorded(planned(scheduler))
    return [scheduler.sampled(0, token) for token in tokens]


def test_guesses_fill_a_step_and_ask_for_logits() -> None:
    scheduler = decoding(10, 11, 12, 13, 14, 15)
    assert planned(scheduler) == tuple(Entry(0, 7 + i, 11 + i, True) for i in range(4))
    assert tokens_of(planned(decoding(10, 11, 12, 13, 14, draft_rows=3)), 0) == [11, 12, 13]
    assert tokens_of(planned(decoding(10, 11, 12, 13, 14, draft_rows=0)), 0) == [11]
    assert tokens_of(planned(decoding(10, 11, 12, 13, 14, end=13)), 0) == [11, 12]


def test_right_guesses_are_in_memory_and_the_token_after_them_comes_next() -> None:
    scheduler = decoding(10, 11, 12, 13, 14, 15)
    assert choose(scheduler, 12, 13, 14, 60) == [True, True, True, False]
    assert scheduler.memory(0)[7:] == (11, 12, 13, 14)
    assert planned(scheduler) == (Entry(0, 11, 60, True),)


def test_memory_ends_before_the_first_wrong_guess() -> None:
    scheduler = decoding(10, 11, 12, 13, 14, 15)
    assert choose(scheduler, 12, 60) == [True, False]
    assert scheduler.memory(0)[7:] == (11, 12)
    assert scheduler.length(0) == 9
    assert planned(scheduler) == (Entry(0, 9, 60, True),)
    with pytest.raises(ValueError, match="not sampling"):
        scheduler.sampled(0, 61)


def test_guesses_go_no_further_than_the_reply() -> None:
    for most, count in ((2, 1), (3, 2), (4, 3), (9, 4)):
        assert len(planned(decoding(10, 11, 12, 13, 14, 15, most=most))) == count


def test_a_reply_that_ends_among_its_guesses_is_replayed_and_goes_on_as_it_would() -> None:
    scheduler = decoding(10, 11, 12, 13, 14, 15)
    assert choose(scheduler, 12, 13) == [True, True]
    scheduler.finish(0)
    assert scheduler.memory(0)[7:] == (11, 12), "not its last token, nor what was guessed after it"
    assert scheduler.submit(0, [10, 11, 12, 13, 14, 15, 10], reply=True) == (11, 12, 13)
    assert planned(scheduler)[0] == Entry(0, 9, 13, True)


def test_two_decoding_sequences_share_the_guesses_and_a_prompt_leaves_none() -> None:
    scheduler = Scheduler(draft_rows=4)
    for sequence in (0, 1):
        scheduler.open(sequence)
        scheduler.submit(sequence, [10, 11, 12, 13, 14, 10], reply=True)
    step(scheduler, next_token=11)
    entries = planned(scheduler)
    assert tokens_of(entries, 0) == tokens_of(entries, 1) == [11, 12]
    scheduler.open(2)
    scheduler.submit(2, list(range(20)), reply=False)
    entries = planned(scheduler)
    assert tokens_of(entries, 0) == tokens_of(entries, 1) == [11]


def test_a_crowd_is_filled_up_to_a_larger_pass() -> None:
    def guessed(calls: int) -> list[int]:
        scheduler = Scheduler(draft_rows=4, crowd_rows=16)
        for sequence in range(calls):
            scheduler.open(sequence)
            scheduler.submit(sequence, [10, 11, 12, 13, 14, 10], reply=True)
        step(scheduler, next_token=11)
        while any(scheduler.state(sequence) is State.PROMPTING for sequence in range(calls)):
            entries = planned(scheduler)
            for number in scheduler.recorded(entries)[1]:
                scheduler.sampled(number, 11)
        entries = planned(scheduler)
        return [len(tokens_of(entries, sequence)) for sequence in range(calls)]

    assert sorted(guessed(3)) == [1, 1, 2]
    assert sum(guessed(8)) == 16
    assert guessed(17) == [1] * 17


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.integers(0, 1000),
    st.integers(1, 40),
    st.integers(2, 6),
)
def test_guessing_changes_nothing_that_is_chosen(prompt: list[int], seed: int, most: int, rows: int) -> None:
    """The model's choice depends on all tokens before it, and on nothing else."""

    def reply(draft_rows: int) -> tuple[list[int], int]:
        scheduler = Scheduler(draft_rows=draft_rows)
        scheduler.open(0)
        scheduler.submit(0, prompt, reply=True, most=most)
        chosen: list[int] = []
        steps = 0
        while len(chosen) < most:
            _, sampling = scheduler.recorded(planned(scheduler))
            steps += 1
            for _ in sampling[0]:
                before = (*prompt, *chosen)
                chosen.append(hash((seed, before[-3:])) % 3)
                if not scheduler.sampled(0, chosen[-1]):
                    break
            assert len(chosen) <= most
        assert scheduler.memory(0) == (*prompt, *chosen[:-1])
        return chosen, steps

    plain, steps = reply(0)
    guessed, fewer = reply(rows)
    assert guessed == plain
    assert fewer <= steps


def test_forget_drops_memory_and_request() -> None:
    scheduler = Scheduler()
    scheduler.open(0, memory=[1, 2, 3])
    scheduler.submit(0, [1, 2, 3, 4], reply=True)
    scheduler.forget(0, 1)
    assert not scheduler.busy()
    assert scheduler.memory(0) == (1,)


def test_misuse_is_told() -> None:
    scheduler = Scheduler()
    scheduler.open(0)
    with pytest.raises(ValueError, match="open already"):
        scheduler.open(0)
    with pytest.raises(ValueError, match="empty prompt"):
        scheduler.submit(0, [], reply=False)
    with pytest.raises(ValueError, match="not sampling"):
        scheduler.sampled(0, 1)
    with pytest.raises(ValueError, match="out of order"):
        scheduler.recorded([Entry(0, 7, 1, False)])
    with pytest.raises(ValueError, match="inside the prompt"):
        scheduler.submit(0, [1, 2], reply=True, watched=[2])
    with pytest.raises(KeyError):
        scheduler.submit(1, [1], reply=False)
    with pytest.raises(ValueError, match="prompt_tokens"):
        Scheduler(prompt_tokens=0)


@given(st.data())
def test_whatever_is_asked_memory_stays_true_and_nothing_is_evaluated_twice(data: st.DataObject) -> None:
    """Random requests, cancels and steps on three sequences, against a model of the memory and the audit."""
    scheduler = Scheduler(prompt_tokens=5, draft_rows=data.draw(st.sampled_from((0, 4))))
    audit = Audit()
    held: dict[int, list[int]] = {}
    for sequence in range(3):
        scheduler.open(sequence)
        audit.opened(sequence)
        held[sequence] = []
    prompts = st.lists(st.integers(1, 2), min_size=1, max_size=12)
    excused = 0
    for _ in range(data.draw(st.integers(1, 40))):
        sequence = data.draw(st.integers(0, 2))
        action = data.draw(st.sampled_from(("prefill", "reply", "cancel", "step", "step", "step")))
        if action in ("prefill", "reply"):
            target = data.draw(prompts)
            unchanged = common_prefix(held[sequence], target)
            inside = st.integers(0, len(target) - 1)
            watched = data.draw(st.lists(inside, max_size=2)) if action == "reply" else []
            audit.requested(sequence, target)
            replay = scheduler.submit(sequence, target, reply=action == "reply", watched=watched)
            if watched:
                excused += max(0, unchanged - min(watched))
            elif action == "reply" and unchanged == len(target) and not replay:
                excused += 1
        elif action == "cancel":
            scheduler.cancel(sequence)
        else:
            plan = scheduler.plan()
            entries = plan.entries
            for cut, length in plan.cuts:
                assert len(held[cut]) > length
                del held[cut][length:]
            assert sum(not entry.wants_logits for entry in entries) <= 5
            audit.evaluating(entries)
            for entry in entries:
                assert entry.position == len(held[entry.sequence])
                held[entry.sequence].append(entry.token)
            _, sampling = scheduler.recorded(entries)
            for sampled, asked in sampling.items():
                for _ in asked:
                    if not scheduler.sampled(sampled, data.draw(st.integers(1, 2))):
                        break
                    if data.draw(st.sampled_from((False, False, False, True))):
                        scheduler.finish(sampled)
                        break
                if scheduler.length(sampled) < len(held[sampled]):
                    del held[sampled][scheduler.length(sampled) :]
                    audit.lost(sampled, scheduler.length(sampled))
        assert all(tuple(held[s]) == scheduler.memory(s) for s in held)
    assert audit.counters().reevaluated <= excused


def test_the_audit_notices_a_token_evaluated_twice() -> None:
    audit = Audit()
    audit.opened(0)
    audit.evaluating([Entry(0, i, i, False) for i in range(4)])
    audit.opened(1, copied_from=0)
    audit.requested(1, [0, 1, 2, 9])
    assert audit.counters().reused == 3
    audit.evaluating([Entry(1, 3, 9, False)])
    assert audit.counters().reevaluated == 0
    audit.requested(1, [0, 1, 2, 9, 10])
    audit.evaluating([Entry(1, 2, 2, False), Entry(1, 3, 9, False), Entry(1, 4, 10, False)])
    assert audit.counters().reevaluated == 2
    audit.lost(1, 2)
    audit.requested(1, [0, 1, 2])
    audit.evaluating([Entry(1, 2, 2, False)])
    assert audit.counters().reevaluated == 2
