"""`moderation serve`, `gateway`, `worker`: this process becomes the one asked for.

The command line imports neither the gateway nor the workers: it checks the settings, hands
options on as environment and replaces itself, so that signals and exit codes are theirs.
"""

from __future__ import annotations

import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from moderation.cli.out import EXIT_OK, EXIT_WRONG, Config, Json, answer, answer_line

if TYPE_CHECKING:
    from moderation.settings import Settings


class Role(StrEnum):
    """`infer` loads the models; `media` delivers callbacks and sweeps, `live` watches streams, and
    they load none."""

    INFER = "infer"
    MEDIA = "media"
    LIVE = "live"


class Runtime(StrEnum):
    """What runs the models."""

    OPENVINO = "openvino"
    TORCH = "torch"
    FAKE = "fake"


Host = Annotated[str | None, typer.Option(help="Address to listen on (MODERATION_HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (MODERATION_PORT).")]


def serve(
    host: Host = None, port: Port = None, settings_file: Config = None, json: Json = False
) -> None:
    """Start everything on this machine; Ctrl-C stops all of it."""
    _become("workers.supervisor", "serve", settings_file, json, host=host, port=port)


def gateway(
    host: Host = None, port: Port = None, settings_file: Config = None, json: Json = False
) -> None:
    """Start the HTTP gateway alone, for a fleet."""
    _become("api", "gateway", settings_file, json, host=host, port=port)


def worker(
    role: Annotated[Role, typer.Option(help="What the worker does.")] = Role.INFER,
    backend: Annotated[
        Runtime | None, typer.Option(help="What runs the models (MODERATION_BACKEND).")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where they run: cpu, cuda, cuda:1 … (MODERATION_DEVICE)."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Start nothing: exit with 0 when such a worker of this host is ready, else 1.",
        ),
    ] = False,
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Start one worker alone, for a fleet."""
    if role is not Role.INFER and (backend or device):
        raise typer.BadParameter("--backend and --device are for the role infer: it has the models")
    if not probe:
        module, runtime = f"workers.{role.value}", backend.value if backend else None
        _become(module, role.value, settings_file, json, backend=runtime, device=device)
    return _probe(role, settings_file, json)


def _probe(role: Role, settings_file: Path | None, json: bool) -> int:
    """The health check of a container: its worker's own report, not older than 10 s."""
    from moderation.settings import load_settings
    from moderation.store.engine import open_database
    from moderation.store.fleet import living

    db = open_database(load_settings(settings_file).database)
    try:
        here = [row for row in living(db, role=role.value) if row.host == socket.gethostname()]
    finally:
        db.close()
    ready = any(row.state == "ready" for row in here)
    if json:
        workers = [{"id": row.id, "state": row.state, "device": row.device} for row in here]
        answer({"ready": ready, "workers": workers})
    return EXIT_OK if ready else EXIT_WRONG


def _become(
    module: str,
    role: str,
    settings_file: Path | None,
    json: bool,
    **options: str | int | None,
) -> NoReturn:
    """Replace this process by `python -m module`. `json`: say first, in one line, what starts.
    options: settings by name, over environment and file; None: as they are."""
    from moderation.settings import CONFIG_FILE_VARIABLE, load_settings

    if settings_file is not None:
        os.environ[CONFIG_FILE_VARIABLE] = str(settings_file.absolute())
    for name, value in options.items():
        if value is not None:
            os.environ[f"MODERATION_{name.upper()}"] = str(value)
    settings = load_settings()
    # A folder named `api` or `workers` where the command happens to be run must not be ours.
    os.environ["PYTHONSAFEPATH"] = "1"
    if json:
        answer_line(_start(role, settings))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [sys.executable, "-m", module]
    )


def _start(role: str, settings: Settings) -> dict[str, object]:
    listens = role in ("serve", "gateway")
    return {
        "role": role,
        "pid": os.getpid(),
        "url": f"http://{settings.host}:{settings.port}" if listens else None,
        "home": str(settings.home),
    }
