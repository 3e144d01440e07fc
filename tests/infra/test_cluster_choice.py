"""Which replica is asked, and when one is taken to have stopped."""

from dataclasses import replace

from infra.cluster.choice import FORGIVEN_AFTER_S, Candidate, Watch, choose

A = Candidate("a", slots=4, used=1)
B = Candidate("b", slots=4, used=2)
C = Candidate("c", slots=8, used=1)


def test_the_one_with_the_largest_free_share_comes_first() -> None:
    assert choose([A, B, C], 0.0) == ["c", "a", "b"]


def test_full_ones_come_behind_and_are_asked_all_the_same() -> None:
    """Their count may be old."""
    assert choose([replace(A, used=4), B], 0.0) == ["b", "a"]


def test_who_cannot_answer_is_not_asked() -> None:
    unfit = [replace(A, stalled=True), replace(B, connected=False), replace(C, leaving=True)]
    assert choose(unfit, 0.0) == []
    assert choose([A, B, C], 0.0, without={"c", "a"}) == ["b"]


def test_who_failed_lately_comes_last_and_is_forgiven() -> None:
    failed = replace(C, failed_at=100.0)
    assert choose([A, failed], 101.0) == ["a", "c"]
    assert choose([A, failed], 100.0 + FORGIVEN_AFTER_S) == ["c", "a"]


def test_a_replica_stalls_after_so_many_silent_ticks() -> None:
    watch = Watch(0.25, tick_s=0.05)
    assert [watch.tick() for _ in range(5)] == [False] * 4 + [True]
    assert watch.stalled
    watch.heard()
    assert not watch.stalled


def test_a_loop_that_stood_still_blames_nobody() -> None:
    """A tick that comes a second late is one tick, and what lies in the socket is read before the next."""
    watch = Watch(0.25, tick_s=0.05)
    for _ in range(20):
        assert not watch.tick()
        watch.heard()


def test_one_silent_tick_is_never_a_stall() -> None:
    assert not Watch(0.01, tick_s=0.05).tick()
