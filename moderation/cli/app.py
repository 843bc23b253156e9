"""The commands put together, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import typer

from moderation.cli import (
    config,
    doctor,
    evaluate,
    keys,
    lists,
    live,
    processes,
    scan,
    thresholds,
    train,
    users,
    version,
    weights,
)
from moderation.cli.out import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, EXIT_WRONG, new_group, note
from moderation.errors import ConfigError, InputError, ModerationError


def build() -> typer.Typer:
    """The whole command line."""
    app = new_group("Moderates images on your own machine: porn, violence, smoking.")
    app.command("scan")(scan.scan)
    app.command("watch")(live.watch)
    app.command("serve")(processes.serve)
    app.command("gateway")(processes.gateway)
    app.command("worker")(processes.worker)
    app.add_typer(weights.group, name="weights")
    app.add_typer(keys.group, name="keys")
    app.add_typer(users.group, name="users")
    app.add_typer(lists.group, name="lists")
    app.command("doctor")(doctor.doctor)
    app.command("config")(config.config)
    app.command("eval")(evaluate.evaluate)
    app.command("thresholds")(thresholds.thresholds)
    app.add_typer(train.group, name="train")
    app.command("version")(version.version)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `moderation.cli.out`)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the locale cannot spell
            stream.reconfigure(errors="backslashreplace")
    try:
        code = build()(args=argv, prog_name="moderation", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        note(f"moderation: {' '.join(error.format_message().split())}")
        return EXIT_USAGE
    except (ConfigError, InputError) as error:
        note(f"moderation: {error.message}")
        return EXIT_USAGE
    except ModerationError as error:
        note(f"moderation: {error.message} ({error.code})")
        return EXIT_WRONG
    except BrokenPipeError:
        # The reader has gone (`… | head`); nothing more may be flushed into that pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WRONG
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK
