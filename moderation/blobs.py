"""Media bytes by key: a folder, or an S3-compatible store."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from moderation.errors import BlobError, ConfigError, NotFoundError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
CHUNK = 1024 * 1024
"""Bytes of a large blob that lie in memory at once."""


class BlobStore(Protocol):
    """Thread-safe. Every method raises BlobError when the store does not answer, and ValueError
    for a key that is not made of plain path parts."""

    def put(self, key: str, data: bytes) -> None:
        """Stores all of it or nothing, in place of what was there."""

    def put_file(self, key: str, path: Path) -> None:
        """The same with the bytes of a file, of any size. Nobody may write to that file from
        now on (it may become the blob itself), but its name may be removed."""

    def get(self, key: str) -> bytes:
        """Raises NotFoundError (blob_missing)."""

    def exists(self, key: str) -> bool: ...

    def size(self, key: str) -> int:
        """In bytes. Raises NotFoundError (blob_missing)."""

    def open_range(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """`length` bytes from `start` on, in chunks; fewer only where the blob ends. Errors, also
        NotFoundError (blob_missing), come with the first chunk."""

    def local(self, key: str, folder: Path) -> AbstractContextManager[Path]:
        """A file of this machine with the bytes, to be read alone: the blob itself, or a copy
        in `folder`, which has to be there and is given back. Raises NotFoundError
        (blob_missing)."""

    def delete(self, key: str) -> None:
        """Nothing happens when it is not there."""

    def delete_below(self, prefix: str) -> None:
        """Every blob whose key begins with `prefix` and a slash."""

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
        with _file_errors(), self._placed(key) as partial:
            partial.write_bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        with _file_errors(), self._placed(key) as partial:
            _sync(path)
            try:
                partial.unlink()
                partial.hardlink_to(path)
            except OSError:  # another file system, or one without links
                partial.touch(0o600)
                with path.open("rb") as source, partial.open("wb") as copy:
                    shutil.copyfileobj(source, copy, CHUNK)
                _sync(partial)
            partial.chmod(0o600)

    def get(self, key: str) -> bytes:
        with _file_errors():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError as error:
                raise _missing(key) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        with _file_errors():
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError as error:
                raise _missing(key) from error

    def open_range(self, key: str, start: int, length: int) -> Iterator[bytes]:
        with _file_errors():
            try:
                file = self._path(key).open("rb")
            except FileNotFoundError as error:
                raise _missing(key) from error
            with file:
                file.seek(start)
                left = length
                while left > 0 and (chunk := file.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk

    @contextmanager
    def local(self, key: str, folder: Path) -> Iterator[Path]:
        if not self.exists(key):
            raise _missing(key)
        yield self._path(key)

    def delete(self, key: str) -> None:
        with _file_errors():
            self._path(key).unlink(missing_ok=True)

    def delete_below(self, prefix: str) -> None:
        with _file_errors(), suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def ping(self) -> None:
        if not os.access(self._partial, os.W_OK | os.X_OK):
            raise BlobError("The media folder cannot be written.")

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)

    @contextmanager
    def _placed(self, key: str) -> Iterator[Path]:
        """An empty file to fill; it takes its place when the block ends without an error."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._partial)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.replace(path)
        finally:
            # Gone already, but after an error, and where both names were one file: a rename
            # leaves those as they are.
            with suppress(FileNotFoundError):
                partial.unlink()


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

    def put_file(self, key: str, path: Path) -> None:
        # In parts, several at once, for a large one; the parts of one that fails are removed.
        with _s3_errors(), path.open("rb") as file:
            self._client.upload_fileobj(file, self._bucket, self._name(key))

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

    def size(self, key: str) -> int:
        with _s3_errors(key):
            found = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
            return int(found["ContentLength"])

    def open_range(self, key: str, start: int, length: int) -> Iterator[bytes]:
        if length <= 0 or start >= self.size(key):  # S3 knows no empty range
            return
        wanted = f"bytes={start}-{start + length - 1}"
        with _s3_errors(key):
            found = self._client.get_object(Bucket=self._bucket, Key=self._name(key), Range=wanted)
            with closing(found["Body"]) as body:
                yield from body.iter_chunks(CHUNK)

    @contextmanager
    def local(self, key: str, folder: Path) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="blob-") as copy:
            with _s3_errors(key):
                self._client.download_fileobj(self._bucket, self._name(key), copy)
                copy.flush()
            yield Path(copy.name)

    def delete(self, key: str) -> None:
        with _s3_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def delete_below(self, prefix: str) -> None:
        with _s3_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._name(prefix)}/"
            )
            for page in pages:  # of at most 1000, which is as many as one request may delete
                names = [{"Key": found["Key"]} for found in page.get("Contents", ())]
                if not names:
                    continue
                done = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": names, "Quiet": True}
                )
                if done.get("Errors"):
                    raise BlobError("The media store did not delete all that it was told to.")

    def ping(self) -> None:
        with _s3_errors():
            self._client.head_bucket(Bucket=self._bucket)

    def _name(self, key: str) -> str:
        return self._prefix + _checked(key)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key!r}")
    return key


def _sync(path: Path) -> None:
    """Hold the file's bytes on the disk: the database may promise them from now on."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


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
