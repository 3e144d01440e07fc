"""`maya bench sizing`: how many calls a GPU and a front-end core carry, from 1 to 10,000 calls.

`TIMES` is the one table of service times, each with where it comes from: `measured` by a bench of ours,
`computed` from bytes and operations on the card's data sheet (nothing of Maya was run on a GPU yet), or
`assumed`. From it a simulation of calls that talk, wait and are answered finds the most calls at which a GPU
still keeps two promises: the wait for the first sound that its models add stays under `WAIT_LIMIT_S` in 95 of
100 turns, and no more than one tick of the voice in a thousand comes after the call had run dry. What needs
no queue (cores, memory, bandwidth, rows in the database) is multiplied.

The simulated GPU does one thing at a time: ticks of the voice for all that speak, first of all; then the
transcriptions of turns that ended, as many in one pass as wait; then the language model, a prefill or a step
for all replies; and partial transcriptions in what time is left. It has all models, the voice alone, or the
others.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.report import Report

Origin = Literal["measured", "computed", "assumed"]

WAIT_LIMIT_S: Final = 0.8
TICK_S: Final = 0.08
SIZES: Final = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_SIMULATED_S: Final = 90.0
_WARM_S: Final = 20.0
_BETWEEN_TICKS_S: Final = TICK_S / 8
"""So that calls that become hungry one after the other share a tick."""
_LATE_TICKS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Time:
    """A figure and where it comes from."""

    value: float
    unit: str
    origin: Origin
    source: str


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU. Times in seconds: `*_s` for one, `*_each_s` for each further call in the same pass."""

    name: str
    gib: float
    tick_s: float
    tick_each_s: float
    stt_s: float
    stt_each_s: float
    step_s: float
    step_each_s: float
    prefill_s: float
    slots: int


def _card(name: str, gib: float, gb_per_s: float, tflops: float) -> Card:
    """From the data sheet: 70 % of the bandwidth, 35 % of the dense bf16 operations, and what is launched:
    4 ms a tick of the voice, 1 ms a step of the language model. Bytes and operations: `TIMES`."""
    bytes_per_s, flops = 0.7 * gb_per_s * 1e9, 0.35 * tflops * 1e12
    models_gib = 6.1 + 5.5  # the voice without its slots, Whisper and Llama (docs/voice.md)
    return Card(
        name=name,
        gib=gib,
        tick_s=9.107e9 / bytes_per_s + 0.004,
        tick_each_s=9.33e9 / flops + 0.0001,
        stt_s=2.2e12 / flops + 0.003,
        stt_each_s=2.2e12 / flops,
        step_s=6.4e9 / bytes_per_s + 0.001,
        step_each_s=6.4e9 / flops + 0.00002,
        prefill_s=60 * 6.4e9 / flops + 6.4e9 / bytes_per_s,
        # 2,048 rows of the voice (67 MB) and of the language model (28 layers, 8 heads of 128, bf16: 235 MB).
        slots=max(1, int((gib - models_gib - 2.0) * 1.0737e9 / (67e6 + 235e6))),
    )


def voice_alone(card: Card) -> Card:
    """The card with nothing but the voice on it."""
    slots = int((card.gib - 6.1 - 2.0) * 1.0737e9 / 67e6)
    elsewhere = dict.fromkeys(("stt_s", "stt_each_s", "step_s", "step_each_s", "prefill_s"), 1e-06)
    return replace(card, name=f"{card.name}_voice", slots=slots, **elsewhere)


def words_alone(card: Card) -> Card:
    """The card with hearing and the language model on it."""
    slots = int((card.gib - 5.5 - 2.0) * 1.0737e9 / 235e6)
    return replace(card, name=f"{card.name}_words", slots=slots, tick_s=1e-6, tick_each_s=1e-6)


_ALONE: Final = (
    _card("L4", 24, 300, 121),
    _card("A10G", 24, 600, 70),
    _card("H100", 80, 3_350, 989),
)
CARDS: Final = tuple(made for card in _ALONE for made in (card, voice_alone(card), words_alone(card)))

TIMES: Final[dict[str, Time]] = {
    "front_end_calls_per_core": Time(70, "calls", "measured", "maya bench media, everything on"),
    "front_end_kib_per_call": Time(1_162, "KiB", "measured", "maya bench media"),
    "front_end_rss_mib": Time(
        600, "MiB", "assumed", "Silero, numpy and Python, without the profile's models"
    ),
    "cpu_first_sound_s": Time(
        1.35, "s", "measured", "maya bench turns: one call on 2 cores, embedded profile"
    ),
    "voice_tick_cpu_s": Time(
        0.29, "s", "measured", "maya bench csm: one call, one thread, for 80 ms of sound"
    ),
    "voice_engine_s": Time(0.0005, "s", "measured", "maya bench csm: 32 slots without the kernels, per tick"),
    "voice_bytes": Time(9.107e9, "bytes/tick", "computed", "shapes of CSM-1B in bf16"),
    "voice_flops": Time(9.33e9, "operations/tick", "computed", "shapes of CSM-1B, per call"),
    "llm_bytes": Time(6.4e9, "bytes/step", "computed", "Llama 3.2 3B in bf16"),
    "stt_flops": Time(2.2e12, "operations", "computed", "Whisper large-v3-turbo, one window of 30 s"),
    "kbit_per_s_call": Time(225, "kbit/s", "computed", "G.711 in base64 and JSON, both ways, TCP and TLS"),
    "rows_per_call_s": Time(0.4, "rows/s", "assumed", "a turn of some 8 s, its stages and beats"),
    "recording_mb_per_call_min": Time(1.92, "MB", "computed", "two channels, 8 kHz, 16 bits"),
    "new_calls_per_s_share": Time(1 / 180, "1/s", "assumed", "a call lasts three minutes"),
}
"""What the caller does: speaks 2.5 s, pauses 1 s; partial transcripts every 0.5 s while it speaks, one at its
end; the agent answers with 14 tokens to the first clause, 30 in all, and 4 s of speech."""

_SPEAKS_S, _PAUSES_S, _ANSWER_S = 2.5, 1.0, 4.0
_PARTIAL_S = 0.5
_FIRST_CLAUSE, _REPLY = 14, 30
_TOGETHER = 8
"""Transcriptions in one pass."""


@dataclass(slots=True)
class _Call:
    asked_s: float = 0.0
    tokens: int = 0
    ticks_left: int = 0
    buffered_s: float = 0.0
    """Sound that is made and not yet played."""
    sounding: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    calls: int
    wait_p50_s: float
    wait_p95_s: float
    late: float
    """Part of the ticks that came after the call had nothing left to play."""
    busy: float

    @property
    def kept(self) -> bool:
        return self.wait_p95_s <= WAIT_LIMIT_S and self.late <= _LATE_TICKS


