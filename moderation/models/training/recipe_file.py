"""Recipes as TOML files: what every kind of them shares."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from moderation.errors import ConfigError


class Part(BaseModel):
    """A recipe or a table in one: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Part)


def read(path: Path, kind: type[R]) -> R:
    """Raises ConfigError naming the file and the first fault, in one line."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error
