"""The caller's audio by its place in the call."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.caller_audio import CallerAudioBuffer
from pipeline.line import Pcm


def numbered(start: int, end: int) -> Pcm:
    """Samples that tell their place."""
    return np.arange(start, end, dtype=np.int64).astype(np.int16)


def filled(samples: int) -> CallerAudioBuffer:
    buffer = CallerAudioBuffer()
    buffer.append(numbered(0, samples))
    return buffer


def test_a_slice_is_what_stood_there() -> None:
    buffer = filled(1000)
    buffer.append(numbered(1000, 1160))
    assert buffer.end_sample == 1160
    assert np.array_equal(buffer.slice(900, 1100), numbered(900, 1100))


def test_places_stay_the_same_after_forgetting() -> None:
    buffer = filled(30_000)
    buffer.forget(20_000)
    assert buffer.end_sample == 30_000
    assert np.array_equal(buffer.slice(20_000, 25_000), numbered(20_000, 25_000))


def test_what_is_forgotten_is_cut_off_and_not_made_up() -> None:
    buffer = filled(30_000)
    buffer.forget(20_000)
    assert np.array_equal(buffer.slice(0, 20_100), numbered(20_000, 20_100))
    assert buffer.slice(0, 10_000).size == 0


def test_what_has_not_arrived_is_cut_off() -> None:
    buffer = filled(1000)
    assert np.array_equal(buffer.slice(900, 5000), numbered(900, 1000))
    assert buffer.slice(5000, 6000).size == 0


def test_a_long_call_holds_little() -> None:
    """Half an hour of silence: what nobody needs does not pile up."""
    buffer = CallerAudioBuffer()
    for second in range(1800):
        buffer.append(np.zeros(8000, np.int16))
        buffer.forget(second * 8000)
    assert buffer.slice(0, buffer.end_sample).size <= 3 * 8000


def test_a_slice_is_a_copy() -> None:
    buffer = filled(10_000)
    held = buffer.slice(9_000, 10_000)
    buffer.forget(10_000)
    buffer.append(np.zeros(10_000, np.int16))
    assert np.array_equal(held, numbered(9_000, 10_000))


def test_more_than_there_is_can_be_forgotten() -> None:
    buffer = filled(10_000)
    buffer.forget(1_000_000)
    buffer.append(numbered(10_000, 12_000))
    assert buffer.end_sample == 12_000
    assert np.array_equal(buffer.slice(10_000, 12_000), numbered(10_000, 12_000))


@given(st.lists(st.tuples(st.integers(0, 12_000), st.integers(-9_000, 30_000)), max_size=20))
def test_what_is_needed_is_never_lost(steps: list[tuple[int, int]]) -> None:
    buffer = CallerAudioBuffer()
    end = needed = 0
    for arriving, forget_before in steps:
        buffer.append(numbered(end, end + arriving))
        end += arriving
        buffer.forget(forget_before)
        needed = max(needed, min(forget_before, end))
        assert np.array_equal(buffer.slice(needed, end), numbered(needed, end))
