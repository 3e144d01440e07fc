"""The tables as they are now; `migrations` brings a database there.

Every row that a call writes is written whole and under the number of the change, `seq`, which only grows: of
two changes of one row the later one counts, however often and in whatever order they arrive, and whatever
the clock says. `leg` counts the front-ends that a call has been on: its turns and its clock start anew with
each.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

LEG_BITS: Final = 40
"""`seq` is the leg, shifted by so many bits, plus the change within it."""

metadata = MetaData()
_number = BigInteger().with_variant(Integer(), "sqlite")


def _call() -> Column[str]:
    return Column("call_id", Text, ForeignKey("calls.call_id", ondelete="CASCADE"), primary_key=True)


def _leg() -> Column[int]:
    return Column("leg", Integer, primary_key=True, autoincrement=False)


calls = Table(
    "calls",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("call_id", Text, nullable=False, unique=True),
    Column("seq", BigInteger, nullable=False),
    Column("leg", Integer, nullable=False),
    Column("way", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("caller_tag", Text, nullable=False),
    Column("called", Text, nullable=False),
    Column("called_tag", Text, nullable=False),
    Column("persona", Text, nullable=False),
    Column("front_end", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("duration_s", Float, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("faults", Integer, nullable=False),
    Column("counters", Text, nullable=False),
    Index("calls_by_caller", "caller_tag"),
    Index("calls_by_called", "called_tag"),
    Index("calls_by_update", "updated_ms"),
    Index("calls_by_start", "started_ms"),
    Index("calls_by_outcome", "outcome", "number"),
    sqlite_autoincrement=True,
)
turns = Table(
    "turns",
    metadata,
    _call(),
    _leg(),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("heard", Text, nullable=False),
    Column("clauses", Text, nullable=False),
    Column("interrupted", Boolean, nullable=False),
    Column("caller_at_s", Float),
    Column("began_at_s", Float),
    Column("done_at_s", Float),
    Column("times", Text, nullable=False),
    Column("folded", Text, nullable=False),
)
tool_runs = Table(
    "tool_runs",
    metadata,
    _call(),
    _leg(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("turn", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("name", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("result", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
messages = Table(
    "messages",
    metadata,
    _call(),
    _leg(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("turn", Integer, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("number_tag", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Index("messages_by_number", "number_tag"),
)
notes = Table(
    "notes",
    metadata,
    _call(),
    _leg(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_s", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
)
latencies = Table(
    "latencies",
    metadata,
    _call(),
    _leg(),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("gap_ms", Float, nullable=False),
    Column("endpoint_wait_ms", Float, nullable=False),
    Column("transcription_ms", Float, nullable=False),
    Column("first_token_ms", Float, nullable=False),
    Column("first_clause_ms", Float, nullable=False),
    Column("first_audio_ms", Float, nullable=False),
    Column("playout_ms", Float, nullable=False),
    Index("latencies_by_time", "at_ms"),
)
recordings = Table(
    "recordings",
    metadata,
    _call(),
    _leg(),
    Column("seq", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("encrypted", Boolean, nullable=False),
)
front_ends = Table(
    "front_ends",
    metadata,
    Column("front_end", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("beats", BigInteger, nullable=False),
    Column("beat_s", Float, nullable=False),
)
"""`beat_s` is seconds since 1970 by the database's own clock."""
nonces = Table(
    "nonces",
    metadata,
    Column("nonce", Text, primary_key=True),
    Column("until_s", Float, nullable=False),
    Index("nonces_by_end", "until_s"),
)
forgotten = Table(
    "forgotten",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("at_s", Float, nullable=False),
)
"""Calls that were deleted while they were on, or while something of them still waited in a journal: nothing
more is written of them."""
leftovers = Table(
    "leftovers",
    metadata,
    Column("host", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("below", Boolean, nullable=False),
    Column("at_s", Float, nullable=False),
)
"""Recordings of callers who were forgotten, as long as they are not known to be gone: `folder` on `host`, or
(`below`) all calls below it. `tag` is the caller's, as in `calls`."""
CALL_TABLES: Final = (calls, turns, tool_runs, messages, notes, latencies, recordings)
"""What calls write, in the order in which it can be inserted."""
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "calls": ("call_id",),
    "turns": ("call_id", "leg", "turn"),
    "tool_runs": ("call_id", "leg", "seq"),
    "messages": ("call_id", "leg", "seq"),
    "notes": ("call_id", "leg", "seq"),
    "latencies": ("call_id", "leg", "turn"),
    "recordings": ("call_id", "leg"),
}
