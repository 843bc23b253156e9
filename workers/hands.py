"""Threads that fetch work from the database as they are free: so many, however much there is.

A message only says that there may be something to do, and is through at once. So work that takes
seconds holds up no queue, and a lost message costs the pause between two looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from moderation.errors import ServiceError
from workers.process import DRAIN_S, EXIT_OK, exit_now, vital

log = logging.getLogger(__name__)

IDLE_S: Final = 2.0


class Hands:
    """`count` threads that call `work` until it returns False, then wait for `poke` or `idle_s`.

    work: does one piece; False when there was none. Raises ServiceError when the database does
    not answer; anything else ends the process.
    """

    def __init__(
        self, name: str, count: int, work: Callable[[], bool], *, idle_s: float = IDLE_S
    ) -> None:
        self._work = work
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._pokes = 0
        self._stopping = False
        self._threads = [vital(f"{name}-{number}", self._run) for number in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def poke(self) -> None:
        """There may be something to do."""
        with self._changed:
            self._pokes += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """After `stop`: wait for what runs; whether all of it ended in time."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                seen = self._pokes
            try:
                if self._work():
                    continue
            except ServiceError as error:
                log.warning("no work: %s", error)
            with self._changed:
                self._changed.wait_for(partial(self._news_since, seen), self._idle_s)

    def _news_since(self, seen: int) -> bool:
        return self._stopping or self._pokes != seen


def end_hands(hands: Hands, abandon: Callable[[], None], *, wait_s: float = DRAIN_S) -> None:
    """Stop, wait for what runs, and end the process where it takes too long."""
    hands.stop()
    if not hands.join(wait_s):
        log.warning("stopping with work unfinished")
        abandon()
        exit_now(EXIT_OK)
