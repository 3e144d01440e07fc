"""The order of transcriptions and their batches, without a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hearing_queue import PATIENCE_S, Batch, HearingQueue


def queue(
    *windows_s: float, most: int = 8, stretch: float = 1.0, deadlines_s: dict[int, float] | None = None
) -> HearingQueue:
    """Requests 0, 1, ... that came at the same time."""
    made = HearingQueue(most=most, stretch=stretch)
    for number, window_s in enumerate(windows_s):
        made.push(number, now=0.0, window_s=window_s, deadline_s=(deadlines_s or {}).get(number))
    return made


def test_one_at_a_time_comes_in_the_order_of_arrival() -> None:
    waiting = queue(8.0, 8.0, 12.0, most=1)
    assert [waiting.take(0.0).numbers for _ in range(4)] == [(0,), (1,), (2,), ()]


def test_the_earliest_deadline_goes_first() -> None:
    waiting = queue(8.0, 8.0, 8.0, most=1, deadlines_s={0: 3.0, 1: 2.0, 2: 1.0})
    assert [waiting.take(0.0).numbers for _ in range(3)] == [(2,), (1,), (0,)]


def test_who_sets_no_deadline_yields_but_not_for_ever() -> None:
    waiting = HearingQueue(most=1)
    waiting.push(0, now=0.0, window_s=8.0)
    waiting.push(1, now=0.1, window_s=8.0, deadline_s=2.0)
    assert waiting.take(0.1).numbers == (1,)
    waiting.push(2, now=PATIENCE_S - 1.0, window_s=8.0, deadline_s=2.0)
    batch = waiting.take(PATIENCE_S + 0.5)
    assert batch == Batch(numbers=(0,), window_s=8.0), "and it is not late"


def test_what_is_late_is_refused_and_holds_up_nobody() -> None:
    waiting = queue(8.0, 8.0, 8.0, most=2, deadlines_s={0: 1.0, 1: 5.0})
    assert waiting.take(1.0) == Batch(late=(0,), numbers=(1, 2), window_s=8.0)
    assert len(waiting) == 0
    lonely = queue(8.0, deadlines_s={0: 1.0})
    assert lonely.take(2.0) == Batch(late=(0,))


def test_equal_windows_share_a_batch_and_others_do_not() -> None:
    waiting = queue(8.0, 9.5, 8.0, 8.0)
    assert waiting.take(0.0) == Batch(numbers=(0, 2, 3), window_s=8.0)
    assert waiting.take(0.0) == Batch(numbers=(1,), window_s=9.5)


def test_longer_windows_join_as_far_as_it_pays() -> None:
    waiting = queue(8.0, 9.0, 20.0, 8.0, stretch=1.25)
    assert waiting.take(0.0) == Batch(numbers=(0, 1, 3), window_s=9.0)
    assert waiting.take(0.0) == Batch(numbers=(2,), window_s=20.0)


def test_kinds_do_not_mix() -> None:
    waiting = HearingQueue(most=4)
    for number, kind in enumerate(("en", "de", "en")):
        waiting.push(number, now=0.0, window_s=8.0, kind=kind)
    assert waiting.take(0.0).numbers == (0, 2)
    assert waiting.take(0.0).numbers == (1,)


def test_a_batch_is_no_larger_than_asked() -> None:
    waiting = queue(*[8.0] * 5, most=2)
    assert [waiting.take(0.0).numbers for _ in range(3)] == [(0, 1), (2, 3), (4,)]


def test_a_cancelled_request_leaves() -> None:
    waiting = queue(8.0, 8.0, 8.0)
    assert waiting.drop(1)
    assert not waiting.drop(1)
    assert waiting.take(0.0).numbers == (0, 2)
    assert not waiting.drop(0), "it is taken"


@pytest.mark.parametrize(("most", "stretch"), [(0, 1.0), (1, 0.5)])
def test_misuse_is_told(most: int, stretch: float) -> None:
    with pytest.raises(ValueError):
        HearingQueue(most=most, stretch=stretch)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([8.0, 9.0, 13.0, 30.0]),
            st.sampled_from(["en", "de"]),
            st.none() | st.floats(0.1, 20.0),
        ),
        max_size=20,
    ),
    st.integers(1, 6),
    st.sampled_from([1.0, 1.3, 2.0]),
    st.floats(0.0, 5.0),
)
def test_everybody_is_served_or_told_once(
    requests: list[tuple[float, str, float | None]], most: int, stretch: float, step_s: float
) -> None:
    waiting = HearingQueue(most=most, stretch=stretch)
    for number, (window_s, kind, deadline_s) in enumerate(requests):
        waiting.push(number, now=0.0, window_s=window_s, kind=kind, deadline_s=deadline_s)
    seen: list[int] = []
    now = 0.0
    while len(waiting):
        batch = waiting.take(now)
        for number in batch.late:
            deadline_s = requests[number][2]
            assert deadline_s is not None and deadline_s <= now
        chosen = [requests[number] for number in batch.numbers]
        assert len(chosen) <= most
        assert len({kind for _, kind, _ in chosen}) <= 1
        assert batch.window_s * len(chosen) <= stretch * sum(window_s for window_s, _, _ in chosen) + 1e-9
        assert all(deadline_s is None or deadline_s > now for _, _, deadline_s in chosen)
        seen += [*batch.late, *batch.numbers]
        now += step_s
    assert sorted(seen) == list(range(len(requests)))
