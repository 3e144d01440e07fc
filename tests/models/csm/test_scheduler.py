"""What is done next, with time as an argument."""

import pytest

from models.csm.scheduler import BUCKETS, PATIENCE, Encode, Prefill, Scheduler, Tick, bucket, chunk


def speaking(lead_s: float = 0.24, **options: int) -> Scheduler:
    return Scheduler(lead_s=lead_s, **options)


def ahead(scheduler: Scheduler, slot: int, lead: float, now: float = 0.0) -> None:
    """Slot `slot` has `lead` seconds of sound left at `now`."""
    scheduler.speak(slot, now)
    scheduler.delivered(slot, now + lead - 0.08)


def test_buckets():
    assert [bucket(n) for n in (1, 2, 3, 5, 9, 64)] == [1, 2, 4, 8, 16, 64]
    assert all(bucket(n) == n for n in BUCKETS)
    with pytest.raises(ValueError, match="at most 64"):
        bucket(65)


@pytest.mark.parametrize(("rows", "chunks"), [(1, [1]), (96, [96]), (97, [49, 48]), (200, [67, 67, 66])])
def test_chunks_are_few_and_even(rows: int, chunks: list[int]):
    found = []
    while rows:
        found.append(chunk(rows, 96))
        rows -= found[-1]
    assert found == chunks


def test_nothing_to_do():
    scheduler = speaking()
    assert scheduler.plan(0.0) is None and scheduler.next_deadline() is None


def test_a_slot_far_enough_ahead_rests_until_its_deadline():
    scheduler = speaking()
    ahead(scheduler, 3, 0.4)
    assert scheduler.plan(0.0) is None
    assert scheduler.next_deadline() == pytest.approx(0.16)
    assert scheduler.plan(0.16) == Tick((3,))


def test_the_earliest_deadline_goes_first():
    scheduler = speaking(most_slots=2)
    for slot, lead in ((0, 0.20), (1, 0.05), (2, 0.15), (3, 0.10)):
        ahead(scheduler, slot, lead)
    assert scheduler.plan(0.0) == Tick((1, 3))
    scheduler.speak(4, 0.0)
    assert scheduler.plan(0.0) == Tick((4, 1)), "who has not been heard at all is the most urgent"


def test_slots_that_are_nearly_due_join_and_phases_fall_together():
    scheduler = speaking()
    ahead(scheduler, 0, 0.24)
    ahead(scheduler, 1, 0.31)
    ahead(scheduler, 2, 0.33)
    assert scheduler.plan(0.0) == Tick((0, 1))
    for slot in (0, 1):
        scheduler.delivered(slot, 0.0)
    now, sizes = 0.0, []
    while now < 2.0:
        step = scheduler.plan(now)
        if isinstance(step, Tick):
            sizes.append(len(step.slots))
            for slot in step.slots:
                scheduler.delivered(slot, now)
        deadline = scheduler.next_deadline()
        assert deadline is not None
        now = max(now, deadline)
    assert sizes[-10:] == [3] * 10, "one tick per 80 ms serves all"


def test_a_late_codec_frame_is_an_underrun_and_playout_starts_again():
    scheduler = speaking()
    scheduler.speak(0, 0.0)
    assert not scheduler.delivered(0, 5.0), "the first cannot be late"
    assert not scheduler.delivered(0, 5.07)
    assert scheduler.delivered(0, 5.3)
    assert scheduler.lead(0, 5.3) == pytest.approx(0.08)


def test_a_waiting_utterance_goes_before_slots_that_can_afford_it():
    scheduler = speaking()
    ahead(scheduler, 0, 0.2)
    scheduler.prefill(1, urgent=True)
    scheduler.prefill(2, urgent=True)
    assert scheduler.plan(0.0, tick_s=0.05, chunk_s=0.05) == Prefill(1)


def test_who_would_run_dry_goes_first_and_then_they_take_turns():
    scheduler = speaking()
    ahead(scheduler, 0, 0.05)
    scheduler.prefill(1, urgent=True)
    kinds = []
    for _ in range(6):
        step = scheduler.plan(0.0, tick_s=0.05, chunk_s=0.05)
        assert step is not None
        scheduler.began(step)
        kinds.append(type(step))
    assert kinds == [Tick, Prefill] * 3


def test_the_background_waits_for_a_rest_but_not_for_ever():
    scheduler = speaking()
    ahead(scheduler, 0, 0.1)
    scheduler.prefill(1, urgent=False)
    scheduler.encode(7)
    steps = []
    for _ in range(2 * PATIENCE + 2):
        step = scheduler.plan(0.0)
        assert step is not None
        scheduler.began(step)
        steps.append(step)
        if isinstance(step, Encode):
            scheduler.encoded(step.job)
    assert [s for s in steps if not isinstance(s, Tick)] == [Encode(7), Prefill(1)]
    assert steps[PATIENCE] == Encode(7)
    scheduler.rest(0)
    assert scheduler.plan(0.0) == Prefill(1)


def test_background_work_comes_at_once_when_all_rest():
    scheduler = speaking()
    ahead(scheduler, 0, 0.3)
    scheduler.prefill(1, urgent=False)
    assert scheduler.next_deadline() == float("-inf") and scheduler.plan(0.0) == Prefill(1)


def test_a_newer_request_takes_its_place_behind_the_others():
    scheduler = speaking()
    scheduler.prefill(1, urgent=False)
    scheduler.prefill(2, urgent=False)
    scheduler.prefill(1, urgent=False)
    assert scheduler.plan(0.0) == Prefill(2)
    scheduler.prefill(1, urgent=True)
    assert scheduler.plan(0.0) == Prefill(1)
    scheduler.speak(1, 0.0)
    assert scheduler.plan(0.0) == Tick((1,))
    assert list(scheduler.speaking) == [1]
    scheduler.rest(1)
    scheduler.rest(2)
    assert scheduler.plan(0.0) is None
