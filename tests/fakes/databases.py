"""SQLite databases that have their tables already: a copy is much quicker than Alembic."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from moderation.store.engine import migrate

SQLITE = "sqlite:///"


def migrated(url: str) -> str:
    """What `migrate` does; the URL. Only what is not there yet, and SQLite, is a copy."""
    path = Path(url.removeprefix(SQLITE))
    if not url.startswith(SQLITE) or path.exists():
        migrate(url)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template(), path)
    return url


@cache
def template() -> Path:
    """The file of a database with the tables in it, and nothing else. Not to be changed."""
    folder = tempfile.mkdtemp(prefix="migrated")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / "template.db"
    migrate(f"{SQLITE}{path}")
    log = path.with_name(f"{path.name}-wal")
    assert not log.exists(), "a copy of the file alone is not the database"
    return path
