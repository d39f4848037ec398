"""Creates caddie_runs (one row an execution) and caddie_drivers (who drives a study)."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "caddie_runs",
        sa.Column("run_id", sa.String(512), primary_key=True),
        sa.Column("study", sa.String(255), nullable=False, index=True),
        sa.Column("rung", sa.String(255), nullable=False),
        sa.Column("trial_number", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("recipe_hash", sa.String(64), nullable=False),
        sa.Column("code_sha256", sa.String(64), nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("world_size", sa.Integer, nullable=False),
        # Epoch seconds need all 15 digits: a plain FLOAT is 4 bytes on some servers.
        sa.Column("queued_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("lease_expires_at", sa.Double, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
    )
    op.create_table(
        "caddie_drivers",
        sa.Column("study", sa.String(255), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("lease_expires_at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("caddie_drivers")
    op.drop_table("caddie_runs")
