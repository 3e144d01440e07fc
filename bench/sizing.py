"""`maya bench sizing`: how many calls a GPU and a front-end core carry, from 1 to 10,000 calls.

`TIMES` is the one table of service times, each with where it comes from: `measured` by a bench of ours,
`computed` from bytes and operations on the card's data sheet (nothing of Maya was run on a GPU yet), or
`assumed`. From it a simulation of calls that talk, wait and are answered finds the most calls at which a GPU
still keeps two promises: the wait for the first sound that its models add stays under `WAIT_LIMIT_S` in 95 of
100 turns, and no more than one tick of the voice in a thousand comes after the call had run dry. What needs
no queue (cores, memory, bandwidth, rows in the database) is multiplied.

The simulated GPU makes one pass at a time, and three engines take turns on it: the voice, whose ticks are
planned by the very `Scheduler` that plans them in a server (64 calls in each replica of it); hearing, which
takes turns that ended, eight at a time, and the words so far of somebody who still speaks only when it has
nothing else, as in a call; and the language model, a prefill or a step for all replies. It has all models,
the voice alone, or the others; what is elsewhere takes no time here. Not in it: showing the voice the
conversation, and the way over network and line.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from bench.report import Report
from models.csm.scheduler import BUCKETS, Scheduler, Tick, bucket

Origin = Literal["measured", "computed", "assumed"]

WAIT_LIMIT_S: Final = 0.8
TICK_S: Final = 0.08
SIZES: Final = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_SIMULATED_S: Final = 300.0
_WARM_S: Final = 20.0
_LEAD_S: Final = 0.24
"""How far the voice keeps ahead of a listener, as `models.csm.engine.Engine` does."""
_REPLICA: Final = BUCKETS[-1]
"""Calls that one replica of the voice speaks for at most."""
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
    """Calls for which there is memory."""
    voice: bool = True
    words: bool = True
    """Hearing and the language model are on it."""


def _card(name: str, gib: float, gb_per_s: float, tflops: float) -> Card:
    """From the data sheet: 70 % of the bandwidth, 35 % of the dense bf16 operations, and what is launched:
    4 ms a tick of the voice, 1 ms a step of the language model. Bytes and operations: `TIMES`."""
    bytes_per_s, flops = 0.7 * gb_per_s * 1e9, 0.35 * tflops * 1e12
    voice_bytes, voice_flops = TIMES["voice_bytes"].value, TIMES["voice_flops"].value
    llm_bytes, stt_flops = TIMES["llm_bytes"].value, TIMES["stt_flops"].value
    return Card(
        name=name,
        gib=gib,
        tick_s=voice_bytes / bytes_per_s + 0.004,
        tick_each_s=voice_flops / flops + 0.0001,
        stt_s=stt_flops / flops + 0.003,
        stt_each_s=stt_flops / flops,
        step_s=llm_bytes / bytes_per_s + 0.001,
        step_each_s=llm_bytes / flops + 0.00002,  # two operations for each weight of two bytes
        prefill_s=_PROMPT * llm_bytes / flops + llm_bytes / bytes_per_s,
        slots=_memory_calls(gib, voice=True, words=True),
    )


def _memory_calls(gib: float, *, voice: bool, words: bool) -> int:
    """Calls for which a card has memory, 2 GiB left free. 0: not even the models fit."""
    room = (gib - 2.0) * 1.0737e9
    calls = 0
    while _memory_bytes(calls + 1, voice=voice, words=words) <= room:
        calls += 1
    return calls


def _memory_bytes(calls: int, *, voice: bool, words: bool) -> float:
    needed = 0.0
    if words:
        needed += TIMES["words_bytes"].value + calls * TIMES["words_bytes_per_call"].value
    if voice:
        replicas = [min(_REPLICA, calls - first) for first in range(0, calls, _REPLICA)]
        each, slot = TIMES["voice_memory_bytes"].value, TIMES["voice_bytes_per_slot"].value
        needed += sum(each + bucket(slots) * slot for slots in replicas)
    return needed


def voice_alone(card: Card) -> Card:
    """The card with nothing but the voice on it."""
    slots = _memory_calls(card.gib, voice=True, words=False)
    return replace(card, name=f"{card.name}_voice", slots=slots, words=False)


def words_alone(card: Card) -> Card:
    """The card with hearing and the language model on it."""
    slots = _memory_calls(card.gib, voice=False, words=True)
    return replace(card, name=f"{card.name}_words", slots=slots, voice=False)


TIMES: Final[dict[str, Time]] = {
    "front_end_calls_per_core": Time(120, "calls", "measured", "maya bench media, everything on"),
    "front_end_kib_per_call": Time(1_291, "KiB", "measured", "maya bench media"),
    "front_end_rss_mib": Time(
        600, "MiB", "assumed", "Silero, numpy and Python, without the profile's models"
    ),
    "cpu_first_sound_s": Time(
        1.35, "s", "measured", "maya bench turns: one call on 2 cores, embedded profile"
    ),
    "cpu_calls_per_core": Time(
        1.5, "calls", "measured", "maya bench crowd: the wait half as long again as alone, embedded profile"
    ),
    "voice_tick_cpu_s": Time(
        0.29, "s", "measured", "maya bench csm: one call, one thread, for 80 ms of sound"
    ),
    "voice_engine_s": Time(0.0005, "s", "measured", "maya bench csm: 32 slots without the kernels, per tick"),
    "voice_bytes": Time(9.107e9, "bytes/tick", "computed", "shapes of CSM-1B in bf16"),
    "voice_flops": Time(9.33e9, "operations/tick", "computed", "shapes of CSM-1B, per call"),
    "llm_bytes": Time(6.4e9, "bytes/step", "computed", "Llama 3.2 3B in bf16"),
    "voice_memory_bytes": Time(
        4.8e9, "bytes", "computed", "one replica of the voice without its slots, docs/voice.md"
    ),
    "voice_bytes_per_slot": Time(81e6, "bytes", "computed", "2,048 rows of CSM-1B, and a stream of Mimi"),
    "words_bytes": Time(5.9e9, "bytes", "computed", "Whisper large-v3-turbo and Llama 3.2 3B, docs/voice.md"),
    "words_bytes_per_call": Time(235e6, "bytes", "computed", "2,048 rows of 28 layers, 8 heads of 128, bf16"),
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
_FIRST_CLAUSE, _REPLY, _PROMPT = 14, 30, 60
_TOGETHER = 8
"""Transcriptions in one pass."""

_ALONE: Final = (
    _card("L4", 24, 300, 121),
    _card("A10G", 24, 600, 70),
    _card("H100", 80, 3_350, 989),
)
CARDS: Final = tuple(made for card in _ALONE for made in (card, voice_alone(card), words_alone(card)))


@dataclass(slots=True)
class _Call:
    asked_s: float = 0.0
    tokens: int = 0
    ticks_left: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    calls: int
    wait_p50_s: float
    wait_p95_s: float
    late: float
    """Part of the ticks that came after the call had nothing left to play."""
    busy: float
    """Part of the time that is spent on what cannot be left out: words so far are asked for when there is
    time."""

    @property
    def kept(self) -> bool:
        return self.wait_p95_s <= WAIT_LIMIT_S and self.late <= _LATE_TICKS


class _Simulation:
    """Each engine is asked in its turn, and says how long the pass takes that it makes now; 0: it has none to
    make. What a pass brings is there at its end, before which nobody else is asked."""

    def __init__(self, card: Card, calls: int, seed: int) -> None:
        self.waits: list[float] = []
        self.ticks = self.late = 0
        self.busy_s = 0.0
        """Spent on what cannot be left out."""
        self._card = card
        self._chance = random.Random(seed)
        self._now = 0.0
        self._order = 0
        self._events: list[tuple[float, int, str, int]] = []
        self._people = [_Call() for _ in range(calls)]
        self._partial: int | None = None
        """Whose words so far are asked for."""
        self._finals: deque[int] = deque()
        self._prefills: deque[int] = deque()
        self._replying: set[int] = set()
        replicas = -(-calls // _REPLICA) if card.voice else 0
        self._voices = [Scheduler(lead_s=_LEAD_S) for _ in range(replicas)]
        self._engines: deque[Callable[[], float]] = deque(
            partial(self._speak, voice) for voice in self._voices
        )
        if card.words:
            self._engines += [self._hear, self._think]
        for who in range(calls):
            self._at(self._chance.uniform(0, _SPEAKS_S + _PAUSES_S + _ANSWER_S), "speaks", who)

    def run(self, seconds: float) -> None:
        while self._now < seconds:
            self._arrive()
            took_s = self._pass()
            if took_s:
                self.busy_s += took_s
                self._now += took_s
                continue
            due = [voice.next_deadline() for voice in self._voices]
            nexts = [self._events[0][0] if self._events else seconds, *(at for at in due if at is not None)]
            self._now = max(self._now + 1e-6, min(nexts))

    def _pass(self) -> float:
        for _ in range(len(self._engines)):
            self._engines.rotate(-1)
            if took_s := self._engines[-1]():
                return took_s
        return 0.0

    def _at(self, when_s: float, what: str, who: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (when_s, self._order, what, who))

    def _arrive(self) -> None:
        while self._events and self._events[0][0] <= self._now:
            when_s, _, what, who = heapq.heappop(self._events)
            if what == "speaks":
                lasts_s = self._chance.lognormvariate(math.log(_SPEAKS_S), 0.5)
                for step in range(1, int(lasts_s / _PARTIAL_S)):
                    self._at(when_s + step * _PARTIAL_S, "partial", who)
                self._at(when_s + lasts_s, "ended", who)
            elif what == "partial":
                if self._partial is None and not self._finals:
                    self._partial = who
            else:
                if self._partial == who:
                    self._partial = None
                self._people[who].asked_s = when_s
                if self._card.words:
                    self._finals.append(who)
                else:
                    self._clause(who, when_s)

    def _speak(self, voice: Scheduler) -> float:
        planned = voice.plan(self._now, tick_s=self._card.tick_s)
        if not isinstance(planned, Tick):
            return 0.0
        took_s = self._card.tick_s + self._card.tick_each_s * bucket(len(planned.slots))
        done_s = self._now + took_s
        counts = done_s > _WARM_S
        for who in planned.slots:
            one = self._people[who]
            if one.asked_s:
                self._heard(who, done_s)
            else:
                self.ticks += counts
            self.late += voice.delivered(who, done_s) and counts
            one.ticks_left -= 1
            if not one.ticks_left:
                self._pause(who, done_s + voice.lead(who, done_s))
                voice.rest(who)
        return took_s

    def _heard(self, who: int, first_s: float) -> None:
        """The first sound of an answer is there."""
        asked_s, self._people[who].asked_s = self._people[who].asked_s, 0.0
        if asked_s > _WARM_S:
            self.waits.append(first_s - asked_s)

    def _pause(self, who: int, since_s: float) -> None:
        self._at(since_s + self._chance.expovariate(1 / _PAUSES_S), "speaks", who)

    def _clause(self, who: int, now_s: float) -> None:
        """The first clause is there to be spoken."""
        ticks = max(2, round(self._chance.gauss(_ANSWER_S, 1.0) / TICK_S))
        if self._card.voice:
            self._people[who].ticks_left = ticks
            self._voices[who // _REPLICA].speak(who, now_s)
        else:
            self._heard(who, now_s)
            self._pause(who, now_s + ticks * TICK_S)

    def _hear(self) -> float:
        some = [self._finals.popleft() for _ in range(min(_TOGETHER, len(self._finals)))]
        self._prefills.extend(some)
        if not some and self._partial is not None:
            some, self._partial = [self._partial], None
            self.busy_s -= self._card.stt_s
        return self._card.stt_s + self._card.stt_each_s * (len(some) - 1) if some else 0.0

    def _think(self) -> float:
        card = self._card
        if self._prefills:
            who = self._prefills.popleft()
            self._people[who].tokens = 0
            self._replying.add(who)
            return card.prefill_s
        if not self._replying:
            return 0.0
        took_s = card.step_s + card.step_each_s * len(self._replying)
        for who in sorted(self._replying):
            one = self._people[who]
            one.tokens += 1
            if one.tokens == _FIRST_CLAUSE:
                self._clause(who, self._now + took_s)
            if one.tokens >= _REPLY:
                self._replying.discard(who)
        return took_s


def simulate(card: Card, calls: int, *, seed: int = 1, seconds: float = _SIMULATED_S) -> Outcome:
    """`calls` conversations on one card. The same for the same seed."""
    found = _Simulation(card, calls, seed)
    found.run(seconds)
    waits = sorted(found.waits)
    return Outcome(
        calls=calls,
        wait_p50_s=waits[len(waits) // 2] if waits else math.inf,
        wait_p95_s=waits[int(len(waits) * 0.95)] if waits else math.inf,
        late=found.late / max(1, found.ticks),
        busy=min(1.0, found.busy_s / seconds),
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


def run(
    *,
    seconds: float = _SIMULATED_S,
    cards: Sequence[Card] = CARDS,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Half a minute of processor time; nothing of it depends on what else the machine does."""
    figures: dict[str, object] = {}
    details: dict[str, object] = {
        "times": {
            name: {"value": time.value, "unit": time.unit, "origin": time.origin, "source": time.source}
            for name, time in TIMES.items()
        }
    }
    for card in cards:
        found = most_calls(card, seconds=seconds)
        progress(f"{card.name}: {found.calls} calls of {card.slots} for which there is memory")
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
            f"simulated from computed times, {seconds:.0f} s of conversation for each number tried: nothing "
            "of Maya was run on a GPU yet",
            f"more than {_REPLICA} calls on one card are several replicas of the voice, which only Ray makes",
            "plans take half of what the simulation allows",
        ],
        details=details,
    )
