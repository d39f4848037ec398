"""Adds the hash of a run's log, so that an exported log is provably the one that the run wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; runs that ended before it have no hash."""
    op.add_column("caddie_runs", sa.Column("log_sha256", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("caddie_runs", "log_sha256")
