"""Media as files of this machine, for programs that read no store.

A folder's file is read where it lies. What comes from elsewhere is fetched once for the chunks
that are read of it, one after the other, and a little longer.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from moderation.blobs import BlobStore
from moderation.errors import BlobError

KEPT: Final = 2
"""Fetched files that are kept although nobody reads them at the moment."""
LOCK: Final = "lock"


@dataclass(slots=True)
class _Held:
    users: int = 0
    path: Path | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    turn: threading.Lock = field(default_factory=threading.Lock)


class LocalFiles:
    """Used by many threads. As a context manager: leaving it deletes what was fetched."""

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._lock = threading.Lock()
        # In the order of their last use.
        self._held: dict[str, _Held] = {}

    @contextmanager
    def open(self, blob_key: str) -> Iterator[Path]:
        """Path of the file while it is used. Raises NotFoundError (blob_missing), BlobError."""
        with self._lock:
            held = self._held.pop(blob_key, None) or _Held()
            self._held[blob_key] = held
            held.users += 1
        try:
            with held.turn:  # whoever comes second waits for the first one's download
                if held.path is None:
                    held.path = held.stack.enter_context(self._blobs.local(blob_key, self._folder))
            yield held.path
        finally:
            self._leave(blob_key, held)

    def _leave(self, blob_key: str, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            fetched = held.path is not None and held.path.is_relative_to(self._folder)
            idle = [key for key, one in self._held.items() if one.users == 0]
            drop = idle[: max(0, len(idle) - KEPT)]
            if held.users == 0 and not fetched and blob_key not in drop:
                drop.append(blob_key)
            closing = [self._held.pop(key) for key in drop]
        for one in closing:
            one.stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            closing, self._held = list(self._held.values()), {}
        for one in closing:
            one.stack.close()


@contextmanager
def own_folder(root: Path) -> Iterator[Path]:
    """A new folder below `root` for this process alone. What dead processes left there is
    deleted: the kernel lets go of their locks however they end. Raises BlobError."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.iterdir():
            _delete_if_dead(left)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise BlobError(f"cannot keep files in {root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _delete_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it is just being made, or deleted by somebody else
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
