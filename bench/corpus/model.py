"""What the corpus holds. Sound is (n,) int16 at 8 kHz; places are samples of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.corpus.templates import PartName
from pipeline.line import LINE_RATE_HZ, Pcm

OverlapKind = Literal["interruption", "stop_word", "backchannel", "cough", "side_talk", "line_noise"]
FLOOR_TAKERS: tuple[OverlapKind, ...] = ("interruption", "stop_word")
"""What an agent should stop for; it should talk on through the other kinds."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What happens to a caller's sound on its way. `noise` is a kind of `bench.corpus.line`, at
    `level_dbfs` RMS (full scale: RMS 32,768); `loss` the probability that an AudioFrame is lost; `echo_db`
    the level of the agent's echo against the agent, None for none; `delay_ms` and `jitter_ms` are one
    way's."""

    noise: str | None
    level_dbfs: float
    loss: float
    echo_db: float | None
    echo_delay_ms: float
    delay_ms: float
    jitter_ms: float
    seed: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a caller: `pcm` is the speech in the telephone band at -20 dBFS (RMS while voiced), without
    noise, from its first voiced sample to its last. It is digital silence outside `spans`, which are
    what is said between the pauses; `texts` are each span's words. `question` is what the agent had said."""

    id: str
    part: PartName
    kind: str
    voice: str
    text: str
    question: str
    pcm: Pcm = field(repr=False, compare=False)
    spans: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]
    condition: Condition

    @property
    def pauses_s(self) -> tuple[float, ...]:
        """How long the silence after each span but the last lasts."""
        return tuple(
            (following[0] - span[1]) / LINE_RATE_HZ
            for span, following in zip(self.spans, self.spans[1:], strict=False)
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a caller's line carries while the agent speaks. `pcm` is at its level, which is `level_db` over
    a caller's usual -20 dBFS; `text` are the words, empty for sounds without; `voice` is who makes it."""

    id: str
    part: PartName
    kind: OverlapKind
    voice: str
    text: str
    pcm: Pcm = field(repr=False, compare=False)
    level_db: float
    condition: Condition

    @property
    def takes_floor(self) -> bool:
        return self.kind in FLOOR_TAKERS


@dataclass(frozen=True, slots=True)
class Corpus:
    turns: tuple[Turn, ...]
    overlaps: tuple[Overlap, ...]
    digest: str = ""

    def of(self, part: PartName) -> "Corpus":
        return Corpus(
            tuple(turn for turn in self.turns if turn.part == part),
            tuple(overlap for overlap in self.overlaps if overlap.part == part),
            self.digest,
        )

    def kinds(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        items: tuple[Turn | Overlap, ...] = (*self.turns, *self.overlaps)
        for item in items:
            counts[item.kind] = counts.get(item.kind, 0) + 1
        return counts
