"""Where frame packs wait between the one who reads a chunk and the one who scores it.

A pack that is gone costs one more reading of its chunk, so nothing here is made to last: no
flush to disk, and a time to live in Redis.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import ConfigError, ServiceError

TTL_S: Final = 1800
"""Longer than packs wait for a busy infer worker; what nobody fetched is gone then."""
PREFIX: Final = "moderation.pack:"
SOCKET_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 2.0

_DRAFT: Final = ".part-"
_KEY = re.compile(rf"[A-Za-z0-9_]+\.[0-9]+({re.escape(_DRAFT)}\w+)?")


class PackStore(Protocol):
    """Thread-safe. Every method raises ServiceError (packs_unavailable) when the store does not
    answer, or is full. Keys are those of `pack_key`."""

    def put(self, key: str, data: bytes) -> None:
        """Stores all of it or nothing, in place of what was there."""

    def get(self, key: str) -> bytes | None:
        """None: it is not there (any more)."""

    def delete(self, key: str) -> None:
        """Nothing happens when it is not there."""

    def keys(self) -> set[str]:
        """What is there; half-written packs as well, under a key of their own."""


def pack_key(job_id: str, number: int) -> str:
    """The pack of a chunk. One name for all attempts: they read the same."""
    return _checked(f"{job_id}.{number}")


def chunk_of(key: str) -> tuple[str, int]:
    """The job and the number of the chunk that a key is of, also that of a half-written pack."""
    job_id, number = _checked(key).split(".")[:2]
    return job_id, int(number)


def open_packs(url: str) -> PackStore:
    """`file:///folder` (made when missing), or the URL of a Redis as redis-py spells it.

    Raises ConfigError.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderPacks(Path(unquote(parts.path)))
    if parts.scheme in ("redis", "rediss", "unix"):
        return RedisPacks(url)
    raise ConfigError("pack_url is neither file:///folder nor redis://host")


class FolderPacks:
    """Files in a folder of this machine, renamed into place.

    On disk, not in /dev/shm: containers have 64 MiB of that, and it counts as memory. A pack
    lives for seconds, mostly in the page cache.
    """

    def __init__(self, root: Path) -> None:
        """Raises ConfigError when the folder cannot be made."""
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)  # they show what users sent
        except OSError as error:
            raise ConfigError(f"cannot keep frame packs in {root}: {error.strerror}") from error

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _file_errors():
            handle, draft = tempfile.mkstemp(dir=self._root, prefix=f"{key}{_DRAFT}")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(draft).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(draft).unlink()
                raise

    def get(self, key: str) -> bytes | None:
        with _file_errors():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    def delete(self, key: str) -> None:
        with _file_errors():
            self._path(key).unlink(missing_ok=True)

    def keys(self) -> set[str]:
        with _file_errors():
            names = os.listdir(self._root)  # noqa: PTH208 - names are all that is needed
        return {name for name in names if _KEY.fullmatch(name)}

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)


class RedisPacks:
    """Strings of a Redis, with a time to live."""

    def __init__(self, url: str) -> None:
        """Connects at the first use. Raises ConfigError for a URL that cannot be used."""
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                # A pooled connection may be left over from a server that restarted.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )
        except ValueError as error:
            raise ConfigError("pack_url cannot be used") from error

    def put(self, key: str, data: bytes) -> None:
        with _redis_errors():
            self._client.set(PREFIX + _checked(key), data, ex=TTL_S)

    def get(self, key: str) -> bytes | None:
        with _redis_errors():
            found: bytes | None = self._client.get(PREFIX + _checked(key))
            return found

    def delete(self, key: str) -> None:
        with _redis_errors():
            self._client.unlink(PREFIX + _checked(key))

    def keys(self) -> set[str]:
        with _redis_errors():
            found = self._client.scan_iter(match=f"{PREFIX}*", count=1000)
            return {name.decode().removeprefix(PREFIX) for name in found}


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not the key of a frame pack: {key!r}")
    return key


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceError(
            f"the folder of frame packs does not work: {error.strerror}", code="packs_unavailable"
        ) from error


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise ServiceError(
            "the store of frame packs does not answer, or is full", code="packs_unavailable"
        ) from error
