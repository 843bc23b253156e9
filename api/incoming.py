"""Videos on their way in: files on this machine's disk until the media store has them.

A file is locked by the process that writes it: a file that nobody has locked was left behind by
a crash. What all of them hold together is bounded.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from api.limits import too_large
from moderation.errors import BlobError, OverloadedError
from moderation.ids import new_id
from moderation.sniff import HEAD_BYTES

SUFFIX: Final = ".part"


class Incoming:
    """The folder, and room for `size` bytes in it. Thread-safe.

    Raises BlobError when the folder cannot be used.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._free = size
        self._lock = threading.Lock()
        with _disk_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self) -> int:
        """Remove what dead processes left behind; how many files. Raises BlobError."""
        removed = 0
        with _disk_errors():
            for path in self._folder.glob(f"*{SUFFIX}"):
                with suppress(FileNotFoundError), path.open("rb") as file:
                    if _locked(file):
                        path.unlink()
                        removed += 1
        return removed

    @contextmanager
    def file(self, limit: int, expected: int = 0) -> Iterator[IncomingFile]:
        """A new file of at most `limit` bytes, gone when the block ends. It takes room as it
        grows: who announces much and sends little keeps nobody out. Raises OverloadedError, at
        once where there is no room for `expected` bytes; BlobError."""
        with self._room() as room:
            self._check(expected)
            with _disk_errors():
                path, stream = self._create()
            with stream:
                try:
                    yield IncomingFile(path, stream, limit, room)
                finally:
                    path.unlink(missing_ok=True)

    def _create(self) -> tuple[Path, BinaryIO]:
        while True:
            path = self._folder / f"{new_id('in')}{SUFFIX}"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            stream = os.fdopen(handle, "w+b", buffering=0)
            if _locked(stream) and os.fstat(handle).st_nlink == 1:
                return path, stream
            stream.close()  # another process swept it in the moment before it was locked

    @contextmanager
    def _room(self) -> Iterator[Room]:
        room = Room(self)
        try:
            yield room
        finally:
            self.take(-room.held)

    def take(self, count: int) -> None:
        """Take room, or give it back (a negative number). Raises OverloadedError."""
        with self._lock:
            self._check(count)
            self._free -= count

    def _check(self, count: int) -> None:
        if count > self._free:
            raise OverloadedError("Too many videos come in at once; try again later.")


class Room:
    """The room that one file has."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self.held = 0

    def grow(self, size: int) -> None:
        """Have room for `size` bytes in all. Raises OverloadedError."""
        if size > self.held:
            self._incoming.take(size - self.held)
            self.held = size


class IncomingFile:
    """A file that is being written, by one thread at a time."""

    def __init__(self, path: Path, stream: BinaryIO, limit: int, room: Room) -> None:
        self.path = path
        self.size = 0
        self.head = b""
        self._stream = stream
        self._limit = limit
        self._room = room
        self._sha256 = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def write(self, data: bytes) -> None:
        """Append. Raises LimitError (too_large), OverloadedError, BlobError."""
        size = self.size + len(data)
        if size > self._limit:
            raise too_large(self._limit)
        self._room.grow(size)
        with _disk_errors():
            left = memoryview(data)
            while left:
                left = left[self._stream.write(left) :]
        self._sha256.update(data)
        self.head += data[: HEAD_BYTES - len(self.head)]
        self.size = size


def _locked(file: BinaryIO) -> bool:
    """Whether this process has the file's lock now: nobody else had it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BlobError(f"The folder for incoming videos fails: {error.strerror}.") from error
