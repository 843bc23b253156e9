"""The settings as people read them: in force with their origin, as TOML, as a reference."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from moderation.settings import CONFIG_FILE_VARIABLE, Settings, load_settings

MASK = "********"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in force. `origin`: default, file or environment."""

    name: str
    value: Any
    origin: str

    @property
    def variable(self) -> str:
        return f"MODERATION_{self.name.upper()}"


def effective(settings_file: Path | None, *, reveal: bool = False) -> list[Setting]:
    """Every setting in the order of its declaration. Raises ConfigError."""
    settings = load_settings(settings_file)
    path = settings_file or os.environ.get(CONFIG_FILE_VARIABLE)
    in_file = tomllib.loads(Path(path).read_text("utf-8")) if path else {}
    found = []
    for name in Settings.model_fields:
        if os.environ.get(f"MODERATION_{name.upper()}"):
            origin = "environment"
        elif name in in_file:
            origin = "file"
        else:
            origin = "default"
        found.append(Setting(name, _plain(getattr(settings, name), reveal=reveal), origin))
    return found


def as_toml(found: list[Setting]) -> str:
    """A settings file with the values in force. What is not set is a comment, and what is
    masked: the mask would be a key that anybody can guess."""
    lines = []
    for setting in found:
        shown = "" if setting.value is None else f" {_toml(setting.value)}"
        left_out = setting.value is None or setting.origin == "default" or MASK in shown
        lines.append(f"{'# ' if left_out else ''}{setting.name} ={shown}")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """All settings as a Markdown document: variable, default, meaning."""
    rows = [
        f"| `MODERATION_{name.upper()}` | {_default(field)} | {_meaning(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([*_HEAD, *rows, ""])


_HEAD = (
    "# Settings",
    "",
    "By environment, or in a TOML file that `MODERATION_CONFIG` (or `--config`) names, with the",
    "names in lower case and without the prefix: `port = 8000`. The environment outranks the",
    "file, the file the defaults. `moderation config` shows what is in force and why.",
    "",
    "This page is made by `moderation config --markdown`.",
    "",
    "| Variable | Default | Meaning |",
    "|---|---|---|",
)


def _plain(value: Any, *, reveal: bool) -> Any:
    """JSON- and TOML-ready, secrets masked unless `reveal`."""
    if isinstance(value, SecretStr):
        return value.get_secret_value() if reveal else MASK
    if isinstance(value, tuple):
        return [_plain(part, reveal=reveal) for part in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and not reveal:
        return _without_password(value)
    return value


def _without_password(url: str) -> str:
    """A URL with the password masked, in its authority or its query; other text as it is.

    Rather too much than too little: a password may hold any character.
    """
    url = re.sub(r"^([\w+.-]+://[^:@/]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?<=[?&])(\w*password)=[^&]*", rf"\1={MASK}", url)


def as_text(value: Any) -> str:
    """A value in one cell; nothing for one that is not set."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, (int, float)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == () or value is PydanticUndefined:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    words = field.description or ""
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        words = "; ".join(filter(None, [" / ".join(choices), words]))
    return words.replace("|", "\\|") or "–"
