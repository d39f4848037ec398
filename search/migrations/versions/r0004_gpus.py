"""Adds which GPUs of its host a run holds, so that runs that share one divide its time by how many they are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; runs from before it, of which it is not known, count the share that they were given."""
    op.add_column("caddie_runs", sa.Column("gpus", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("caddie_runs", "gpus")
