"""Times measured in the two recorded channels, and in nothing else.

Voiced, here, means what `pipeline.audible` says: a level meter's word, which has nothing to do with the voice
detector of the agent under test.

Voiced runs closer than `UTTERANCE_PAUSE_S` are one utterance: the pauses between an agent's clauses are not
its end. So an agent that is still sounding when the caller stops is not answering yet, and speech that goes
on over an interruption is not taken for the reply to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audible import Run, voiced_runs
from pipeline.line import LINE_RATE_HZ, Pcm

UTTERANCE_PAUSE_S = 0.3
P95_NEEDS = 60
"""Below this many values a 95th percentile is only the maximum under another name: none is given."""


def utterances(runs: Sequence[Run], pause_s: float = UTTERANCE_PAUSE_S) -> list[Run]:
    """Runs joined over pauses shorter than `pause_s`."""
    joined: list[Run] = []
    for run in runs:
        if joined and run.start - joined[-1].stop < pause_s * LINE_RATE_HZ:
            joined[-1] = Run(joined[-1].start, run.stop)
        else:
            joined.append(run)
    return joined


def span(runs: Sequence[Run], within: Run) -> Run | None:
    """From the first to the last voiced sample inside `within`, pauses included; None if there is none."""
    inside = [run for run in runs if run.start < within.stop and run.stop > within.start]
    if not inside:
        return None
    return Run(max(inside[0].start, within.start), min(inside[-1].stop, within.stop))


def response_gap(agent: Sequence[Run], turn_stop: int, until: int | None = None) -> int | None:
    """Samples from the caller's last voiced sample to the first of the agent's answer.

    `agent` are utterances; `turn_stop` is the sample after the caller's last voiced one; the answer must
    start before `until`, where the caller's next turn starts. None if there is no such answer.
    """
    for utterance in agent:
        if utterance.start >= turn_stop:
            return utterance.start - turn_stop if until is None or utterance.start < until else None
    return None


def stop_time(agent: Sequence[Run], interruption: Run) -> int | None:
    """Samples from the first voiced sample of `interruption` to the last audible one of the speech it
    interrupted.

    The interrupted speech is everything the agent began to say before the interruption was over: a reply to
    it cannot begin earlier. 0 when the agent happened to be in a pause and never went on. None when it was
    not speaking.
    """
    reach = interruption.start - UTTERANCE_PAUSE_S * LINE_RATE_HZ
    if not any(u.start < interruption.start and u.stop > reach for u in agent):
        return None
    last = max(u.stop for u in agent if u.start < interruption.stop)
    return max(0, last - interruption.start)


def cuts_off(agent: Sequence[Run], turn: Run, silent_from: int | None = None) -> bool:
    """Whether the agent began to speak inside the caller's turn: in an inner pause, or over its last word.

    `agent` are utterances. An agent that was speaking when the turn began has not begun, except after
    `silent_from`, where the turn had stopped it.
    """
    if silent_from is not None:
        return any(silent_from <= u.start < turn.stop for u in agent)
    reach = turn.start - UTTERANCE_PAUSE_S * LINE_RATE_HZ
    spoke = any(u.start < turn.start and u.stop > reach for u in agent)
    return not spoke and any(turn.start <= u.start < turn.stop for u in agent)


@dataclass(frozen=True, slots=True)
class TurnMeasures:
    """One turn of the caller, in seconds. `barge_in_s` is the stop time of the agent speech that this turn
    interrupted, None if it interrupted none."""

    first_voiced_s: float | None
    last_voiced_s: float | None
    gap_s: float | None
    barge_in_s: float | None


def measure_turns(
    caller: Pcm, agent: Pcm, turns: Sequence[Run], shift: Callable[[int], int] | None = None
) -> list[TurnMeasures]:
    """Measure each turn of one recording.

    `turns` says where in `caller` each turn lies, silence included. `shift` moves a sample of `caller` onto
    the time axis of `agent` when the two were recorded in different places (None: the same axis).
    """
    caller_runs, agent_speech = voiced_runs(caller), utterances(voiced_runs(agent))
    spoken = [span(caller_runs, turn) for turn in turns]
    if shift is not None:
        spoken = [turn and Run(shift(turn.start), shift(turn.stop - 1) + 1) for turn in spoken]
    measures = []
    for number, turn in enumerate(spoken):
        if turn is None:
            measures.append(TurnMeasures(None, None, None, None))
            continue
        following = next((later.start for later in spoken[number + 1 :] if later is not None), None)
        measures.append(
            TurnMeasures(
                turn.start / LINE_RATE_HZ,
                turn.stop / LINE_RATE_HZ,
                _seconds(response_gap(agent_speech, turn.stop, following)),
                _seconds(stop_time(agent_speech, turn)),
            )
        )
    return measures


def _seconds(samples: int | None) -> float | None:
    return None if samples is None else samples / LINE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Summary:
    """`p95` is None below 60 values. All None when there are none."""

    p50: float | None
    p95: float | None
    max: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary:
    if not values:
        return Summary(None, None, None, 0)
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    p95 = round(float(np.percentile(array, 95)), 1) if len(values) >= P95_NEEDS else None
    return Summary(round(float(np.median(array)), 1), p95, round(float(array.max()), 1), len(values))
