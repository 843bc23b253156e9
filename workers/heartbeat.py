"""A worker's sign of life: its row, and the leases of its jobs."""

from __future__ import annotations

import logging
import os
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from moderation.errors import ServiceError
from moderation.store import fleet, jobs
from moderation.store.engine import Database
from moderation.store.records import WorkerRow
from moderation.tasks.working import Working
from workers.process import vital

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 2.0


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
    """Renews the worker's row, and the leases of what it works on, every `HEARTBEAT_S`."""

    def __init__(self, db: Database, row: WorkerRow, working: Working, *, lease_s: float) -> None:
        self._db = db
        self._row = row
        self._working = working
        self._lease_s = lease_s
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._thread = vital("heartbeat", self._run)

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
                names = self._working.names()
                if names:
                    jobs.renew(self._db, self._row.id, self._lease_s, only=names)
            except ServiceError as error:
                log.warning("no heartbeat: %s", error)
            self._changed.wait(HEARTBEAT_S)


def release(db: Database, owner: str) -> None:
    """Give all leases of this worker back."""
    try:
        released = jobs.release_owner(db, owner)
    except ServiceError as error:
        log.warning("leases run out by themselves: %s", error)
        return
    if released:
        log.warning("%d unfinished jobs given back", released)


def abandon(db: Database, owner: str, heartbeat: Heartbeat) -> None:
    """What is still to be said before the process ends with work unfinished."""
    heartbeat.stop()
    release(db, owner)
