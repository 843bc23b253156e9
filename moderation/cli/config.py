"""`moderation config`: the settings in force, where each came from, and their reference."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from moderation.cli.out import Config, Json, answer, table


def config(
    settings_file: Config = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show secrets.")] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="As a settings file; unset ones as comments.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference of all settings, for the documents.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the settings in force and where each came from."""
    from moderation.cli.shown import as_text, as_toml, effective, reference

    if markdown:
        sys.stdout.write(reference())
        return
    found = effective(settings_file, reveal=reveal)
    if json:
        answer({s.name: {"value": s.value, "from": s.origin} for s in found})
    elif toml:
        sys.stdout.write(as_toml(found))
    else:
        table(
            ("setting", "value", "from"),
            [(s.variable, as_text(s.value), s.origin) for s in found],
        )
