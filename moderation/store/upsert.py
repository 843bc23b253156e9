"""INSERT … ON CONFLICT, which both databases know and SQLAlchemy spells twice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, literal_column
from sqlalchemy.dialects import postgresql, sqlite


def insert_new(
    connection: Connection, table: Table, row: dict[str, Any], key: list[str] | None = None
) -> bool:
    """Inserts unless a row with that key is there; waits for a rival's transaction to end.

    key: columns of the unique constraint that may be hit; None: any of the table's. True when
    this call inserted it.
    """
    statement = (
        _insert(connection, table)
        .on_conflict_do_nothing(index_elements=key)
        .returning(literal_column("1"))  # a row only when one was inserted
    )
    return connection.execute(statement, row).first() is not None


def insert_missing(
    connection: Connection, table: Table, rows: list[dict[str, Any]], key: list[str]
) -> list[str]:
    """Inserts the rows whose key is not there yet; their ids."""
    if not rows:
        return []
    statement = (
        _insert(connection, table).on_conflict_do_nothing(index_elements=key).returning(table.c.id)
    )
    return list(connection.execute(statement, rows).scalars())


def upsert(
    connection: Connection,
    table: Table,
    row: dict[str, Any],
    key: list[str],
    changes: dict[str, Any],
) -> str:
    """Inserts, or applies `changes` to the row with that key. Returns that row's `id`."""
    statement = (
        _insert(connection, table)
        .on_conflict_do_update(index_elements=key, set_=changes)
        .returning(table.c.id)
    )
    return str(connection.execute(statement, row).scalar_one())


def _insert(connection: Connection, table: Table) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
