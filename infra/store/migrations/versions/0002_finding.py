"""Indices for what is asked of calls, and a place for recordings that are still to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("calls_by_called", "calls", ["called_tag"])
    op.create_index("calls_by_start", "calls", ["started_ms"])
    op.create_index("calls_by_outcome", "calls", ["outcome", "number"])
    op.create_table(
        "leftovers",
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("folder", sa.Text, primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("below", sa.Boolean, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
    )
