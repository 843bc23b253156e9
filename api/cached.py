"""A value that is read again when it is older than some time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """What `read` answered at most `ttl_s` seconds ago. Thread-safe, one reader at a time.

    An error of `read` is raised and not kept.
    """

    def __init__(
        self, read: Callable[[], T], ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._ttl = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[T, float] | None = None

    def get(self) -> T:
        with self._lock:
            if self._kept is None or self._clock() - self._kept[1] >= self._ttl:
                self._kept = (self._read(), self._clock())
            return self._kept[0]
