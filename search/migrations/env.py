"""Runs the revisions on the connection that search.ledger hands over; there is no alembic.ini.

The version table is our own: Optuna keeps its revision in alembic_version and refuses to start on a foreign one.
"""

from alembic import context

VERSION_TABLE = "caddie_alembic_version"

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
