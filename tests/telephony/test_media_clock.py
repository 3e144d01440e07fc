import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.media_clock import MediaClock


def clock() -> MediaClock:
    return MediaClock(max_gap_s=10.0, max_lead_s=10.0)


@pytest.mark.parametrize("first_ms", [0, 5, 60, 123_456])
def test_regular_media_has_no_gaps(first_ms: int) -> None:
    clock_ = clock()
    gaps = [clock_.place(160, first_ms + 20 * n, n * 0.02) for n in range(500)]
    assert gaps == [0] * 500
    assert clock_.position == 500 * 160


@pytest.mark.parametrize("lost", [1, 2, 50, 400])
def test_lost_packets_become_silence_of_the_same_length(lost: int) -> None:
    clock_ = clock()
    clock_.place(160, 5, 0.0)
    assert clock_.place(160, 5 + 20 * (lost + 1), 0.02 * (lost + 1)) == lost * 160
    assert clock_.place(160, 5 + 20 * (lost + 2), 0.02 * (lost + 2)) == 0
    assert clock_.position == (lost + 3) * 160


def test_odd_payload_sizes_and_rounded_timestamps_leave_the_timeline_alone() -> None:
    clock_ = clock()
    at = 0
    for size in [1, 7, 100, 333, 8000, 1, 160, 159] * 20:
        assert clock_.place(size, at * 1000 // 8000, at / 8000) == 0
        at += size
    assert clock_.position == at


def test_a_gap_found_after_media_without_timestamps_is_still_exact() -> None:
    clock_ = clock()
    clock_.place(160, None, 0.0)
    clock_.place(160, 20, 0.02)
    clock_.place(160, None, 0.04)
    assert clock_.place(160, 100, 0.1) == 2 * 160


@pytest.mark.parametrize("absurd_ms", [10**14, 3_600_000, 60_000, 15_000])
def test_a_leap_beyond_reason_is_counted_and_not_filled(absurd_ms: int) -> None:
    clock_ = clock()
    clock_.place(160, 0, 0.0)
    assert clock_.place(160, absurd_ms, 0.02) == 0
    assert (clock_.jumps, clock_.position) == (1, 320)
    # From there the stream's own count goes on.
    assert clock_.place(160, absurd_ms + 20, 0.04) == 0
    assert clock_.place(160, absurd_ms + 60, 0.08) == 160
    assert clock_.jumps == 1


def test_timestamps_that_begin_anew_or_stand_still_lose_no_audio() -> None:
    clock_ = clock()
    for n in range(500):
        assert clock_.place(160, 0, n * 0.02) == 0
    assert clock_.position == 500 * 160


def test_arrival_times_for_timestamps_add_no_more_silence_than_they_jitter() -> None:
    """Some test clients stamp each message with their own clock."""
    clock_ = clock()
    for n in range(1000):
        clock_.place(160, 20 * n + (n * 37) % 30, n * 0.02)
    assert clock_.filled <= 30 * 8


def test_more_audio_than_time_is_refused_and_moves_nothing() -> None:
    clock_ = clock()
    assert clock_.place(80_000, 0, 5.0) == 0
    assert clock_.place(1, None, 5.0) is None
    assert clock_.position == 80_000
    assert clock_.place(8_000, None, 6.0) == 0


def test_claimed_silence_cannot_outrun_time_either() -> None:
    clock_ = clock()
    clock_.place(160, 0, 0.0)
    assert clock_.place(160, 9_000, 0.02) == 8_980 * 8
    assert clock_.place(160, 18_000, 0.04) == 0
    assert clock_.position <= 10.04 * 8000


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9_000),
            st.one_of(st.none(), st.integers(-(10**15), 10**15)),
            st.floats(0, 0.1),
        ),
        max_size=60,
    )
)
def test_never_ahead_of_time_and_never_loses_a_sample(media: list[tuple[int, int | None, float]]) -> None:
    clock_ = clock()
    now = taken = 0.0
    for size, timestamp, wait in media:
        now += wait
        gap = clock_.place(size, timestamp, now)
        if gap is not None:
            assert 0 <= gap <= 80_000
            taken += size + gap
        assert clock_.position == taken
        assert clock_.position <= (now + 10.0) * 8000
