"""Policies of when a turn is over, and what each would have done on turns whose evidence is known.

A policy says, for each moment of a pause, how long the silence must last; a *plan* is that as steps: from
`from_s` on (seconds into the pause, when some evidence has arrived) `needed_s` of silence are enough.
Everything here counts silence from the last voiced window, as the pipeline does, and judges by the truth.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.endpoints_evidence import SMART_TURN_AT_S, Pause, WatchedTurn
from bench.endpoints_words import PULL, PULL_BESIDE_MODEL, cue
from bench.report import percentile
from pipeline.persona import TurnTaking
from pipeline.turn_end import (
    PAUSE_MEDIAN_S,
    UNHEARD_S,
    bounded_log_odds,
    end_log_odds,
    silence_at_odds,
    silence_needed_s,
)

SMART_TURN_TAKES_S = 0.12
"""One decision on one core."""
PIPECAT_STOP_S = 3.0
"""pipecat's STOP_SECS: the turn is over after so much silence, whatever smart-turn said."""


@dataclass(frozen=True, slots=True)
class Delays:
    """When evidence is at hand, and when the agent can be heard at the earliest: seconds into a pause."""

    text_s: float
    ends_s: float
    audible_s: float


@dataclass(frozen=True, slots=True)
class Step:
    from_s: float
    needed_s: float


Plan = Callable[[Pause, Sequence[float]], Sequence[Step]]
"""From a pause and the caller's earlier pauses that were no ends."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy did in one turn."""

    turn: WatchedTurn
    cut_off: bool
    """It took the floor inside the turn."""
    dead_air_s: float
    """From the end of the turn to its being over; as if it had not been cut off before."""


def silence(seconds: float) -> Plan:
    """Silence alone."""
    return lambda pause, earlier: (Step(0.0, seconds),)


def smart_turn(threshold: float, otherwise_s: float) -> Plan:
    """smart-turn's word after 0.2 s; `otherwise_s` of silence where it says that the turn goes on. pipecat's
    defaults are 0.5 and 3 s."""

    def plan(pause: Pause, earlier: Sequence[float]) -> Sequence[Step]:
        over = pause.smart_turn is not None and pause.smart_turn > threshold
        decided = SMART_TURN_AT_S + SMART_TURN_TAKES_S
        return Step(0.0, otherwise_s), Step(decided, 0.0 if over else otherwise_s)

    return plan


def ours(even_s: float, delays: Delays) -> Plan:
    """What the pipeline does, with `endpoint_silence_s` of `even_s`."""
    policy = TurnTaking(endpoint_silence_s=even_s)

    def plan(pause: Pause, earlier: Sequence[float]) -> Sequence[Step]:
        return (
            Step(0.0, silence_needed_s(None, None, policy)),
            Step(delays.ends_s, silence_needed_s(pause.text, pause.ends, policy)),
        )

    return plan


def words_only(even_s: float, delays: Delays) -> Plan:
    """What the last words show, without the language model."""
    return _at_odds(even_s, delays.text_s, lambda pause: PULL[cue(pause.text or "")])


def with_words(even_s: float, delays: Delays) -> Plan:
    """Ours, and what the last words show."""
    return _at_odds(
        even_s, delays.ends_s, lambda pause: _by_model(pause) + PULL_BESIDE_MODEL[cue(pause.text or "")]
    )


def with_smart_turn(even_s: float, delays: Delays) -> Plan:
    """Ours, and smart-turn's opinion, weighed by the same regression."""

    def odds(pause: Pause) -> float:
        sound = 0.0 if pause.smart_turn is None else 0.17 * (bounded_log_odds(pause.smart_turn) - 2.9)
        return _by_model(pause) + sound

    return _at_odds(even_s, delays.ends_s, odds)


def learning(even_s: float, delays: Delays) -> Plan:
    """Ours, and the median pause is drawn from `PAUSE_MEDIAN_S`, which counts for five pauses, to the
    caller's own."""

    def median_s(earlier: Sequence[float]) -> float:
        logs = [math.log(max(pause_s, 0.1)) for pause_s in earlier]
        return math.exp((5 * math.log(PAUSE_MEDIAN_S) + sum(logs)) / (5 + len(logs)))

    def plan(pause: Pause, earlier: Sequence[float]) -> Sequence[Step]:
        own_s = median_s(earlier)
        even_own_s = even_s * own_s / PAUSE_MEDIAN_S
        needed_s = silence_at_odds(_by_model(pause), even_own_s, median_s=own_s)
        return Step(0.0, max(even_own_s, UNHEARD_S)), Step(delays.ends_s, needed_s)

    return plan


def _by_model(pause: Pause) -> float:
    return 0.0 if pause.ends is None else end_log_odds(pause.ends)


def _at_odds(even_s: float, from_s: float, log_odds: Callable[[Pause], float]) -> Plan:
    def plan(pause: Pause, earlier: Sequence[float]) -> Sequence[Step]:
        known = even_s if pause.text is None else silence_at_odds(log_odds(pause), even_s)
        return Step(0.0, max(even_s, UNHEARD_S)), Step(from_s, known)

    return plan


def committed_s(steps: Sequence[Step]) -> float:
    """How much silence ends the turn by this plan."""
    for step, until in zip(steps, [*(later.from_s for later in steps[1:]), math.inf], strict=True):
        moment = max(step.from_s, step.needed_s)
        if moment < until:
            return moment
    raise ValueError("a plan without steps")


def play(turns: Iterable[WatchedTurn], plan: Plan, *, audible_s: float = 0.0) -> list[Outcome]:
    """What `plan` does in each turn; turns of one voice are one caller's, in their order.

    The agent takes the floor when the silence is long enough, `audible_s` into the pause at the earliest:
    speech that comes before takes the decision back, and nobody has noticed."""
    outcomes = []
    callers: dict[str, list[float]] = {}
    for turn in turns:
        earlier = callers.setdefault(turn.voice, [])
        cut_off, dead_air_s = False, None
        for pause in turn.pauses:
            moment = max(audible_s, committed_s(plan(pause, earlier)))
            inside = pause.begins_s + moment < turn.end_s
            taken = pause.over_s is None or moment < pause.over_s - pause.begins_s
            if taken and inside:
                cut_off = True
            elif taken and dead_air_s is None:
                dead_air_s = pause.begins_s + moment - turn.end_s
            if pause.over_s is not None and pause.over_s <= turn.end_s:
                earlier.append(pause.over_s - pause.begins_s)
        if dead_air_s is None:
            raise ValueError(f"turn {turn.id} never ends")
        outcomes.append(Outcome(turn, cut_off, dead_air_s))
    return outcomes


@dataclass(frozen=True, slots=True)
class Score:
    """`cut_offs` of `n` turns with pauses inside; seconds of dead air over all turns."""

    cut_offs: int
    n: int
    mean_s: float
    p50_s: float
    p95_s: float

    @property
    def rate(self) -> float:
        return self.cut_offs / self.n if self.n else 0.0


def score(outcomes: Sequence[Outcome]) -> Score:
    dead = [outcome.dead_air_s for outcome in outcomes]
    with_pauses = [outcome for outcome in outcomes if outcome.turn.pauses_inside]
    return Score(
        sum(outcome.cut_off for outcome in with_pauses),
        len(with_pauses),
        sum(dead) / len(dead),
        percentile(dead, 50),
        percentile(dead, 95),
    )
