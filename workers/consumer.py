"""Runs Celery inside a process that has made its runtime already, and watches over it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from celery import Celery
from celery.exceptions import Reject
from celery.worker import state

from moderation.errors import BrokerError
from moderation.tasks import handle
from moderation.tasks.enqueue import Producer
from workers.process import DRAIN_S, EXIT_QUIET, exit_now, vital

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0
QUIET_S: Final = 10.0
IDLE_GRACE_S: Final = 3.0
"""A consumer that has nothing to finish and still does not end is not waited for longer."""


class QuietCheck:
    """Tells a consumer that has silently stopped from one that has nothing to do.

    Known from Celery with Redis after a broker restart: connected by its own account, and
    taking nothing. It is so when messages wait, nothing runs, and nothing was taken, for
    `limit_s` seconds without a break.
    """

    def __init__(self, limit_s: float = QUIET_S) -> None:
        self._limit_s = limit_s
        self._since: float | None = None
        self._taken = -1

    def look(self, *, waiting: int, busy: int, taken: int, now: float) -> bool:
        """waiting: messages in the queue; busy: running now; taken: ever; now: seconds."""
        if waiting == 0 or busy > 0 or taken != self._taken:
            self._since, self._taken = None, taken
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._limit_s


class Consumer:
    """One Celery worker on one queue, with the threads pool, in this process.

    `on_ready` is called when it consumes, `on_stopping` (in a thread of its own) when a stop
    was asked for, `on_abandon` before the process ends with work that did not end in time.
    """

    def __init__(
        self,
        app: Celery,
        producer: Producer,
        *,
        name: str,
        queue: str,
        concurrency: int,
        handlers: dict[str, handle.Handler],
        on_ready: Callable[[], None],
        on_stopping: Callable[[], None],
        on_abandon: Callable[[], None],
    ) -> None:
        self._app = app
        self._producer = producer
        self._name = name
        self._queue = queue
        self._concurrency = concurrency
        self._on_ready = on_ready
        self._on_stopping = on_stopping
        self._on_abandon = on_abandon
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0
        self._taken = 0
        handle.register(app, {kind: self._counted(run) for kind, run in handlers.items()})

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Take nothing more, finish what runs. For a signal handler."""
        self._stop.set()
        state.should_stop = 0  # the exit code of Celery's own shutdown

    def run(self) -> None:
        """Consume until `stop`; returns when the running work has ended."""
        for target in (self._guard_drain, self._guard_quiet):
            vital(target.__name__, target).start()
        controller = self._app.WorkController(
            hostname=self._name,
            pool="threads",
            concurrency=self._concurrency,
            queues=[self._queue],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            ready_callback=self._ready,
        )
        try:
            controller.start()
        finally:
            self._ended.set()

    def _ready(self, _consumer: Any) -> None:
        log.info("consuming queue %s", self._queue)
        self._on_ready()

    def _counted(self, run: handle.Handler) -> handle.Handler:
        def counted(job_id: str) -> object:
            if self._stop.is_set():
                # Another worker may have it at once.
                raise Reject("stopping", requeue=True)
            with self._lock:
                self._busy += 1
                self._taken += 1
            try:
                return run(job_id)
            finally:
                with self._lock:
                    self._busy -= 1

        return counted

    def _counts(self) -> tuple[int, int]:
        with self._lock:
            return self._busy, self._taken

    def _guard_drain(self) -> None:
        self._stop.wait()
        asked = time.monotonic()
        self._on_stopping()
        while not self._ended.wait(0.2):
            waited = time.monotonic() - asked
            busy, _ = self._counts()
            if waited >= DRAIN_S or (waited >= IDLE_GRACE_S and busy == 0):
                log.warning("stopping with %d jobs unfinished", busy)
                self._on_abandon()
                exit_now(0)

    def _guard_quiet(self) -> None:
        check = QuietCheck()
        while not self._stop.wait(CHECK_S):
            try:
                waiting = self._producer.waiting(self._queue)
            except BrokerError:
                waiting = 0
            busy, taken = self._counts()
            if check.look(waiting=waiting, busy=busy, taken=taken, now=time.monotonic()):
                log.critical(
                    "%d messages wait and none was taken for %.0f s: starting again",
                    waiting,
                    QUIET_S,
                )
                exit_now(EXIT_QUIET)
