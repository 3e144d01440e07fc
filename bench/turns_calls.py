"""The calls of `maya bench turns`, planned from the corpus: what is said at which step, and what it was.

Conversation calls: a caller, one voice, says turn after turn of the corpus and waits each time for the
answer. Overlap calls: while the agent reads a long announcement (`turns_announcement.toml`), the caller
says "mm-hmm", coughs, talks to somebody else; then an interruption ends the announcement, and the agent's
answers are interrupted in turn. Network, noise and echo of a call are those of the corpus's conditions.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.corpus import Condition, Corpus, Overlap, OverlapKind, Turn
from telephony.simulator import Scenario
from telephony.simulator.caller import Speech
from telephony.simulator.scenario import (
    Backchannel,
    Echo,
    HangUp,
    Interrupt,
    Listen,
    Network,
    Noise,
    Say,
    Sound,
    Step,
    Wait,
)

ANNOUNCEMENT = Path(__file__).with_name("turns_announcement.toml")
TURNS = 66
TURNS_A_CALL = 6
LISTENS_S = 1.4
"""Of silence before a caller goes on: a late answer to the end of a turn must not fall into the next one."""
OVERLAP_CALLS = 24
SOUNDS: tuple[tuple[OverlapKind, ...], ...] = (
    ("backchannel", "cough", "backchannel", "backchannel", "side_talk"),
    ("line_noise", "backchannel", "backchannel", "side_talk"),
    ("backchannel", "backchannel", "cough", "backchannel", "side_talk"),
    ("backchannel", "line_noise", "backchannel", "side_talk"),
)
"""Of one call, call by call. Whatever stops the agent is the last sound of its call, so few stand in each,
and what is likeliest to stop it stands last."""
INTERRUPTIONS_A_CALL = 3
EVERY_S = 2.5
"""From the end of one sound over the announcement to the next; the agent has 2 s to react to each."""
INTERRUPTS_AFTER_S = (0.5, 0.9, 0.7, 1.1)
"""After an answer became audible; most answers are short."""
LAST_WAIT_S = 2.4
"""After the last interruption: the time in which the agent may still react."""
_SIMULATOR_NOISE = {
    **{"room": "room", "street": "room", "hiss": "white"},
    **{"office": "hum", "traffic": "street", "cafe": "babble"},
}
"""The simulated line makes its own noise all through the call; of its kinds, too, each part has its own."""
_LEAST_ECHO_DELAY_MS = 20.0


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """`turns` and `overlaps` are what the caller says, in order, as the simulator's report will count them: a
    turn of an overlap call is an interruption."""

    scenario: Scenario
    speeches: Mapping[int, Speech]
    turns: tuple[Turn, ...] = ()
    overlaps: tuple[Overlap, ...] = ()


def conversation_calls(corpus: Corpus, turns: int = TURNS) -> list[PlannedCall]:
    """At least `turns` turns of all voices alike, in calls of `TURNS_A_CALL`. Of each voice the first turns
    are taken, which are in random order, but as many with pauses inside as the corpus has of them."""
    by_voice = _by_voice(corpus.turns)
    a_voice = -(-turns // len(by_voice))
    calls = [_batched(_mixed(own, a_voice), TURNS_A_CALL) for own in by_voice.values()]
    # Voice by voice, so that the first few calls have all of them.
    in_turn = [call for round_ in itertools.zip_longest(*calls) for call in round_ if call]
    return [_conversation(number, tuple(call)) for number, call in enumerate(in_turn)]


def overlap_calls(corpus: Corpus, calls: int = OVERLAP_CALLS) -> list[PlannedCall]:
    """`calls` calls; what the corpus has too little of is heard again."""
    supply = {kind: itertools.cycle(_of_kind(corpus, kind)) for kind in _KINDS}
    conditions = [turn.condition for turn in corpus.turns]
    return [_overlap_call(number, supply, conditions[number]) for number in range(calls)]


_KINDS: tuple[OverlapKind, ...] = (
    "backchannel",
    "cough",
    "side_talk",
    "line_noise",
    "interruption",
    "stop_word",
)


def _by_voice(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    by_voice: dict[str, list[Turn]] = {}
    for turn in turns:
        by_voice.setdefault(turn.voice, []).append(turn)
    return by_voice


def _mixed(turns: Sequence[Turn], count: int) -> list[Turn]:
    paused = [turn for turn in turns if turn.pauses_s]
    wanted = min(len(paused), -(-count * len(paused) // len(turns)))
    chosen = [*paused[:wanted], *[turn for turn in turns if not turn.pauses_s][: count - wanted]]
    return [turn for turn in turns if turn in chosen]


def _batched(turns: Sequence[Turn], size: int) -> list[tuple[Turn, ...]]:
    return [tuple(turns[at : at + size]) for at in range(0, len(turns), size)]


def _of_kind(corpus: Corpus, kind: OverlapKind) -> list[Overlap]:
    return [overlap for overlap in corpus.overlaps if overlap.kind == kind]


def _conversation(number: int, turns: tuple[Turn, ...]) -> PlannedCall:
    steps: list[Step] = [Listen(pause_s=LISTENS_S)]
    speeches = {}
    for turn in turns:
        speeches[len(steps)] = Speech.of(turn.text, turn.pcm)
        steps += [Say(text=turn.text), Listen(pause_s=LISTENS_S)]
    scenario = _scenario(f"turns-{number:02}-{turns[0].voice}", steps, turns[0].condition)
    return PlannedCall(scenario, speeches, turns=turns)


def _overlap_call(
    number: int, supply: Mapping[OverlapKind, Iterator[Overlap]], condition: Condition
) -> PlannedCall:
    steps: list[Step] = []
    speeches = {}
    overlaps = []
    for kind in SOUNDS[number % len(SOUNDS)]:
        overlap = next(supply[kind])
        overlaps.append(overlap)
        speeches[len(steps)] = Speech.of(overlap.text or overlap.voice, overlap.pcm)
        if kind == "backchannel":
            steps.append(Backchannel(after_s=EVERY_S, say=overlap.text))
        else:
            steps.append(Sound(after_s=EVERY_S, text=overlap.text or overlap.voice))
    for turn in range(INTERRUPTIONS_A_CALL):
        # Every sixth is one word alone.
        alone = number % 2 == 0 and turn == number // 2 % INTERRUPTIONS_A_CALL
        overlap = next(supply["stop_word" if alone else "interruption"])
        overlaps.append(overlap)
        speeches[len(steps)] = Speech.of(overlap.text, overlap.pcm)
        after_s = INTERRUPTS_AFTER_S[(number + turn) % len(INTERRUPTS_AFTER_S)]
        steps.append(Interrupt(after_s=EVERY_S if turn == 0 else after_s, say=overlap.text))
    steps += [Wait(seconds=LAST_WAIT_S), HangUp()]
    return PlannedCall(_scenario(f"overlaps-{number:02}", steps, condition), speeches, (), tuple(overlaps))


def _scenario(name: str, steps: Sequence[Step], condition: Condition) -> Scenario:
    noise, echo = None, None
    if condition.noise is not None:
        kind = _SIMULATOR_NOISE[condition.noise]
        noise = Noise(kind=kind, level_dbfs=condition.level_dbfs, seed=condition.seed % 100_000)
    if condition.echo_db is not None:
        echo = Echo(level_db=condition.echo_db, delay_ms=max(_LEAST_ECHO_DELAY_MS, condition.echo_delay_ms))
    return Scenario(
        name=name,
        network=Network(
            delay_ms=condition.delay_ms,
            jitter_ms=min(condition.jitter_ms, condition.delay_ms),
            loss=condition.loss,
            seed=condition.seed % 100_000,
        ),
        noise=noise,
        echo=echo,
        steps=tuple(steps),
    )
