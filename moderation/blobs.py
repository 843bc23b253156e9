"""Media bytes by key: a folder, or an S3-compatible store."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from moderation.errors import BlobError, ConfigError, NotFoundError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class BlobStore(Protocol):
    """Thread-safe. Every method raises BlobError when the store does not answer, and ValueError
    for a key that is not made of plain path parts."""

    def put(self, key: str, data: bytes) -> None:
        """Stores all of it or nothing, in place of what was there."""

    def get(self, key: str) -> bytes:
        """Raises NotFoundError (blob_missing)."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Nothing happens when it is not there."""

    def ping(self) -> None:
        """Returns when the store can be used."""


def blob_key(tenant: str, sha256: str) -> str:
    """`<tenant>/<first two digits>/<sha256>`. Raises ValueError for other texts."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("sha256 is 64 lower-case hexadecimal digits")
    return _checked(f"{tenant}/{sha256[:2]}/{sha256}")


def open_blobs(url: str, *, endpoint: str | None = None) -> BlobStore:
    """`file:///folder` (made when missing) or `s3://bucket/prefix`.

    `endpoint`: URL of an S3-compatible store. Raises ConfigError, BlobError.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderBlobs(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Blobs(parts.netloc, parts.path.strip("/"), endpoint=endpoint)
    raise ConfigError("blob_url is neither file:///folder nor s3://bucket/prefix")


class FolderBlobs:
    """Files below a folder, renamed into place: a reader sees whole files alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Beside the files, as a rename works only inside one file system.
        self._partial = root / ".partial"
        with _file_errors():
            self._partial.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _file_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._partial)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise

    def get(self, key: str) -> bytes:
        with _file_errors():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError as error:
                raise _missing(key) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        with _file_errors():
            self._path(key).unlink(missing_ok=True)

    def ping(self) -> None:
        if not os.access(self._partial, os.W_OK | os.X_OK):
            raise BlobError("The media folder cannot be written.")

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)


class S3Blobs:
    """Objects of a bucket below a prefix. Credentials come as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str, *, endpoint: str | None = None) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as error:
            raise ConfigError("S3 needs boto3: pip install 'moderation[s3]'") from error
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"max_attempts": 3, "mode": "standard"},
            max_pool_connections=32,
        )
        with _s3_errors():
            self._client: Any = boto3.client("s3", endpoint_url=endpoint, config=config)

    def put(self, key: str, data: bytes) -> None:
        with _s3_errors():
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def get(self, key: str) -> bytes:
        with _s3_errors(key):
            found = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            return bytes(found["Body"].read())

    def exists(self, key: str) -> bool:
        try:
            with _s3_errors(key):
                self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        with _s3_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def ping(self) -> None:
        with _s3_errors():
            self._client.head_bucket(Bucket=self._bucket)

    def _name(self, key: str) -> str:
        return self._prefix + _checked(key)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key!r}")
    return key


def _missing(key: str) -> NotFoundError:
    return NotFoundError(f"The media {key} is not in the store.", code="blob_missing")


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BlobError(f"The media folder does not work: {error.strerror}.") from error


@contextmanager
def _s3_errors(key: str | None = None) -> Iterator[None]:
    """`key`: of the object that may be missing."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if key is not None and code in MISSING:
            raise _missing(key) from error
        raise BlobError(f"The media store refused a request: {code}.") from error
    except (BotoCoreError, OSError) as error:
        raise BlobError("The media store does not answer.") from error
