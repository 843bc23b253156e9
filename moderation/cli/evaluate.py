"""`moderation eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moderation.cli.out import Config, Json


def evaluate(
    what: Annotated[Path, typer.Argument(metavar="DIR|MANIFEST", show_default=False)],
    policy: Annotated[str | None, typer.Option(help="Whose thresholds are judged.")] = None,
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Measure precision, recall, AUC and average precision on labelled pictures."""
    return 0
