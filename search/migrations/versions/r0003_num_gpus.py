"""Adds the GPUs that a run holds, so that one that is under way, stopped or lost is accounted for by its share."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; runs from before it count their processes while they are open, as they did."""
    op.add_column("caddie_runs", sa.Column("num_gpus", sa.Double, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("caddie_runs", "num_gpus")
