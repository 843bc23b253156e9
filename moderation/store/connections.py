"""URLs and engines of the two databases, and their errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from moderation.errors import ConfigError, InputError, StoreError

BUSY_TIMEOUT_S = 15.0
POOL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_S = 30
"""A process that was paused in the middle of a transaction keeps its locks for so long, and loses
them with its connection: whoever waits for them goes on."""
WRITE = "moderation_write"


def parse_url(url: str) -> URL:
    """`sqlite:///file` or `postgresql://…` (also `postgres://`), with the driver put in."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigError("database_url is not a URL such as sqlite:///var/x.db") from error
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"database_url: {backend} is not supported, sqlite and postgresql are")
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("database_url: SQLite needs a file, several processes share it")
    return parsed


def make_engine(url: URL, *, pool_size: int) -> Engine:
    """Raises ConfigError when the driver is not installed."""
    pool: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        # Values are callers' texts, callback URLs with their secrets among them: never logged.
        "hide_parameters": True,
    }
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,  # the server may have restarted since
            pool_use_lifo=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
            **pool,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            "PostgreSQL needs a driver: pip install 'moderation[postgres]'"
        ) from error
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_postgres(raw: Any, _record: object) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
    raw.commit()  # else it would be undone with the first transaction


def _prepare_sqlite(raw: Any, _record: object) -> None:
    raw.isolation_level = None  # the driver begins nothing by itself: see _begin_sqlite
    # Write-ahead logging is a property of the file: `migrate` sets it.
    raw.execute("PRAGMA synchronous=NORMAL")
    raw.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def mapped_errors() -> Iterator[None]:
    """SQLAlchemy's errors as StoreError, in a sentence that names no host and no statement.

    Values that a column cannot hold (NUL or half a surrogate pair in a text, a number out of
    range) are the caller's: InputError. The cause stays attached, for the log.
    """
    try:
        yield
    except PoolTimeout as error:
        raise StoreError("The database is busy: no connection came free.") from error
    except (DataError, UnicodeEncodeError, OverflowError) as error:
        raise InputError("A value cannot be stored.", code="value_invalid") from error
    except DBAPIError as error:
        raise StoreError(_sentence(error)) from error
    except SQLAlchemyError as error:
        raise StoreError("The database could not run a statement.") from error


def _sentence(error: DBAPIError) -> str:
    cause = str(error.orig).lower()
    if "no such table" in cause or type(error.orig).__name__ == "UndefinedTable":
        return "The database has no tables yet, or old ones: its migrations have not run."
    if "locked" in cause:
        return f"The database is busy: a write waited {BUSY_TIMEOUT_S:g} s."
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return "The database does not answer."
    if isinstance(error, ProgrammingError):
        return "The database does not know a statement of this version."
    return "The database refused a change."
