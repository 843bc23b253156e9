"""The only place that starts media programs: limited, drained, killed and reaped.

A media program reads one local file and writes to a pipe, or to one open file that it is given.
It never reads the network, a playlist or standard input. The readers of live streams alone read
the network (`live.reader`), from addresses that were checked, and write into a folder of theirs.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from moderation import bound
from moderation.errors import ConfigError, MediaError, ServiceError

TAIL_BYTES = 8192
GRACE_S = 2.0
PIPE_BYTES = 1024 * 1024
"""A frame passes in one go; the usual 64 KiB would be filled eight times for it."""
MIB = 1024 * 1024


def program(configured: str | None = None) -> str:
    """Path of ffmpeg: the configured one, or that of the imageio-ffmpeg wheel.

    Raises ConfigError when there is none.
    """
    if configured is not None:
        if not Path(configured).is_file():
            raise ConfigError(f"there is no ffmpeg at {configured}")
        return configured
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ConfigError("ffmpeg is missing: pip install imageio-ffmpeg") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ConfigError(f"ffmpeg is missing: {error}") from error


class MediaProcess:
    """A running media program. Use as a context manager: leaving it kills and reaps.

    timeout_s: after it the program is killed, and reading raises MediaError decode_timeout; None:
    it may run for days, and its owner watches it.
    memory_mib: address space that it may use. On Linux it dies with the thread that started it.
    Its standard error is read by a thread of our own: unread, 64 KiB of it would stop the
    program; the last 8 KiB are kept. pass_fds: pipes and files of the caller's that it may write
    to. file_bytes: how far it may write into a file.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float | None,
        memory_mib: int,
        pass_fds: Sequence[int] = (),
        file_bytes: int = 0,
    ) -> None:
        self._timed_out = False
        self._tail: collections.deque[bytes] = collections.deque()
        self._tail_size = 0
        limits = {
            "as": memory_mib * MIB,
            "fsize": file_bytes,
            "core": 0,
        }
        if timeout_s is not None:
            limits["cpu"] = int(timeout_s * (os.cpu_count() or 1)) + 1
        try:
            self._process = subprocess.Popen(
                bound.command(argv, limits),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
                pass_fds=tuple(pass_fds),
            )
        except OSError as error:
            raise ServiceError(f"cannot start {Path(argv[0]).name}: {error}") from error
        if self._process.stdout is None or self._process.stderr is None:
            raise ServiceError("a media program has no pipes")  # asked for above
        self._stdout: IO[bytes] = self._process.stdout
        self._stderr: IO[bytes] = self._process.stderr
        _widen(self._stdout)
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        self._timer: threading.Timer | None = None
        if timeout_s is not None:
            self._timer = threading.Timer(timeout_s, self._expire)
            self._timer.daemon = True
            self._timer.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def tail(self) -> str:
        """The last lines of its standard error, as text."""
        return b"".join(self._tail)[-TAIL_BYTES:].decode("utf-8", "replace").strip()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of its output; fewer at the end. Raises MediaError when it was
        killed for its time."""
        data = self._stdout.read(size)
        if len(data) < size and self._timed_out:
            raise _too_slow()
        return data

    def read_all(self, limit: int) -> bytes:
        """Its whole output. Raises MediaError when that is longer than `limit` bytes."""
        data = self.read(limit + 1)
        if len(data) > limit:
            raise MediaError("a media program wrote more than it may")
        return data

    def finish(self) -> int:
        """Wait for its end (its output has been read); its exit code, negative for a signal.

        An exit code of 0 is no proof of success: ffmpeg gives it after a server died. Raises
        MediaError when it was killed for its time.
        """
        code = self._process.wait()
        self._drain.join(GRACE_S)
        if self._timed_out:
            raise _too_slow()
        return code

    def kill(self) -> None:
        """Kill it if it still runs. Any thread may: whoever reads it comes to its end."""
        self._kill()

    def close(self) -> None:
        """Kill it if it still runs, reap it, close its pipes. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._kill()
        self._process.wait()
        self._drain.join(GRACE_S)
        for pipe in (self._stdout, self._stderr):
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _expire(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read_stderr(self) -> None:
        while chunk := os.read(self._stderr.fileno(), TAIL_BYTES):
            self._tail.append(chunk)
            self._tail_size += len(chunk)
            while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
                self._tail_size -= len(self._tail.popleft())


def _widen(pipe: IO[bytes]) -> None:
    """Where the system lets this user have more such pipes; it is as right without."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _environment() -> dict[str, str]:
    """No secrets of ours, no proxies, nothing that changes how a media program behaves."""
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _too_slow() -> MediaError:
    return MediaError("the file took longer to read than it may", code="decode_timeout")
