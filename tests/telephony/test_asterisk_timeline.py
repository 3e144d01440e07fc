"""Audio against the clock, without timestamps."""

from telephony.asterisk.timeline import Timeline


def test_steady_audio_is_never_filled() -> None:
    timeline = Timeline(max_lead_s=10.0)
    for n in range(500):
        now = 5.0 + 0.02 * n
        assert timeline.fill(now) == 0
        assert timeline.take(160, now)
    assert timeline.position == 80_000


def test_a_stall_that_is_caught_up_is_not_filled() -> None:
    timeline = Timeline(max_lead_s=10.0)
    timeline.take(160, 0.0)
    for _ in range(20):
        assert timeline.fill(0.4) == 0
        timeline.take(160, 0.4)
    assert timeline.position == 21 * 160


def test_a_pause_is_filled_as_it_lasts() -> None:
    timeline = Timeline(max_lead_s=10.0)
    assert timeline.next_deadline() is None
    assert timeline.fill(1.0) == 0
    timeline.take(160, 1.0)
    assert timeline.next_deadline() == 1.5
    assert timeline.fill(1.4) == 0
    assert timeline.fill(1.5) == 4000
    assert timeline.next_deadline() == 1.6
    assert timeline.fill(1.75) == 2000
    timeline.take(160, 1.76)
    assert timeline.next_deadline() == 1.76 + 0.5
    # Position and clock are together again.
    assert abs(timeline.position - (0.02 + 0.76) * 8000) <= 160


def test_audio_that_comes_after_its_gap_was_filled_shortens_the_next_filling() -> None:
    timeline = Timeline(max_lead_s=10.0)
    timeline.take(160, 0.0)
    timeline.fill(1.0)
    timeline.take(4000, 1.0)
    assert timeline.fill(1.5) == 0


def test_the_lead_is_bounded() -> None:
    timeline = Timeline(max_lead_s=1.0)
    assert timeline.take(8000, 0.0)
    assert not timeline.take(8000, 0.0)
    assert timeline.position == 8000
    assert timeline.take(8000, 1.0)
