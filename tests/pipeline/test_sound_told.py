"""Both sides' sound as an observer is told of it: every sample once, in order, and a gap for every packet."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events import AgentAudio, CallerAudio, CallEvent
from pipeline.line import Pcm
from pipeline.sound_told import TOLD_EVERY_SAMPLES, SoundTold


class Observer:
    def __init__(self) -> None:
        self.events: list[CallEvent] = []

    def observe(self, event: CallEvent) -> None:
        self.events.append(event)

    @property
    def caller(self) -> list[CallerAudio]:
        return [event for event in self.events if isinstance(event, CallerAudio)]

    @property
    def agent(self) -> list[AgentAudio]:
        return [event for event in self.events if isinstance(event, AgentAudio)]


def counted(start: int, size: int) -> Pcm:
    """Samples that say where they stand."""
    return (np.arange(start, start + size) % 32_768).astype(np.int16)


_PACKETS = st.lists(
    st.tuples(st.one_of(st.just(160), st.integers(0, 2_000)), st.floats(0, 3), st.booleans()), max_size=60
)


@settings(max_examples=200)
@given(_PACKETS)
def test_every_sample_of_the_caller_is_told_once_and_in_order_and_a_gap_for_each_packet(
    packets: list[tuple[int, float, bool]],
) -> None:
    """Told when it is time to, and sometimes before."""
    observer = Observer()
    told = SoundTold(observer)
    now, came, at = 100.0, 0, 0
    times: list[float] = []
    in_event: list[list[int]] = [[]]
    """Which packets, by their order."""
    untold = 0
    for number, (size, gap_s, early) in enumerate(packets):
        now += gap_s
        times.append(now)
        in_event[-1].append(number)
        due = told.caller(counted(came, size), now)
        came += size
        untold += size
        assert due == (untold >= TOLD_EVERY_SAMPLES)
        if due or early:
            told.tell()
            in_event.append([])
            untold = 0
    told.tell()
    told.tell()

    for event in observer.caller:
        assert event.start_sample == at
        assert event.pcm.dtype == np.int16
        assert event.pcm.tolist() == counted(at, event.pcm.size).tolist()
        at += event.pcm.size
    assert at == came
    gaps = [later - earlier for earlier, later in pairwise(times)]
    expected = [tuple(gaps[number - 1] for number in numbers if number) for numbers in in_event if numbers]
    assert [event.gaps_s for event in observer.caller] == expected
    assert observer.agent == []


def test_a_tenth_of_a_second_is_told_at_a_time() -> None:
    observer = Observer()
    told = SoundTold(observer)
    for packet in range(50):
        if told.caller(counted(160 * packet, 160), packet / 50):
            told.tell()
    assert [(event.start_sample, event.pcm.size, len(event.gaps_s)) for event in observer.caller] == [
        (start, 800, 5 if start else 4) for start in range(0, 8_000, 800)
    ]


def test_nothing_is_told_of_a_caller_who_has_not_come() -> None:
    observer = Observer()
    SoundTold(observer).tell()
    assert observer.events == []


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_gaps_between_the_agents_packets_count_only_where_one_goes_on(
    packets: list[tuple[float, bool, bool]],
) -> None:
    observer = Observer()
    told = SoundTold(observer)
    now, at = 5.0, 0
    expected: list[list[float]] = [[]]
    before: float | None = None
    for gap_s, goes_on, report in packets:
        now += gap_s
        if not goes_on:
            told.paused()
        told.sent(now)
        if goes_on and before is not None:
            expected[-1].append(now - before)
        before = now
        if report:
            told.agent(counted(at, 160), at)
            at += 160
            expected.append([])
    told.agent(counted(at, 40), at)

    assert [list(event.gaps_s) for event in observer.agent] == expected
    assert [event.start_sample for event in observer.agent] == [160 * n for n in range(len(expected))]
    assert np.concatenate([event.pcm for event in observer.agent]).tolist() == counted(0, at + 40).tolist()
    assert observer.caller == []


def test_the_two_sides_count_for_themselves() -> None:
    observer = Observer()
    told = SoundTold(observer)
    told.caller(counted(0, 160), 1.0)
    told.sent(1.01)
    told.caller(counted(160, 160), 1.02)
    told.sent(1.04)
    told.agent(counted(0, 160), 4_000)
    told.tell()
    (agent,), (caller,) = observer.agent, observer.caller
    assert (agent.start_sample, np.round(agent.gaps_s, 6).tolist()) == (4_000, [0.03])
    assert (caller.start_sample, np.round(caller.gaps_s, 6).tolist()) == (0, [0.02])
    assert observer.events == [agent, caller]