def simulate(card: Card, calls: int, *, seed: int = 1, seconds: float = _SIMULATED_S) -> Outcome:
    """`calls` conversations on one card. The same for the same seed."""
    chance = random.Random(seed)
    events: list[tuple[float, int, str, int]] = []
    order = 0

    def at(when: float, what: str, who: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, what, who))

    people = [_Call() for _ in range(calls)]
    partials: set[int] = set()
    finals: deque[int] = deque()
    prefills: deque[int] = deque()
    replying: set[int] = set()
    speaking: set[int] = set()
    waits: list[float] = []
    ticks = late = 0
    busy_s = now = played_to = next_tick_s = 0.0
    for number in range(calls):
        at(chance.uniform(0, _SPEAKS_S + _PAUSES_S + _ANSWER_S), "speaks", number)

    def arrive(until: float) -> None:
        while events and events[0][0] <= until:
            when, _, what, who = heapq.heappop(events)
            if what == "speaks":
                lasts_s = chance.lognormvariate(math.log(_SPEAKS_S), 0.5)
                for step in range(1, int(lasts_s / _PARTIAL_S)):
                    at(when + step * _PARTIAL_S, "partial", who)
                at(when + lasts_s, "ended", who)
            elif what == "partial":
                partials.add(who)
            else:
                partials.discard(who)
                people[who].asked_s = when
                finals.append(who)

    while now < seconds:
        arrive(now)
        took_s = 0.0
        hungry: list[int] = []
        if now >= next_tick_s:
            hungry = [who for who in speaking if people[who].buffered_s < 3 * TICK_S]
        if hungry:
            next_tick_s = now + _BETWEEN_TICKS_S
            took_s = card.tick_s + card.tick_each_s * len(hungry)
            done_s = now + took_s
            for who in hungry:
                one = people[who]
                if one.sounding:
                    ticks += done_s > _WARM_S
                    if one.buffered_s < took_s:
                        late += done_s > _WARM_S
                elif one.asked_s > _WARM_S:
                    waits.append(done_s - one.asked_s)
                one.sounding = True
                one.buffered_s += TICK_S
                one.ticks_left -= 1
                if not one.ticks_left:
                    speaking.discard(who)
                    one.sounding = False
                    pause_s = chance.expovariate(1 / _PAUSES_S)
                    at(done_s + one.buffered_s + pause_s, "speaks", who)
                    one.buffered_s = 0.0
        elif finals:
            wanted = [finals.popleft() for _ in range(min(_TOGETHER, len(finals)))]
            took_s = card.stt_s + card.stt_each_s * (len(wanted) - 1)
            prefills.extend(wanted)
        elif prefills:
            who = prefills.popleft()
            took_s = card.prefill_s
            people[who].tokens = 0
            replying.add(who)
        elif replying:
            took_s = card.step_s + card.step_each_s * len(replying)
            for who in sorted(replying):
                people[who].tokens += 1
                if people[who].tokens == _FIRST_CLAUSE:
                    people[who].ticks_left = max(2, round(chance.gauss(_ANSWER_S, 1.0) / TICK_S))
                    people[who].buffered_s = 0.0
                    speaking.add(who)
                if people[who].tokens >= _REPLY:
                    replying.discard(who)
        elif partials:
            some = sorted(partials)[:_TOGETHER]
            partials.difference_update(some)
            took_s = card.stt_s + card.stt_each_s * (len(some) - 1)
        busy_s += took_s
        if took_s:
            now += took_s
        else:
            nexts = [events[0][0] if events else seconds]
            if speaking:
                nexts.append(max(next_tick_s, now + _BETWEEN_TICKS_S))
            now = max(now + 1e-6, min(nexts))
        for who in speaking:
            if people[who].sounding:
                people[who].buffered_s = max(0.0, people[who].buffered_s - (now - played_to))
        played_to = now
    waits.sort()
    return Outcome(
        calls=calls,
        wait_p50_s=waits[len(waits) // 2] if waits else math.inf,
        wait_p95_s=waits[int(len(waits) * 0.95)] if waits else math.inf,
        late=late / max(1, ticks),
        busy=min(1.0, busy_s / seconds),
    )


def most_calls(card: Card, *, seconds: float = _SIMULATED_S) -> Outcome:
    """The most calls that keep both promises, no more than there is memory for; `calls` 0 where even one is
    too many."""
    low, high = 1, card.slots
    best = simulate(card, 1, seconds=seconds)
    if not best.kept:
        return replace(best, calls=0)
    while low < high:
        middle = (low + high + 1) // 2
        found = simulate(card, middle, seconds=seconds)
        if found.kept:
            low, best = middle, found
        else:
            high = middle - 1
    return best


def plan(calls: int, per_card: int) -> dict[str, float]:
    """What `calls` at once need, planned at half of what the simulation allows, with one more of everything
    that one cannot do without."""
    per_core = TIMES["front_end_calls_per_core"].value / 2
    cores = math.ceil(calls / per_core)
    each_mib, call_kib = TIMES["front_end_rss_mib"].value, TIMES["front_end_kib_per_call"].value
    return {
        "gpus": math.ceil(calls / max(1, per_card / 2)) + (calls > 1),
        "front_end_cores": cores + (1 if calls > 1 else 0),
        "front_end_gib": round((cores * each_mib + calls * call_kib / 1024) / 1024, 1),
        "mbit_per_s": round(calls * TIMES["kbit_per_s_call"].value / 1_000, 1),
        "database_rows_per_s": round(calls * TIMES["rows_per_call_s"].value, 1),
        "recordings_gb_per_h": round(calls * TIMES["recording_mb_per_call_min"].value * 60 / 1_000, 1),
        "new_calls_per_s": round(calls * TIMES["new_calls_per_s_share"].value, 2),
    }


def run(*, seconds: float = _SIMULATED_S, cards: Sequence[Card] = CARDS) -> Report:
    """Some minutes of processor time; nothing of it depends on what else the machine does."""
    figures: dict[str, object] = {}
    details: dict[str, object] = {
        "times": {
            name: {"value": time.value, "unit": time.unit, "origin": time.origin, "source": time.source}
            for name, time in TIMES.items()
        }
    }
    for card in cards:
        found = most_calls(card, seconds=seconds)
        figures |= {
            f"{card.name}_calls": found.calls,
            f"{card.name}_memory_calls": card.slots,
            f"{card.name}_wait_p50_s": round(found.wait_p50_s, 3),
            f"{card.name}_wait_p95_s": round(found.wait_p95_s, 3),
            f"{card.name}_busy": round(found.busy, 2),
        }
        if found.calls:
            details[card.name] = {str(size): plan(size, found.calls) for size in SIZES}
    return Report(
        figures=figures,
        notes=[
            "simulated from computed times: nothing of Maya was run on a GPU yet",
            "plans take half of what the simulation allows",
        ],
        details=details,
    )
