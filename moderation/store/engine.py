"""Connections: one `Database` per process, SQLite or PostgreSQL by URL.

Writes are short transactions. On SQLite they start with BEGIN IMMEDIATE (a deferred one that
reads first fails at once when another writer is in between), and threads of one process queue
for them at a lock: SQLite itself only polls, with naps of up to 100 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from moderation.errors import StoreError
from moderation.store.connections import (
    BUSY_TIMEOUT_S,
    WRITE,
    make_engine,
    mapped_errors,
    parse_url,
)
from moderation.store.schema import current_revision, head_revision, migrate

__all__ = ["Database", "migrate", "open_database", "schema_is_current"]


class Database:
    """A pool of connections. Thread-safe; not to be carried over a fork.

    `dialect` is "sqlite" or "postgresql".
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITE: True})
        self.dialect: str = engine.dialect.name
        self._turn = threading.Lock() if self.dialect == "sqlite" else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back on an error.

        Raises StoreError when the database does not answer.
        """
        with mapped_errors(), self._write_turn(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to read by: one consistent view on SQLite. Raises StoreError."""
        with mapped_errors(), self._engine.connect() as connection:
            yield connection

    def ping(self) -> None:
        """Raises StoreError when the database does not answer."""
        with self.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Closes idle connections; those in use close when they are given back."""
        self._engine.dispose()

    @contextmanager
    def _write_turn(self) -> Iterator[None]:
        turn = self._turn
        if turn is None:
            yield
            return
        if not turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise StoreError(f"The database is busy: a write waited {BUSY_TIMEOUT_S:g} s.")
        try:
            yield
        finally:
            turn.release()


def open_database(url: str, *, pool_size: int = 20) -> Database:
    """Connects lazily; `migrate(url)` makes the tables.

    `pool_size`: connections at once; a thread that finds none free waits for 10 s. Raises
    ConfigError for a URL that cannot be used.
    """
    return Database(make_engine(parse_url(url), pool_size=pool_size))


def schema_is_current(db: Database) -> bool:
    """Whether the tables are those of this version. Raises StoreError."""
    with db.connect() as connection:
        return current_revision(connection) == head_revision()
