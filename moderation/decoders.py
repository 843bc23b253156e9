"""The pool of decoder children: hostile bytes are parsed in processes that may be killed.

A child is `python -m moderation.decoder_child`; it gets a picture's bytes and a file for the
pixels as anonymous shared memory (an unnamed memfd on Linux, an unlinked temporary file
elsewhere): nothing can stay behind in /dev/shm, whoever dies. What comes back from a child is
checked before it is used, since a picture may have taken the child over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moderation.decoder_wire import (
    anonymous_file,
    output_bytes,
    receive,
    send,
    to_refusal,
    to_request,
    to_result,
)
from moderation.errors import (
    MediaError,
    OverloadedError,
    ServiceError,
)
from moderation.images import DecodePlan
from moderation.settings import Settings
from moderation.sniff import HEAD_BYTES, sniff
from moderation.types import DecodedImage

LARGE_PIXELS = 12_000_000
LARGE_JPEG_PIXELS = 50_000_000
"""From here on a picture is decoded while no other large one is. A JPEG is made smaller while
it is decoded, the others are held whole, several times over."""
LARGE_TURNS = 6
"""A large picture waits so many times the time limit for its turn: a worker has many in hand,
and one that gives up has used up an attempt."""
START_SECONDS = 60.0
"""A child that takes longer to start is given up: a sick machine, not a bad picture."""

_KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class DecoderPool:
    """At most `size` children, each decoding one picture at a time. Thread-safe.

    timeout_s: seconds a picture may take, from the moment a child has it; also how long a
    caller waits for a free child. memory_mib: what a child may allocate beyond what it holds
    after its start; only one child at a time gets a picture that may need much of it, so that
    all together stay far below `size` times as much. recycle: pictures after which a child is
    replaced by a fresh one.
    """

    def __init__(self, size: int, *, timeout_s: float, memory_mib: int, recycle: int) -> None:
        self._size = size
        self._timeout_s = timeout_s
        self._memory_mib = memory_mib
        self._recycle = recycle
        self._free = threading.BoundedSemaphore(size)
        self._large = threading.Lock()
        self._lock = threading.Lock()
        self._idle: deque[_Child] = deque()
        self._all: set[_Child] = set()
        self._closed = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A pool as the settings describe it; children start when first needed."""
        return cls(
            settings.decoders,
            timeout_s=settings.decode_timeout,
            memory_mib=settings.decode_memory_mib,
            recycle=settings.decode_recycle,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living children."""
        with self._lock:
            return tuple(child.pid for child in self._all)

    def warm(self) -> None:
        """Start all children now and wait until they are ready. Raises ServiceError."""
        taken: list[_Child] = []
        try:
            for _ in range(self._size):
                self._free.acquire()
                try:
                    taken.append(self._take())
                except BaseException:
                    self._free.release()
                    raise
            for child in taken:
                child.wait_ready()
        finally:
            for child in taken:
                self._give_back(child)
                self._free.release()

    def decode(
        self, data: bytes, plan: DecodePlan, *, timeout_s: float | None = None
    ) -> DecodedImage:
        """Decode in a child. Blocks for at most twice `timeout_s` (default: the pool's), and
        `LARGE_TURNS` times more with a large picture, which waits for its turn among those.

        Raises MediaError as `decode_image` does, and with the codes decode_timeout,
        decode_memory and decode_crashed when the child had to be, or was, ended;
        OverloadedError when no child became free in time; ServiceError when no child can be
        started or the pool is closed. The arrays of the result are read-only.
        """
        limit = self._timeout_s if timeout_s is None else timeout_s
        with self._turn(data, limit):
            return self._decode(data, plan, limit)

    @contextlib.contextmanager
    def _turn(self, data: bytes, limit: float) -> Iterator[None]:
        """Before a child is taken: a large picture that waits keeps none from the others."""
        if not is_large(data):
            yield
            return
        patience = LARGE_TURNS * limit
        if not self._large.acquire(timeout=patience):
            raise OverloadedError(f"other large pictures were decoded for {patience:g} s")
        try:
            yield
        finally:
            self._large.release()

    def _decode(self, data: bytes, plan: DecodePlan, limit: float) -> DecodedImage:
        if not self._free.acquire(timeout=limit):
            raise OverloadedError(f"all {self._size} decoders were busy for {limit:g} s")
        try:
            for _ in range(self._size):
                with contextlib.suppress(_NeverAskedError):
                    return self._decode_once(data, plan, limit)
            return self._decode_once(data, plan, limit)
        except _NeverAskedError as error:
            raise ServiceError("the decoder processes die without a picture") from error
        finally:
            self._free.release()

    def _decode_once(self, data: bytes, plan: DecodePlan, limit: float) -> DecodedImage:
        child = self._take()
        try:
            return child.decode(data, plan, limit)
        except MediaError as error:
            if child.owes and self._closed:
                raise ServiceError("the decoder pool is closed") from error
            raise
        except OSError as error:
            raise ServiceError(f"cannot hand a picture to a decoder: {error}") from error
        finally:
            # Whatever happened: a child that still owes an answer is in doubt.
            if child.owes:
                child.kill()
            self._give_back(child)

    def close(self) -> None:
        """End all children, busy ones too, and wait for them. May be called twice."""
        with self._lock:
            self._closed = True
            idle, every = tuple(self._idle), tuple(self._all)
            self._idle.clear()
        for child in every:
            child.kill()
        for child in idle:  # a busy one's files belong to the thread that waits for it
            self._drop(child)

    def _start(self) -> _Child:
        with self._lock:
            if self._closed:
                raise ServiceError("the decoder pool is closed")
            child = _Child(self._memory_mib)
            self._all.add(child)
            return child

    def _take(self) -> _Child:
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return self._start()
            if child.alive:
                return child
            self._drop(child)

    def _give_back(self, child: _Child) -> None:
        worn = child.decoded >= self._recycle
        if child.alive and not worn:
            with self._lock:
                if not self._closed:
                    self._idle.append(child)
                    return
        self._drop(child)
        if worn:
            # The successor starts beside the others' work, and is taken last.
            with contextlib.suppress(ServiceError):
                successor = self._start()
                with self._lock:
                    self._idle.appendleft(successor)

    def _drop(self, child: _Child) -> None:
        child.dispose()
        with self._lock:
            self._all.discard(child)


def is_large(data: bytes) -> bool:
    """Whether a picture may need much memory, by its header; also when that does not tell."""
    try:
        told = sniff(data[:HEAD_BYTES])
    except MediaError:
        return False  # refused before anything is decoded
    if told.width is None or told.height is None:
        return True
    return told.width * told.height > (LARGE_JPEG_PIXELS if told.format == "jpeg" else LARGE_PIXELS)


class _NeverAskedError(Exception):
    """The child was dead before it read the request: another one may be asked."""


class _Child:
    """One decoder process. Used by one thread at a time, but for `kill`."""

    def __init__(self, memory_mib: int) -> None:
        self.decoded = 0
        self.owes = False
        """It has a picture and has not answered for it."""
        self._ready = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "moderation.decoder_child", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                start_new_session=True,  # Ctrl-C goes to the parent alone
            )
        self._socket = ours
        self._kill_lock = threading.Lock()
        send(ours, {"memory_mib": memory_mib})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        if self._ready:
            return
        try:
            receive(self._socket, time.monotonic() + START_SECONDS)
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            raise ServiceError("a decoder process did not start") from error
        self._ready = True

    def decode(self, data: bytes, plan: DecodePlan, timeout_s: float) -> DecodedImage:
        self.wait_ready()
        source = anonymous_file(len(data))
        target = anonymous_file(output_bytes(plan))
        try:
            _write(source, data)
            deadline = time.monotonic() + timeout_s
            self.owes = True
            reply = self._ask(to_request(plan, timeout_s), (source, target), deadline)
            self.owes = False
            self.decoded += 1
            try:
                if "error" in reply:
                    raise to_refusal(reply)
                return to_result(reply, plan, target)
            except (KeyError, TypeError, ValueError) as error:
                self.owes = True
                raise _crashed("gave an answer that makes no sense") from error
        finally:
            os.close(source)
            os.close(target)

    def _ask(
        self, request: dict[str, Any], fds: tuple[int, int], deadline: float
    ) -> dict[str, Any]:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            send(self._socket, request, fds)
            reply, unasked = receive(self._socket, deadline)
        except TimeoutError as error:
            raise MediaError(
                f"decoding the picture took longer than {request['timeout_s']:g} s",
                code="decode_timeout",
            ) from error
        except ConnectionError as error:  # closed with our request unread
            raise _NeverAskedError from error
        except EOFError as error:
            raise self._died() from error
        except ValueError as error:
            raise _crashed("gave an answer that makes no sense") from error
        for fd in unasked:
            os.close(fd)
        return reply

    def _died(self) -> MediaError:
        self.kill()
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return MediaError("decoding the picture took too much CPU time", code="decode_timeout")
        return _crashed(f"ended with {_how(code)}")

    def kill(self) -> None:
        """End the process; from any thread. A thread that waits for an answer wakes."""
        with self._kill_lock:
            self._process.kill()
            self._process.wait()

    def dispose(self) -> None:
        """End the process and free what belongs to it; when no thread waits for it."""
        self.kill()
        self._socket.close()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _environment() -> dict[str, str]:
    """What a child needs, and none of the parent's secrets."""
    env = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return (
        env
        | dict.fromkeys(_THREADS, "1")
        | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    )


def _crashed(how: str) -> MediaError:
    return MediaError(f"the decoder {how} at this picture", code="decode_crashed")


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
