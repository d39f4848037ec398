"""Alembic migrations of the caddie_runs table."""
