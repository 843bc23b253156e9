"""Migrations, run in process. Alembic is loaded only when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from moderation.errors import StoreError
from moderation.store.connections import WRITE, make_engine, mapped_errors, parse_url

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).resolve().parent / "migrations"
# Any fixed number: whoever migrates this database holds the advisory lock of this name.
MIGRATION_LOCK = 0x6D6F6465


def migrate(url: str) -> None:
    """Brings the tables to this version; makes the SQLite file and its folder when missing.

    All or nothing, and one process at a time: a second one waits, then finds nothing to do.
    Raises StoreError when the database does not answer, or has been migrated by a newer
    version; ConfigError for an unusable URL.
    """
    from alembic import command
    from alembic.util import CommandError

    parsed = parse_url(url)
    engine = make_engine(parsed, pool_size=1)
    try:
        with _alone(parsed), mapped_errors():
            if engine.dialect.name == "sqlite":
                with engine.connect() as connection:
                    # Not inside a transaction; it stays with the file.
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()
            with engine.execution_options(**{WRITE: True}).begin() as connection:
                if engine.dialect.name == "postgresql":
                    lock = text("SELECT pg_advisory_xact_lock(:key)")
                    connection.execute(lock, {"key": MIGRATION_LOCK})
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError("The database was migrated by a newer version of this program.") from error
    finally:
        engine.dispose()


def head_revision() -> str:
    """The revision that this version of the program works with."""
    return _head()


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables; None before the first migration."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


@cache
def _head() -> str:
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package lacks its migrations")
    return head


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """For SQLite a lock file: changing the journal mode does not wait for other processes."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    import fcntl

    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"The database file {path} cannot be written.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
