"""What every worker process does the same way: its id, its log, its signals, its exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

import redis

from moderation.errors import ConfigError, ServiceError
from moderation.settings import Settings, load_settings
from moderation.store.engine import Database, migrate, open_database, schema_is_current

log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
"""A setting or a weight file cannot be used: starting again would change nothing."""
EXIT_HUNG: Final = 70
"""A forward pass ran for too long."""
EXIT_QUIET: Final = 71
"""The consumer takes no messages although some wait."""
EXIT_CLOCK: Final = 72
"""The system's clock was set: what counts by the time of before has to begin anew."""

MAX_FILES: Final = 65_536
DRAIN_S: Final = 20.0
"""What runs at SIGTERM may finish within this; leases are released afterwards."""


def run_worker(
    role: str,
    description: str | None,
    serve: Callable[[Settings, str], int],
    argv: Sequence[str] | None,
) -> int:
    """A worker's `main`: options, settings, log, then `serve` with the worker's id; returns the
    exit code. Our own errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog=f"python -m workers.{role}", description=description)
    parser.add_argument("--id", help="the worker's id, which owns its leases")
    options = parser.parse_args(argv)
    try:
        settings = load_settings()
        set_up_logging(settings, role)
        return serve(settings, options.id or worker_id(role))
    except (ConfigError, ServiceError) as error:
        sys.stderr.write(f"{role} worker: {error}\n")
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED


def open_ready(settings: Settings) -> Database:
    """The database, with the schema of this version. Raises ConfigError, StoreError."""
    db = open_database(settings.database)
    if not schema_is_current(db):
        migrate(settings.database)
    return db


def raise_file_limit() -> None:
    """As many files as the system lets this process have: a live stream takes about ten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def worker_id(role: str) -> str:
    """`<role>-<host>-<pid>-<random>`: the owner of leases, so never used twice."""
    host = socket.gethostname().partition(".")[0] or "host"
    return f"{role}-{host}-{os.getpid()}-{secrets.token_hex(3)}"


def set_up_logging(settings: Settings, name: str) -> None:
    """One line per event on stderr, with the process's name."""
    logging.basicConfig(
        level=settings.log_level,
        format=f"%(asctime)s {name:<7} %(levelname)-7s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(shorten_broker_losses)
    for noisy in ("celery", "kombu", "alembic", "botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def shorten_broker_losses(record: logging.LogRecord) -> bool:
    """A lost connection is one line: Celery would give a traceback for each message in hand,
    and nothing is lost with them."""
    if record.name.startswith(("celery", "kombu")) and record.exc_info:
        error = record.exc_info[1]
        if isinstance(error, (OSError, redis.RedisError)):
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` once, at SIGTERM or SIGINT, in the main thread between two bytecodes.

    `stop` may take no lock that the main thread takes elsewhere.
    """

    def handler(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def vital(name: str, run: Callable[[], None]) -> threading.Thread:
    """A daemon thread that the process is no use without: when `run` raises, the process ends,
    and whoever supervises it starts it again. Not started yet."""

    def guarded() -> None:
        try:
            run()
        except Exception:
            log.exception("%s failed: starting again", name)
            exit_now(EXIT_FAILED)

    return threading.Thread(target=guarded, name=name, daemon=True)


def exit_now(code: int) -> None:
    """End the process without waiting for any thread."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
