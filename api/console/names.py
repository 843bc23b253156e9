"""Names of those who act: accounts by name, keys by what they are for."""

from __future__ import annotations

from collections.abc import Mapping

from moderation.store import accounts, keys
from moderation.store.engine import Database


def names_of(db: Database, tenant: str) -> Mapping[str, str]:
    """By id. Raises StoreError."""
    found = {row.id: f"API: {row.name}" for row in keys.list_keys(db, tenant)}
    return found | {row.id: row.name for row in accounts.listed(db, tenant)}
