"""One child process of the supervisor, and when it may start again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Final

from moderation import bound

log = logging.getLogger(__name__)

FIRST_DELAY_S: Final = 0.2
MAX_DELAY_S: Final = 10.0
STABLE_S: Final = 30.0
"""A child that lived this long starts again as if it had never died."""


def restart_delay_s(failures: int) -> float:
    """Seconds to wait after this many deaths in a row (at least 1): doubling, with a cap."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16))


class Child:
    """A program in a session of its own that dies with the supervisor.

    `command` is called for every start (a worker's id is never used twice); `before` prepares
    a start; `died` is told the exit code (negative: a signal) whenever it ends by itself.
    Start it from the main thread only: the kernel ties it to the thread that started it.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], list[str]],
        *,
        env: dict[str, str] | None = None,
        before: Callable[[], None] = lambda: None,
        died: Callable[[int], None] = lambda code: None,
    ) -> None:
        self.name = name
        self._command = command
        self._env = env
        self._before = before
        self._died = died
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started = 0.0
        self._next_start = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it now. Raises OSError, ConfigError."""
        self._before()
        self._process = subprocess.Popen(
            bound.command(self._command()),
            stdin=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,
        )
        self._started = time.monotonic()
        log.info("%s started, pid %d", self.name, self._process.pid)

    def failed(self) -> None:
        """It could not be started: it is tried again as if it had died at once."""
        self._process = None
        self._failures += 1
        self._next_start = time.monotonic() + restart_delay_s(self._failures)

    def reap(self) -> int | None:
        """The exit code once, when it has just ended; None otherwise."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._kill_session()
        self._process = None
        if time.monotonic() - self._started >= STABLE_S:
            self._failures = 0
        self._failures += 1
        delay = restart_delay_s(self._failures)
        self._next_start = time.monotonic() + delay
        self._died(code)
        return code

    def due_in_s(self) -> float | None:
        """Seconds until it is to be started again; None while it runs."""
        if self._process is not None:
            return None
        return max(0.0, self._next_start - time.monotonic())

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> int | None:
        """Wait until it ended, then kill it and its session; deadline as time.monotonic.

        Returns its exit code, None when it had to be killed or did not run.
        """
        if self._process is None:
            return None
        process, self._process = self._process, None
        code: int | None = None
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop in time and is killed", self.name)
        _kill_group(process.pid)
        process.wait()
        return code

    def _kill_session(self) -> None:
        """End what an ended child left in its session: decoders, above all."""
        if self._process is not None:
            _kill_group(self._process.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
