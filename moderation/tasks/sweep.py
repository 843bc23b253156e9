"""The sweeper: what keeps a job from being lost whatever happens to the messages.

One mechanism covers lost and doubled messages, dead workers, a broker wiped clean and
restarts: look at the database, put expired leases back, and publish what should be under way.
Any number of sweepers may run; the database hands each row to one of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from moderation.errors import BrokerError, ServiceError
from moderation.settings import Settings
from moderation.store import jobs
from moderation.store.engine import Database
from moderation.tasks.messages import JobMessage, UnknownMessageError

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """`moderation.tasks.enqueue.Producer`, as far as the sweeper needs it."""

    def enqueue(self, message: JobMessage, priority: int = 0) -> None: ...

    def run_id(self) -> str: ...


class Sweeper:
    """Sweeps every `settings.sweep_seconds`. `on_swept` is called after every sweep."""

    def __init__(
        self,
        db: Database,
        producer: Publisher,
        settings: Settings,
        *,
        on_swept: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._producer = producer
        self._settings = settings
        self._on_swept = on_swept
        self._broker: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set."""
        while True:
            try:
                self.once()
            except ServiceError as error:
                log.warning("not swept: %s", error)
            self._on_swept()
            if stop.wait(self._settings.sweep_seconds):
                return

    def once(self) -> int:
        """Sweep once; returns how many messages were published.

        A broker that is not the one of the last sweep (it restarted, and the embedded one
        keeps nothing) has lost the messages: every queued job is then published again at
        once. Raises StoreError; a broker that is away is logged, the next sweep tries again.
        """
        broker = self._broker_now()
        if broker is None:
            # Jobs whose lease ended are put back all the same, to be published later.
            self._sweep(self._settings.republish_seconds, publish=False)
            return 0
        renewed = self._broker is not None and broker != self._broker
        if renewed:
            log.warning("the broker was restarted: queued jobs are published again")
        published = self._sweep(0.0 if renewed else self._settings.republish_seconds, publish=True)
        self._broker = broker
        return published

    def _broker_now(self) -> str | None:
        try:
            return self._producer.run_id()
        except BrokerError as error:
            log.warning("%s", error)
            return None

    def _sweep(self, republish_after_s: float, *, publish: bool) -> int:
        result = jobs.sweep(
            self._db,
            republish_after_s=republish_after_s,
            max_attempts=self._settings.max_attempts,
        )
        if result.expired or result.failed or result.overdue:
            log.warning(
                "swept: %d leases had ended, %d jobs out of attempts, %d past their deadline",
                result.expired,
                result.failed,
                result.overdue,
            )
        published = 0
        for due in result.republish if publish else ():
            try:
                self._producer.enqueue(JobMessage(due.kind, due.job_id), due.priority)
            except BrokerError as error:
                log.warning("%d jobs wait: %s", len(result.republish) - published, error)
                break
            except UnknownMessageError as error:
                log.warning("job %s waits for a newer version: %s", due.job_id, error)
                continue
            published += 1
        if published:
            log.info("%d jobs published again", published)
        return published
