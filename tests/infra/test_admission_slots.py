"""Slots are never given twice, never fewer than none, and never lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from infra.admission.settings import CapacitySettings
from infra.admission.slots import EVERY_MODEL, Capacity, Lease, Model, SlotBook

KEYS = st.sampled_from([f"call-{n}" for n in range(8)])
MODELS = st.lists(st.sampled_from(EVERY_MODEL), min_size=1, max_size=4)


class Clerk(RuleBasedStateMachine):
    """Calls that come, renew, leave and die in any order, against a second account of the same leases."""

    @initialize(stt=st.integers(1, 4), llm=st.integers(1, 4), tts=st.integers(1, 4))
    def open(self, stt: int, llm: int, tts: int) -> None:
        self.book = SlotBook(Capacity(stt, llm, tts))
        self.now = 0.0
        self.own: dict[str, Lease] = {}
        self.gone: list[Lease] = []

    @rule(key=KEYS, models=MODELS, lasts_s=st.floats(0.1, 20.0))
    def reserve(self, key: str, models: list[Model], lasts_s: float) -> None:
        before = {model: self.book.in_use(model) for model in EVERY_MODEL}
        lease = self.book.reserve(key, self.now + lasts_s, models=models)
        known = self.own.get(key)
        if known is not None:
            assert lease is known
            assert known.until >= self.now + lasts_s
        elif any(before[model] >= self.book.capacity.of(model) for model in models):
            assert lease is None
        if known is not None or lease is None:
            assert before == {model: self.book.in_use(model) for model in EVERY_MODEL}
        if lease is not None:
            self.own[key] = lease

    @rule(key=KEYS, more_s=st.floats(0.0, 20.0))
    def renew(self, key: str, more_s: float) -> None:
        if (lease := self.own.get(key)) is not None:
            lease.renew(self.now + more_s)

    @rule(key=KEYS)
    def give_back(self, key: str) -> None:
        if (lease := self.own.pop(key, None)) is not None:
            assert self.book.give_back(lease)
            self.gone.append(lease)

    @rule()
    def give_back_again(self) -> None:
        assert not any(self.book.give_back(lease) for lease in self.gone)

    @rule(passes_s=st.floats(0.0, 15.0))
    def time_passes(self, passes_s: float) -> None:
        self.now += passes_s
        late = self.book.expire(self.now)
        assert {lease.key for lease in late} == {k for k, own in self.own.items() if own.until <= self.now}
        assert all(lease.lost for lease in late)
        for lease in late:
            self.gone.append(self.own.pop(lease.key))

    @rule()
    def everybody_dies(self) -> None:
        """Nobody renews any more: the deadlines alone empty the book."""
        while (deadline := self.book.next_deadline()) is not None:
            assert deadline > self.now
            self.time_passes(deadline - self.now)
        assert [self.book.in_use(model) for model in EVERY_MODEL] == [0, 0, 0]

    @invariant()
    def the_accounts_agree(self) -> None:
        assert self.book.leases == len(self.own)
        for model in EVERY_MODEL:
            used = sum(model in lease.models for lease in self.own.values())
            assert self.book.in_use(model) == used
            assert 0 <= used <= self.book.capacity.of(model)


TestClerk = Clerk.TestCase
TestClerk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_all_or_none() -> None:
    book = SlotBook(Capacity(stt=2, llm=2, tts=1))
    assert book.reserve("a", 10.0) is not None
    assert book.reserve("b", 10.0) is None
    assert book.usage() == {"stt": (1, 2), "llm": (1, 2), "tts": (1, 1)}
    assert book.free == 0
    assert book.reserve("listener", 10.0, models=("stt",)) is not None
    assert book.usage() == {"stt": (2, 2), "llm": (1, 2), "tts": (1, 1)}


def test_a_key_that_was_lost_and_taken_anew_is_not_given_back_by_its_old_owner() -> None:
    book = SlotBook(Capacity.of_calls(1))
    old = book.reserve("a", 1.0)
    assert old is not None
    assert book.expire(1.0) == [old]
    new = book.reserve("a", 5.0)
    assert new is not None
    assert not book.give_back(old)
    assert book.lease("a") is new


def test_a_model_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="one call at least"):
        Capacity(stt=1, llm=0, tts=1)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, Capacity(stt=6, llm=6, tts=8)),
        ({"calls": 40}, Capacity.of_calls(40)),
        ({"llm": 24}, Capacity(stt=8, llm=24, tts=8)),
        ({"calls": 10, "tts": 4}, Capacity(stt=10, llm=10, tts=4)),
        ({"calls": 3, "llm": 9}, Capacity.of_calls(3)),
        ({"stt": 2}, Capacity(stt=2, llm=6, tts=8)),
    ],
)
def test_what_is_left_out_follows_from_the_models(told: dict[str, int], expected: Capacity) -> None:
    assert CapacitySettings.model_validate(told).capacity(llm=6, tts=8) == expected
