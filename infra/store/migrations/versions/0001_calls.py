"""The first tables."""

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _of_call(*columns: "sa.Column[Any]", key: str = "seq") -> "list[SchemaItem]":
    """The columns of what belongs to a call, under `key` within one of its legs."""
    keys = ["call_id", "leg", *([key] if key else [])]
    return [
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("leg", sa.Integer, nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["call_id"], ["calls.call_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(*keys),
    ]


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "calls",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("call_id", sa.Text, nullable=False, unique=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("leg", sa.Integer, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("caller_tag", sa.Text, nullable=False),
        sa.Column("called", sa.Text, nullable=False),
        sa.Column("called_tag", sa.Text, nullable=False),
        sa.Column("persona", sa.Text, nullable=False),
        sa.Column("front_end", sa.Text, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("faults", sa.Integer, nullable=False),
        sa.Column("counters", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("calls_by_caller", "calls", ["caller_tag"])
    op.create_index("calls_by_update", "calls", ["updated_ms"])
    op.create_table(
        "turns",
        *_of_call(
            sa.Column("turn", sa.Integer, nullable=False),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("state", sa.Text, nullable=False),
            sa.Column("caller", sa.Text, nullable=False),
            sa.Column("text", sa.Text, nullable=False),
            sa.Column("heard", sa.Text, nullable=False),
            sa.Column("clauses", sa.Text, nullable=False),
            sa.Column("interrupted", sa.Boolean, nullable=False),
            sa.Column("caller_at_s", sa.Float),
            sa.Column("began_at_s", sa.Float),
            sa.Column("done_at_s", sa.Float),
            sa.Column("times", sa.Text, nullable=False),
            sa.Column("folded", sa.Text, nullable=False),
            key="turn",
        ),
    )
    op.create_table(
        "tool_runs",
        *_of_call(
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("turn", sa.Integer, nullable=False),
            sa.Column("at_s", sa.Float, nullable=False),
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("arguments", sa.Text, nullable=False),
            sa.Column("outcome", sa.Text, nullable=False),
            sa.Column("seconds", sa.Float, nullable=False),
            sa.Column("result", sa.Text, nullable=False),
            sa.Column("detail", sa.Text, nullable=False),
        ),
    )
    op.create_table(
        "messages",
        *_of_call(
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("turn", sa.Integer, nullable=False),
            sa.Column("at_s", sa.Float, nullable=False),
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("number", sa.Text, nullable=False),
            sa.Column("number_tag", sa.Text, nullable=False),
            sa.Column("text", sa.Text, nullable=False),
            sa.Column("folded", sa.Text, nullable=False),
        ),
    )
    op.create_index("messages_by_number", "messages", ["number_tag"])
    op.create_table(
        "notes",
        *_of_call(
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("at_s", sa.Float, nullable=False),
            sa.Column("kind", sa.Text, nullable=False),
            sa.Column("text", sa.Text, nullable=False),
        ),
    )
    op.create_table(
        "latencies",
        *_of_call(
            sa.Column("turn", sa.Integer, nullable=False),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("at_ms", sa.BigInteger, nullable=False),
            sa.Column("gap_ms", sa.Float, nullable=False),
            sa.Column("endpoint_wait_ms", sa.Float, nullable=False),
            sa.Column("transcription_ms", sa.Float, nullable=False),
            sa.Column("first_token_ms", sa.Float, nullable=False),
            sa.Column("first_clause_ms", sa.Float, nullable=False),
            sa.Column("first_audio_ms", sa.Float, nullable=False),
            sa.Column("playout_ms", sa.Float, nullable=False),
            key="turn",
        ),
    )
    op.create_index("latencies_by_time", "latencies", ["at_ms"])
    op.create_table(
        "recordings",
        *_of_call(
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("host", sa.Text, nullable=False),
            sa.Column("folder", sa.Text, nullable=False),
            sa.Column("encrypted", sa.Boolean, nullable=False),
            key="",
        ),
    )
    op.create_table(
        "front_ends",
        sa.Column("front_end", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
        sa.Column("beat_s", sa.Float, nullable=False),
    )
    op.create_table(
        "nonces",
        sa.Column("nonce", sa.Text, primary_key=True),
        sa.Column("until_s", sa.Float, nullable=False),
    )
    op.create_index("nonces_by_end", "nonces", ["until_s"])
    op.create_table(
        "forgotten",
        sa.Column("call_id", sa.Text, primary_key=True),
        sa.Column("at_s", sa.Float, nullable=False),
    )
