"""Labelled pictures for an evaluation: a folder of folders, or a CSV manifest."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moderation.errors import ConfigError
from moderation.models.training import datasets
from moderation.policy import LABEL
from moderation.settings import Settings

SAFE = ("safe", "none", "negative")
ALIASES: Mapping[str, str] = {
    "porn": "porn.explicit",
    "nsfw": "porn.explicit",
    "gore": "violence.gore",
    "weapon": "violence.weapon",
    "gun": "violence.weapon",
    "knife": "violence.weapon",
    "fire": "violence.fire",
    "smoke_plume": "violence.fire",
    "fight": "violence.fight",
    "violence": "violence.fight",
    "smoking": "smoking.smoking",
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture with what it shows; no label: ordinary. `name` is as the source wrote it."""

    path: Path
    name: str
    labels: frozenset[str]

    @property
    def safe(self) -> bool:
        return not self.labels


def parse_labels(text: str, where: str) -> frozenset[str]:
    """`safe`, a label, a short name, or several joined by ; or +. Raises ConfigError."""
    found = set()
    for word in re.split(r"[;+]", text.strip()):
        name = ALIASES.get(word.strip().lower(), word.strip().lower())
        if name in SAFE:
            continue
        if not re.fullmatch(LABEL, name):
            known = ", ".join((*SAFE[:1], *ALIASES))
            raise ConfigError(f"{where}: unknown label {word!r}; use a label or one of {known}")
        found.add(name)
    return frozenset(found)


def read_truth(source: Path, settings: Settings) -> tuple[Labelled, ...]:
    """Pictures and labels of a folder with one folder per label, or of a CSV with the columns
    file and label (or file and group, as the training manifest). Files are relative to the
    CSV; where a group's folder is absent, its archive beside the CSV is unpacked once.

    Raises ConfigError: nothing there, an unknown label, a file that is missing.
    """
    if source.is_dir():
        found = _folder(source)
    elif source.is_file():
        found = _manifest(source, settings)
    else:
        raise ConfigError(f"no such folder or manifest: {source}")
    if not found:
        raise ConfigError(f"{source}: no labelled picture")
    return found


def _folder(root: Path) -> tuple[Labelled, ...]:
    return tuple(
        Labelled(path, path.relative_to(root).as_posix(), labels)
        for folder in sorted(root.iterdir())
        if folder.is_dir()
        for labels in [parse_labels(folder.name, str(folder))]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def _manifest(source: Path, settings: Settings) -> tuple[Labelled, ...]:
    try:
        with source.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read {source}: {error}") from error
    beside = settings.model_copy(update={"dataset_dir": source.parent})
    roots: dict[str, Path] = {}
    found = []
    for number, row in enumerate(rows, start=2):
        where = f"{source}:{number}"
        file, text = row.get("file"), row.get("group") or row.get("label")
        if not file or not text:
            raise ConfigError(f"{where}: needs the columns file and label")
        path = source.parent / file
        group = row.get("group")
        if group and not path.is_file():
            if group not in roots:
                roots[group] = datasets.open_group(beside, group)
            path = roots[group] / file
        if not path.is_file():
            raise ConfigError(f"{where}: no file {path}")
        found.append(Labelled(path, file, parse_labels(text, where)))
    return tuple(found)
