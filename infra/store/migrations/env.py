"""Alembic runs this inside `infra.store.migrate`, which brings the connection and its transaction."""

from alembic import context

from infra.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
