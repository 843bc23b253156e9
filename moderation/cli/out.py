"""What all commands share: exit codes, options, and how they speak.

Answers go to stdout, everything else to stderr. Exit codes:

    0    done, nothing to object to
    1    done, and something is wrong: a verdict at or above --fail-on, a broken part, lines of a
         file that could not be used
    2    a wrong command line, setting, policy or weight file; one line on stderr says which
    3    `scan` and `eval`: some files could not be analysed
    130  interrupted (Ctrl-C)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

EXIT_OK: Final = 0
EXIT_WRONG: Final = 1
EXIT_USAGE: Final = 2
EXIT_INCOMPLETE: Final = 3
EXIT_INTERRUPTED: Final = 130

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file of settings, over MODERATION_CONFIG."),
]


def new_group(help_: str) -> typer.Typer:
    """A group of commands that shows its help, with exit code 2, when none is named."""
    group = typer.Typer(
        help=help_,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @group.callback(invoke_without_command=True)
    def _root(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help(), err=True)
            raise typer.Exit(EXIT_USAGE)

    return group


def answer(value: Any) -> None:
    """Print a JSON answer, for eyes and for `jq`. ASCII: no locale can spoil it."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def answer_line(value: Any) -> None:
    """Print a JSON answer on one line and hand it on at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def note(words: str) -> None:
    """A line for the user that is no part of the answer."""
    sys.stderr.write(words + "\n")


def progress(what: str, done: int, total: int) -> None:
    """How far a long task is, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{what} {done}/{total}\x1b[K" + ("\n" if done >= total else ""))
        sys.stderr.flush()


def printable(text: str) -> str:
    """One line without control characters: file names must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: drawn on a terminal, columns by tabs into a pipe or file."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(printable(cell) for cell in row) + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        drawn.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    Console().print(drawn)
