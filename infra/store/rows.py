"""What the read side hands out. Times `*_at` are seconds since 1970 by the clock of the front-end; times
`*_at_s` are seconds on the call's own clock, which starts anew with each leg."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

CallState = Literal["live", "ended", "lost"]
"""`lost`: it did not end, and its front-end has not been heard of for a while."""
TurnState = Literal["asked", "replying", "done"]
"""`asked`: the caller's words are known, `replying`: the agent is saying it, `done`: committed."""


@dataclass(frozen=True, slots=True)
class CallQuery:
    """Which calls. All that is given must hold; `caller`, `called` and `party`, which is either of them, in
    any form of the number. Newest first; `before` is the `number` of the last one that was seen."""

    caller: str = ""
    called: str = ""
    party: str = ""
    persona: str = ""
    way: str = ""
    since: float | None = None
    until: float | None = None
    """Seconds since 1970."""
    state: CallState | None = None
    outcome: str = ""
    """"completed" or "failed": of calls that have ended."""
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class CallRow:
    number: int
    """Grows from call to call as the store came to know them; for paging."""
    call_id: str
    way: str
    caller: str
    called: str
    persona: str
    front_end: str
    leg: int
    """How many front-ends it was on before this one."""
    started_at: float
    updated_at: float
    ended_at: float | None
    duration_s: float
    state: CallState
    outcome: str
    """"completed" or "failed"; "" until it ends."""
    reason: str
    turns: int
    faults: int
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnRow:
    leg: int
    turn: int
    """0 is the greeting."""
    state: TurnState
    caller: str
    text: str
    """What the agent said, or has begun to say."""
    heard: str
    """The part of it that the caller heard; while it is being said a careful estimate."""
    interrupted: bool
    clauses: tuple[str, ...] = ()
    caller_at_s: float | None = None
    began_at_s: float | None = None
    done_at_s: float | None = None
    times: Mapping[str, float | None] = field(default_factory=dict)
    """`pipeline.events.TurnTimes`."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """`TurnTimes.stages_ms`."""


@dataclass(frozen=True, slots=True)
class ToolRow:
    leg: int
    turn: int
    at_s: float
    name: str
    arguments: Mapping[str, object]
    outcome: str
    seconds: float
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class MessageRow:
    call_id: str
    leg: int
    turn: int
    at_s: float
    name: str
    number: str
    text: str


@dataclass(frozen=True, slots=True)
class NoteRow:
    """`kind`: "fault", "keys", "paused", "resumed", "transferred"."""

    leg: int
    at_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class RecordingRow:
    leg: int
    host: str
    folder: str
    """Absolute, on `host`."""
    encrypted: bool


@dataclass(frozen=True, slots=True)
class StoredCall:
    """All that is known of one call, in order."""

    call: CallRow
    turns: tuple[TurnRow, ...] = ()
    tools: tuple[ToolRow, ...] = ()
    messages: tuple[MessageRow, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    recordings: tuple[RecordingRow, ...] = ()


@dataclass(frozen=True, slots=True)
class LatencyRow:
    call_id: str
    leg: int
    turn: int
    at: float
    gap_ms: float
    """From the caller's last audible sample to the agent's first: the sum of `stages`, whose names end
    with `_ms`."""
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SearchHit:
    call: CallRow
    leg: int
    turn: int
    who: Literal["caller", "agent", "message"]
    text: str
    """The words in which it was found, whole."""


@dataclass(frozen=True, slots=True)
class FoundCall:
    call: CallRow
    hits: tuple[SearchHit, ...]
    """Latest first; a few of them."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """What fell into one piece of time: calls that began, answers that were heard."""

    at: float
    """When it begins, in seconds since 1970."""
    calls: int = 0
    completed: int = 0
    failed: int = 0
    faults: int = 0
    at_once: int = 0
    """The most calls that were on at the same moment."""
    answers: int = 0
    wait_p50_ms: float | None = None
    wait_p95_ms: float | None = None
    """To a millisecond, from 10 s on to 100 ms, interpolated as numpy.percentile does; None: no answers."""


@dataclass(frozen=True, slots=True)
class Figures:
    buckets: tuple[BucketRow, ...]
    last: tuple[tuple[float, float], ...]
    """The last answers: (when, ms), in order."""
    oldest: float | None
    """When the first call began that is stored at all."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A call that did not end, as another front-end needs it to go on. `claim` it first."""

    call_id: str
    leg: int
    persona: str
    way: str
    caller: str
    called: str
    front_end: str
    """Whose it is, or was."""
    beat_age_s: float | None
    """How long ago that front-end's last beat was, by the database's clock; None: it never had one."""
    started_at: float
    turns: tuple[TurnRow, ...]
    """Committed ones, of all legs, in order; the words of `caller` may be without an answer (`asked`)."""
    under_way: TurnRow | None
    """The reply that was being said: `clauses`, and of it `heard`."""
    tools: tuple[ToolRow, ...] = ()
    reason: str = ""
    """"" where no end was written; else how the line was lost: "connection lost", "no media for 10 s"."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A recording of a caller who was forgotten, or (`below`) all of theirs that lie below `folder`; it may
    not be gone yet."""

    host: str
    folder: str
    tag: str
    """The caller's."""
    below: bool = False


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` deleted. `on_now`: calls that are still on; what they write from now on is dropped.
    `left`: recordings that are to be deleted, those of earlier times included."""

    number: str
    calls: tuple[str, ...] = ()
    turns: int = 0
    tool_runs: int = 0
    messages: int = 0
    recordings: tuple[RecordingRow, ...] = ()
    on_now: tuple[str, ...] = ()
    left: tuple[Leftover, ...] = ()
