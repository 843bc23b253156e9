"""Items of many callers, run together: a bounded queue and one thread.

Knows no queue system, no network and no pixels: `run` takes a list of items and returns as
many results. The window opens when the first item comes, so that a lone item waits at most
`max_delay_s`, items that gathered during a run go at once, and an idle batcher costs nothing.
Patient items, of which a film has thousands, make way for others, but keep a part of each batch.
Every item that was taken is answered exactly once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Generic, TypeVar

from moderation.errors import ExpiredError, InferenceError, OverloadedError, ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")

CLOSE_S = 20.0
"""How long `close` waits for the run under way: within the 30 s that a stop may take."""

PATIENT_PART = 4
"""One item in so many of a batch is a patient one where any waits: they are slow, not stuck."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """Counts and sums of seconds since the start.

    `items / batches` is the mean batch size, and `sizes` counts the batches of each size.
    `waited_seconds / items` is how long an item waited before it ran.
    """

    batches: int
    items: int
    expired: int
    failed: int
    refused: int
    queued: int
    run_seconds: float
    waited_seconds: float
    sizes: Mapping[int, int]


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: Future[Result]
    since: float


class Batcher(Generic[Item, Result]):
    """max_batch: items a run; max_delay_s: how long the first item waits for company;
    max_queue: items waiting, above which `submit` raises OverloadedError."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_batch: int,
        max_delay_s: float,
        max_queue: int,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._max_queue = max_queue
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._patient: deque[_Waiting[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running: list[_Waiting[Item, Result]] = []
        self._running_since: float | None = None
        self._batches = self._items = self._expired = self._failed = self._refused = 0
        self._run_seconds = self._waited_seconds = 0.0
        self._sizes: dict[int, int] = {}
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)
        self._thread.start()

    def submit(
        self, items: Sequence[Item], *, deadline: float = math.inf, patient: bool = False
    ) -> list[Future[Result]]:
        """Queue the items of one caller, all or none. deadline: `time.monotonic()` after
        which an item is answered ExpiredError and not run. patient: others may go first.

        Raises OverloadedError when they do not fit, ServiceError after `close`. More items
        than the queue holds are taken while it is empty: else they could never run.
        """
        now = time.monotonic()
        waiting = [_Waiting(item, deadline, Future[Result](), now) for item in items]
        with self._changed:
            if self._closed:
                raise ServiceError("the scorer is closed")
            queued = self._queued()
            if queued and queued + len(waiting) > self._max_queue:
                self._refused += len(waiting)
                raise OverloadedError(f"{queued} items wait to be scored; try later")
            (self._patient if patient else self._queue).extend(waiting)
            self._changed.notify()
        return [entry.future for entry in waiting]

    @property
    def running_s(self) -> float:
        """Seconds that the current call of `run` has taken; 0 while idle."""
        since = self._running_since
        return 0.0 if since is None else time.monotonic() - since

    def stats(self) -> BatcherStats:
        with self._changed:
            return BatcherStats(
                batches=self._batches,
                items=self._items,
                expired=self._expired,
                failed=self._failed,
                refused=self._refused,
                queued=self._queued(),
                run_seconds=self._run_seconds,
                waited_seconds=self._waited_seconds,
                sizes=dict(self._sizes),
            )

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Finish the batch under way, answer what still waits with ServiceError, stop.

        A batch that does not end within `timeout_s` is answered likewise. Returns whether
        the thread has ended: what `run` uses must not be freed before.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._answer_rest()
        return not self._thread.is_alive()

    def _loop(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if live := [entry for entry in batch if self._live(entry)]:
                    self._run_batch(live)
        finally:
            with self._changed:
                self._closed = True
            self._answer_rest()

    def _answer_rest(self) -> None:
        """ServiceError for all that is not answered yet."""
        with self._changed:
            rest = [*self._running, *self._queue, *self._patient]
            self._queue.clear()
            self._patient.clear()
        for entry in rest:
            _fail(entry.future, ServiceError("the scorer was closed", code="closed"))

    def _live(self, entry: _Waiting[Item, Result]) -> bool:
        """Whether to run an item: not when its caller gave up, nor after its deadline."""
        if entry.future.cancelled():
            return False
        if entry.deadline > time.monotonic():
            return True
        with self._changed:
            self._expired += 1
        _fail(entry.future, ExpiredError("the deadline passed before it was scored"))
        return False

    def _next_batch(self) -> list[_Waiting[Item, Result]] | None:
        """Wait for the first item, then for company until the window ends or the batch is
        full. None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued() or self._closed)
            first = min((line[0].since for line in (self._queue, self._patient) if line), default=0)
            self._changed.wait_for(
                lambda: self._queued() >= self._max_batch or self._closed,
                timeout=max(0.0, first + self._max_delay_s - time.monotonic()),
            )
            if self._closed:
                return None
            count = min(self._max_batch, self._queued())
            kept = min(len(self._patient), max(1, self._max_batch // PATIENT_PART))
            urgent = min(len(self._queue), count - kept if count > 1 else count)
            self._running = [self._queue.popleft() for _ in range(urgent)]
            self._running += [self._patient.popleft() for _ in range(count - urgent)]
            return self._running

    def _queued(self) -> int:
        return len(self._queue) + len(self._patient)

    def _run_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        started = time.monotonic()
        failed = self._isolate(batch)
        with self._changed:
            self._running = []
            self._batches += 1
            self._sizes[len(batch)] = self._sizes.get(len(batch), 0) + 1
            self._waited_seconds += sum(started - entry.since for entry in batch)
            self._items += len(batch)
            self._failed += failed
            self._run_seconds += time.monotonic() - started

    def _isolate(self, batch: list[_Waiting[Item, Result]]) -> int:
        """Run a batch; when it fails, each item alone, so that only the bad one fails.
        Returns how many failed."""
        try:
            results = self._call([entry.item for entry in batch])
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises belongs to its item
            if len(batch) > 1:
                log.warning("a batch of %d failed, each item runs alone: %r", len(batch), error)
                return sum(self._isolate([entry]) for entry in batch if self._live(entry))
            reason = error if isinstance(error, ServiceError) else _as_inference_error(error)
            _fail(batch[0].future, reason)
            return 1
        for entry, result in zip(batch, results, strict=True):
            try:
                entry.future.set_result(result)
            except InvalidStateError:
                continue  # the caller gave up and cancelled it, or `close` answered it
        return 0

    def _call(self, items: Sequence[Item]) -> Sequence[Result]:
        self._running_since = time.monotonic()
        try:
            results = self._run(items)
        finally:
            self._running_since = None
        if len(results) != len(items):
            raise InferenceError(f"{len(results)} results for {len(items)} items")
        return results


def _as_inference_error(error: Exception) -> InferenceError:
    failure = InferenceError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    failure.__cause__ = error
    return failure


def _fail(future: Future[Result], error: Exception) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        return  # the caller gave up and cancelled it, or it was answered already
