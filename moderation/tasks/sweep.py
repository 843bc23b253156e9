"""The sweeper: what keeps a job from being lost whatever happens to the messages.

One mechanism covers lost and doubled messages, dead workers, a broker wiped clean and
restarts: look at the database, put expired leases back, and publish what should be under way.
Any number of sweepers may run; the database hands each row to one of them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from moderation.blobs import BlobStore
from moderation.errors import BrokerError, ServiceError
from moderation.packs import PackStore, chunk_of
from moderation.settings import Settings
from moderation.store import (
    chunks,
    deletion,
    jobs,
    list_expiry,
    retention,
    stream_leases,
    uploads,
)
from moderation.store.engine import Database
from moderation.tasks.messages import JobMessage, UnknownMessageError

log = logging.getLogger(__name__)

AT_ONCE: Final = 200
PRUNE_EVERY_S: Final = 600.0
ALL: Final = 5_000
"""Bound of a sweep that publishes everything anew; databases limit the variables of a query."""


class Publisher(Protocol):
    """`moderation.tasks.enqueue.Producer`, as far as the sweeper needs it."""

    def enqueue(self, message: JobMessage, priority: int = 0) -> None: ...

    def run_id(self) -> str: ...


class Wake(Protocol):
    """`moderation.wake.Waker`, as far as the sweeper needs it."""

    def wake(self, job_id: str) -> None: ...


class Sweeper:
    """Sweeps every `settings.sweep_seconds`, and wakes who waits for a job that a sweep ended.

    `packs`: those of chunks that are through are deleted. `blobs`: so are the bytes of uploads
    that expired. `on_swept` is called after every sweep.
    """

    def __init__(
        self,
        db: Database,
        producer: Publisher,
        waker: Wake,
        settings: Settings,
        *,
        packs: PackStore | None = None,
        blobs: BlobStore | None = None,
        on_swept: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._packs = packs
        self._blobs = blobs
        self._producer = producer
        self._waker = waker
        self._settings = settings
        self._on_swept = on_swept
        self._broker: str | None = None
        self._pruned = -math.inf
        self._entries_after = ""  # how far the walk through entries of lists has come
        self._owed = True  # what was published before this process began is unknown

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set."""
        while True:
            try:
                self.once()
                self.unwatched()
                self.drop_packs()
                self.prune()
            except ServiceError as error:
                log.warning("not swept: %s", error)
            self._on_swept()
            if stop.wait(self._settings.sweep_seconds):
                return

    def once(self) -> int:
        """Sweep once; returns how many messages were published.

        Every queued job is published again at once after the broker was away, was restarted
        (the embedded one keeps nothing), and when this sweeper starts: what is published
        twice is claimed once. Raises StoreError; a broker that is away is logged.
        """
        broker = self._broker_now()
        if broker is None or broker != self._broker:
            self._owed = True
        self._broker = broker
        result = jobs.sweep(
            self._db,
            republish_after_s=0.0 if self._owed else self._settings.republish_seconds,
            max_attempts=self._settings.max_attempts,
            limit=ALL if self._owed else AT_ONCE,
            chunks_ahead=self._settings.video_chunks_ahead,
        )
        if result.expired or result.failed or result.overdue:
            log.warning(
                "swept: %d leases had ended, %d jobs out of attempts, %d past their deadline",
                result.expired,
                result.failed,
                result.overdue,
            )
        if broker is None:
            return 0
        for job_id in result.ended:
            self._waker.wake(job_id)
        return self._publish(result.republish)

    def unwatched(self) -> int:
        """Say which live streams have lost their supervisor, so that another may take them; how
        many. Raises StoreError."""
        lost = stream_leases.sweep_unwatched(self._db)
        for stream_id in lost:
            self._waker.wake(stream_id)
        if lost:
            log.warning("%d live streams have lost their supervisor", len(lost))
        return len(lost)

    def drop_packs(self) -> int:
        """Delete the packs that a dead worker, a cancelled job or a slow writer left; how many.
        Raises ServiceError."""
        if self._packs is None:
            return 0
        # In this order: a pack that is written from now on is not on the list.
        found = self._packs.keys()
        used = chunks.packs_in_use(self._db) if found else set()
        left = [key for key in found if chunk_of(key) not in used]
        for key in left:
            self._packs.delete(key)
        return len(left)

    def prune(self) -> int:
        """Delete what `settings.retain_days` no longer keeps, entries of lists that ended long ago,
        uploads that expired, and bytes that deleted items left, now and then, a bounded number at a
        time; returns how many. Raises StoreError, BlobError."""
        now = time.monotonic()
        if now - self._pruned < PRUNE_EVERY_S:
            return 0
        before = datetime.now(UTC) - timedelta(days=self._settings.retain_days)
        deleted = retention.prune(self._db, before=before)
        step = list_expiry.prune(self._db, after=self._entries_after)
        self._entries_after = step.after or ""
        deleted += step.removed
        if self._blobs is not None:
            deleted += uploads.prune(self._db, self._blobs)
            deleted += deletion.sweep_removals(self._db, self._blobs)
        if deleted:
            log.info("%d old rows and uploads deleted", deleted)
        elif step.after is None:
            self._pruned = now  # nothing was left: until then, every sweep takes its share
        return deleted

    def _broker_now(self) -> str | None:
        try:
            return self._producer.run_id()
        except BrokerError as error:
            log.warning("%s", error)
            return None

    def _publish(self, due: Sequence[jobs.TaskHint]) -> int:
        published = 0
        for hint in due:
            try:
                self._producer.enqueue(JobMessage(hint.kind, hint.job_id), hint.priority)
            except BrokerError as error:
                log.warning("%d jobs wait: %s", len(due) - published, error)
                self._owed = True
                return published
            except UnknownMessageError as error:
                log.warning("job %s waits for a newer version: %s", hint.job_id, error)
                continue
            published += 1
        self._owed = False
        if published:
            log.info("%d jobs published again", published)
        return published
