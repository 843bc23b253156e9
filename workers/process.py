"""What every worker process does the same way: its id, its log, its signals, its heartbeat."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final

from moderation.errors import ServiceError
from moderation.settings import Settings
from moderation.store import fleet, jobs
from moderation.store.engine import Database
from moderation.store.records import WorkerRow

log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
"""A setting or a weight file cannot be used: starting again would change nothing."""
EXIT_HUNG: Final = 70
"""A forward pass ran for too long."""
EXIT_QUIET: Final = 71
"""The consumer takes no messages although some wait."""

HEARTBEAT_S: Final = 2.0
DRAIN_S: Final = 20.0
"""What runs at SIGTERM may finish within this; leases are released afterwards."""


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
    for noisy in ("celery", "kombu", "alembic", "botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


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


def exit_now(code: int) -> None:
    """End the process without waiting for any thread."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def new_row(id_: str, role: str) -> WorkerRow:
    return WorkerRow(
        id=id_,
        role=role,
        host=socket.gethostname(),
        pid=os.getpid(),
        state="starting",
        device=None,
        precision=None,
        started=datetime.now(UTC),
    )


class Heartbeat:
    """Renews the worker's row, and the leases of its jobs, every `HEARTBEAT_S`."""

    def __init__(self, db: Database, row: WorkerRow, *, lease_s: float | None = None) -> None:
        self._db = db
        self._row = row
        self._lease_s = lease_s
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def report(self, state: str, **facts: Any) -> None:
        """Change the row (`device`, `precision`, `models`) and write it at once."""
        self._row = replace(self._row, state=state, **facts)
        self._changed.set()

    def stop(self) -> None:
        """Stop renewing and forget the row."""
        self._stop.set()
        self._changed.set()
        self._thread.join(HEARTBEAT_S * 2)
        try:
            fleet.forget(self._db, self._row.id)
        except ServiceError as error:
            log.warning("worker row stays: %s", error)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.clear()
            try:
                fleet.heartbeat(self._db, self._row)
                if self._lease_s is not None:
                    jobs.renew(self._db, self._row.id, self._lease_s)
            except ServiceError as error:
                log.warning("no heartbeat: %s", error)
            self._changed.wait(HEARTBEAT_S)
