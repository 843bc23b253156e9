"""Items of many callers, run together: a bounded queue and one thread.

Knows no queue system, no network and no pixels: `run` takes a list of items and returns as
many results. The window opens at the first item, so that a lone item waits at most
`max_delay_s` and an idle batcher costs nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Generic, TypeVar

from moderation.errors import ExpiredError, InferenceError, OverloadedError, ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """Counts since the start. `items / batches` is the mean batch size."""

    batches: int
    items: int
    expired: int
    failed: int
    refused: int
    queued: int
    run_seconds: float


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    deadline: float
    future: Future[Result]


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
        self._changed = threading.Condition()
        self._closed = False
        self._running_since: float | None = None
        self._batches = self._items = self._expired = self._failed = self._refused = 0
        self._run_seconds = 0.0
        self._thread = threading.Thread(target=self._loop, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[Item], *, deadline: float = math.inf) -> list[Future[Result]]:
        """Queue the items of one caller, all or none. deadline: `time.monotonic()` after
        which an item is answered ExpiredError and not run.

        Raises OverloadedError when they do not fit, ServiceError after `close`. More items
        than the queue holds are taken while it is empty: else they could never run.
        """
        waiting = [_Waiting(item, deadline, Future[Result]()) for item in items]
        with self._changed:
            if self._closed:
                raise ServiceError("the scorer is closed")
            if self._queue and len(self._queue) + len(waiting) > self._max_queue:
                self._refused += len(waiting)
                raise OverloadedError(f"{len(self._queue)} items wait to be scored; try later")
            self._queue.extend(waiting)
            self._changed.notify()
        return [entry.future for entry in waiting]

    @property
    def running_s(self) -> float:
        """Seconds that the current run has taken; 0 while idle."""
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
                queued=len(self._queue),
                run_seconds=self._run_seconds,
            )

    def close(self) -> None:
        """Finish the batch under way, answer what still waits with ServiceError, stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while (batch := self._next_batch()) is not None:
            now = time.monotonic()
            live = [entry for entry in batch if entry.deadline > now]
            for entry in batch:
                if entry.deadline <= now:
                    _fail(entry.future, ExpiredError("the deadline passed before it was scored"))
            with self._changed:
                self._expired += len(batch) - len(live)
            if live:
                self._run_batch(live)
        for entry in self._queue:
            _fail(entry.future, ServiceError("the scorer was closed"))
        self._queue.clear()

    def _next_batch(self) -> list[_Waiting[Item, Result]] | None:
        """Wait for the first item, then for company until the window ends or the batch is
        full. None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            end = time.monotonic() + self._max_delay_s
            self._changed.wait_for(
                lambda: len(self._queue) >= self._max_batch or self._closed,
                timeout=max(0.0, end - time.monotonic()),
            )
            if self._closed:
                return None
            return [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]

    def _run_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        started = self._running_since = time.monotonic()
        try:
            failed = self._isolate(batch)
        finally:
            self._running_since = None
        with self._changed:
            self._batches += 1
            self._items += len(batch)
            self._failed += failed
            self._run_seconds += time.monotonic() - started

    def _isolate(self, batch: list[_Waiting[Item, Result]]) -> int:
        """Run a batch; when it fails, each item alone, so that only the bad one fails.
        Returns how many failed."""
        try:
            results = self._run([entry.item for entry in batch])
            if len(results) != len(batch):
                raise InferenceError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises belongs to its item
            if len(batch) > 1:
                return sum(self._isolate([entry]) for entry in batch)
            reason = error if isinstance(error, ServiceError) else _as_inference_error(error)
            _fail(batch[0].future, reason)
            return 1
        for entry, result in zip(batch, results, strict=True):
            try:
                entry.future.set_result(result)
            except InvalidStateError:
                continue  # the caller gave up and cancelled it
        return 0


def _as_inference_error(error: Exception) -> InferenceError:
    failure = InferenceError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    failure.__cause__ = error
    return failure


def _fail(future: Future[Result], error: Exception) -> None:
    try:
        future.set_exception(error)
    except InvalidStateError:
        return  # the caller gave up and cancelled it
