"""Sends the outbox's callbacks: many receivers at once, none of them in another's way.

Rows are claimed from the database, so several deliverers share the work. A receiver gets a
few connections and a short line; what does not fit goes back to the outbox for a moment.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

from moderation import fetch
from moderation.errors import ModerationError, ServiceError
from moderation.ids import new_id
from moderation.settings import Settings
from moderation.store import outbox
from moderation.store.engine import Database
from moderation.store.records import OutboxRow
from moderation.tasks import webhooks

log = logging.getLogger(__name__)

THREADS: Final = 32
PER_RECEIVER: Final = 4
LINE: Final = 32
"""Callbacks that may wait in memory for one receiver; none do for one that times out."""
HELD: Final = 256
BUSY_DELAY_S: Final = 3.0
CLAIM_AT_ONCE: Final = 100
IDLE_S: Final = 5.0
GONE: Final = 410


class Send(Protocol):
    """`moderation.fetch.post`: returns the HTTP status, follows no redirects."""

    def __call__(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        allow: Sequence[str],
        timeout_s: float,
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to. `error` is None when the receiver accepted."""

    error: str | None
    gone: bool = False


class Deliverer:
    """Delivers due callbacks with `THREADS` threads, `PER_RECEIVER` of them per receiver.

    `send` and `draw` (0..1, for the jitter) are replaced in tests.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        *,
        send: Send = fetch.post,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._db = db
        self._settings = settings
        self._keys = webhooks.load_secrets(settings)
        self._send = send
        self._draw = draw
        # Long enough for the last one of a receiver's line to time out.
        self._claim_s = settings.callback_timeout * (LINE / PER_RECEIVER + 2)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="deliver")
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()
        self._lines: dict[str, deque[OutboxRow]] = {}
        self._due = threading.Event()
        self._closed = False

    def poke(self) -> None:
        """Something may be due: look at the outbox now."""
        self._due.set()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set; `poke` and `IDLE_S` say when to look."""
        while not stop.is_set():
            self._due.clear()
            try:
                more = self.pump()
            except ServiceError as error:
                log.warning("outbox not read: %s", error)
                more = False
            if not more:
                self._due.wait(IDLE_S)

    def pump(self) -> bool:
        """Claim what is due and start sending it; True when there may be more at once."""
        room = min(CLAIM_AT_ONCE, HELD - self._held())
        if room <= 0:
            return False
        rows = outbox.due_callbacks(self._db, room, lease_s=self._claim_s)
        for row in rows:
            self._start(row)
        return len(rows) == room

    def close(self) -> None:
        """Finish what is being sent (a time-out at most); give back what waits."""
        with self._lock:
            self._closed = True
            waiting = [row for line in self._lines.values() for row in line]
            self._lines.clear()
        for row in waiting:
            self._put_back(row, 0.0)
        self._due.set()
        self._pool.shutdown(wait=True)

    def _held(self) -> int:
        with self._lock:
            return self._active.total() + sum(len(line) for line in self._lines.values())

    def _start(self, row: OutboxRow) -> None:
        """Send a row now, line it up, or put it back when its receiver's line is full."""
        name = receiver(row)
        with self._lock:
            if not self._closed:
                if self._active[name] < PER_RECEIVER and self._active.total() < THREADS:
                    self._active[name] += 1
                    self._pool.submit(self._work, row)
                    return
                line = self._lines.setdefault(name, deque())
                if len(line) < LINE:
                    line.append(row)
                    return
        self._put_back(row, BUSY_DELAY_S * (0.5 + self._draw()))

    def _work(self, row: OutboxRow) -> None:
        """In a thread of the pool: one attempt, then whoever waits for its place."""
        slow = False
        try:
            slow = self._deliver(row).error == "fetch_timeout"
        except ServiceError as error:
            log.warning("callback %s keeps its claim: %s", row.event_id, error)
        except Exception:
            log.exception("callback %s keeps its claim", row.event_id)
        name = receiver(row)
        with self._lock:
            self._active[name] -= 1
            if not self._active[name]:
                del self._active[name]
            sent_back = self._lines.pop(name, ()) if slow else ()
            self._advance()
            idle = not self._lines
        for waiting in sent_back:
            self._put_back(waiting, BUSY_DELAY_S * (0.5 + self._draw()))
        if idle:
            self._due.set()

    def _advance(self) -> None:
        """Under the lock: start waiting rows wherever a receiver and a thread are free."""
        for name in list(self._lines):
            line = self._lines[name]
            while line and self._active[name] < PER_RECEIVER and self._active.total() < THREADS:
                self._active[name] += 1
                self._pool.submit(self._work, line.popleft())
            if not line:
                del self._lines[name]

    def _put_back(self, row: OutboxRow, delay_s: float) -> None:
        at = datetime.now(UTC) + timedelta(seconds=delay_s)
        try:
            outbox.put_back(self._db, row.id, at=at)
        except ServiceError as error:
            log.warning("callback %s keeps its claim: %s", row.event_id, error)

    def _deliver(self, row: OutboxRow) -> Attempt:
        attempt = self._attempt(row)
        name = receiver(row)
        if attempt.error is None:
            outbox.mark_sent(self._db, row.id)
            log.info("callback %s delivered to %s", row.event_id, name)
            return attempt
        now = datetime.now(UTC)
        age_s = (now - row.created).total_seconds()
        delay = webhooks.retry_delay_s(row.attempts, age_s, self._draw())
        if attempt.gone or delay is None:
            outbox.mark_dead(self._db, row.id, attempt.error)
            log.error("callback %s to %s is dead: %s", row.event_id, name, attempt.error)
            return attempt
        at = now + timedelta(seconds=delay)
        outbox.mark_retry(self._db, row.id, error=attempt.error, at=at)
        log.warning(
            "callback %s to %s again in %.0f s: %s", row.event_id, name, delay, attempt.error
        )
        return attempt

    def _attempt(self, row: OutboxRow) -> Attempt:
        if not row.target:
            return Attempt("the callback names no target", gone=True)
        body = webhooks.encode_body(row.payload)
        sent = webhooks.headers(self._keys, row.event_id, new_id("dlv"), int(time.time()), body)
        try:
            status = self._send(
                row.target,
                body,
                sent,
                allow=self._settings.fetch_allow,
                timeout_s=self._settings.callback_timeout,
            )
        except ModerationError as error:
            return Attempt(error.code)
        return judge(status)


def judge(status: int) -> Attempt:
    """What an HTTP status means for a callback: only 2xx is accepted, 410 ends it for good."""
    if 200 <= status < 300:
        return Attempt(None)
    return Attempt(f"HTTP {status}", gone=status == GONE)


def receiver(row: OutboxRow) -> str:
    """Host of the target: fit for logs, where a URL with its credentials is not."""
    try:
        return urlsplit(row.target or "").hostname or "-"
    except ValueError:
        return "-"
