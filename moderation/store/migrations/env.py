"""Alembic's entry: always on the connection, and in the transaction, of `schema.migrate`."""

from alembic import context

from moderation.store.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run through moderation.store.engine.migrate")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
