"""Schema of the ledger's own tables, as Alembic revisions."""
