"""What this process is working on: its leases are prolonged, and nothing else is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Working:
    """Names of jobs and chunks in hand. Used by many threads.

    A worker whose last write failed holds a lease that nobody works under. Were it prolonged
    with the others, for as long as the worker lives, the job would hang.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choosing = threading.Lock()
        self._names: Counter[str] = Counter()

    def names(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._names)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Enter before the claim, so that it is prolonged from its beginning."""
        self._add(name)
        try:
            yield
        finally:
            self._drop(name)

    @contextmanager
    def chosen(self, choose: Callable[[frozenset[str]], str | None]) -> Iterator[str | None]:
        """As `on`, for what `choose` picks beside the names that it is given: threads that look
        for work at the same time do not all run after the same piece."""
        with self._choosing:
            name = choose(self.names())
            if name is not None:
                self._add(name)
        try:
            yield name
        finally:
            if name is not None:
                self._drop(name)

    def _add(self, name: str) -> None:
        with self._lock:
            self._names[name] += 1

    def _drop(self, name: str) -> None:
        with self._lock:
            self._names[name] -= 1
            if not self._names[name]:
                del self._names[name]
