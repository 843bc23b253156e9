"""Alembic's scripts. `moderation.store.schema.migrate` runs them."""
