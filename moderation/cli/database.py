"""The configured database, for commands that work in it by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from moderation.errors import ConfigError

if TYPE_CHECKING:
    from moderation.store.engine import Database


@contextmanager
def opened(settings_file: Path | None) -> Iterator[Database]:
    """The configured database with today's schema; made when there is none yet."""
    from moderation.settings import load_settings
    from moderation.store.engine import migrate, open_database, schema_is_current

    settings = load_settings(settings_file)
    if settings.database_url is None:
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot use the data folder {settings.home}: {error}") from error
    db = open_database(settings.database)
    try:
        if not schema_is_current(db):
            migrate(settings.database)
        yield db
    finally:
        db.close()
