"""The tus protocol 1.0 (tus.io) beneath its routes: versions, headers, and pieces on their way."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hmac import compare_digest
from typing import Final, Self

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.deps import Gateway, in_thread
from api.incoming import IncomingFile
from api.problems import problem_for, request_id_of, respond
from api.receive import pour
from moderation.errors import InputError, LimitError
from moderation.store import uploads
from moderation.store.uploads import Part, UploadRow

PATH: Final = "/v1/uploads"
VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,checksum,expiration,termination"
CHECKSUMS: Final = ("sha1", "sha256", "md5")
MEDIA_TYPE: Final = "application/offset+octet-stream"
_PAIR = r"[!-+\--~]+( [A-Za-z0-9+/]*={0,2})?"
METADATA: Final = rf"^({_PAIR}(,{_PAIR})*)?$"
"""Some clients send the header empty."""
PIECE_BYTES: Final = 64 * 1024 * 1024
"""A longer body is stored in pieces of this size: a gateway that dies loses one of them."""
OVERRIDDEN: Final = frozenset({"PATCH", "DELETE", "HEAD"})

_CHECKSUM: Final = re.compile(r"([a-z0-9]+) ([A-Za-z0-9+/]+={0,2})")


class Tus:
    """ASGI middleware for the paths of uploads: every answer names the version, a request of
    another one is refused, and `X-HTTP-Method-Override` is followed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path != PATH and not path.startswith(f"{PATH}/"):
            await self._app(scope, receive, send)
            return
        scope["state"].setdefault("headers", {})["Tus-Resumable"] = VERSION
        headers = Headers(scope=scope)
        method = headers.get("x-http-method-override", "").upper()
        if scope["method"] == "POST" and method in OVERRIDDEN:
            scope["method"] = method
        if scope["method"] != "OPTIONS" and headers.get("tus-resumable") != VERSION:
            error = InputError(f"Send Tus-Resumable: {VERSION}.", code="tus_version")
            problem = problem_for(error, request_id_of(scope))
            await respond(problem, {"Tus-Version": VERSION})(scope, receive, send)
            return
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a piece has to be, by its client."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, header: str | None) -> Self | None:
        """Raises InputError (checksum_unsupported)."""
        if header is None:
            return None
        found = _CHECKSUM.fullmatch(header.strip())
        if found is None or found[1] not in CHECKSUMS:
            known = ", ".join(CHECKSUMS)
            raise InputError(
                f"Upload-Checksum is one of {known}, a blank, and the digest in base64.",
                code="checksum_unsupported",
            )
        try:
            return cls(found[1], base64.b64decode(found[2], validate=True))
        except binascii.Error as error:
            raise InputError(
                "The digest of Upload-Checksum is not base64.", code="checksum_unsupported"
            ) from error


def metadata_of(header: str | None) -> dict[str, str]:
    """`Upload-Metadata` by name, the values in base64 as they came."""
    pairs = (pair.partition(" ") for pair in (header or "").split(",") if pair)
    return {name: value for name, _, value in pairs}


def file_name(metadata: Mapping[str, str]) -> str | None:
    """The file's name in the metadata, where there is one that can be read."""
    value = metadata.get("filename") or metadata.get("name") or ""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace") or None
    except binascii.Error:
        return None  # a name is a courtesy


def facts(row: UploadRow) -> dict[str, str]:
    """The headers that tell how far an upload is."""
    return {
        "Upload-Offset": str(row.received),
        "Upload-Expires": format_datetime(row.expires, usegmt=True),
    }


def expiry(gateway: Gateway) -> datetime:
    """When an upload ends that is touched now; whole seconds, as its header tells them."""
    until = datetime.now(UTC) + timedelta(seconds=gateway.settings.upload_expiry)
    return until.replace(microsecond=0) + timedelta(seconds=1)


async def take(
    gateway: Gateway, row: UploadRow, body: AsyncIterator[bytes], checksum: Checksum | None
) -> UploadRow:
    """The upload with the bytes of a body appended.

    Whatever ends the body early, what came of it is kept, unless it should have been checked as
    a whole. Raises what the body raises, LimitError (too_large) for more than was announced,
    InputError (checksum_mismatch), ConflictError (upload_offset), NotFoundError, OverloadedError,
    BlobError, StoreError.
    """
    pieces = Pieces(gateway, row, checksum)
    whole = False
    try:
        await pour(body, pieces.write, keep=checksum is None)
        whole = True
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(pieces.close, whole=whole)
    return pieces.row


class Pieces:
    """Takes bytes and stores them piece by piece. Blocking; used by one thread at a time."""

    def __init__(self, gateway: Gateway, row: UploadRow, checksum: Checksum | None) -> None:
        self.row = row
        self._gateway = gateway
        self._checksum = checksum
        self._hash = None if checksum is None else hashlib.new(checksum.algorithm)
        self._limit = row.length if checksum is not None else PIECE_BYTES
        self._file: IncomingFile | None = None
        self._held = ExitStack()

    def write(self, data: bytes) -> None:
        size = self._file.size if self._file is not None else 0
        if self.row.received + size + len(data) > self.row.length:
            self._drop()
            raise LimitError(
                f"The upload was announced with {self.row.length} bytes.", code="too_large"
            )
        if self._hash is not None:
            self._hash.update(data)
        while data:
            if self._file is None:
                self._file = self._held.enter_context(self._gateway.incoming.file(self._limit))
            room = self._limit - self._file.size
            self._file.write(data[:room])
            data = data[room:]
            if self._file.size == self._limit and self._checksum is None:
                self._store()

    def close(self, *, whole: bool) -> None:
        """Store what is left. whole: the body came to its end."""
        if self._checksum is not None and self._hash is not None:
            if not whole:
                self._drop()
            elif not compare_digest(self._hash.digest(), self._checksum.digest):
                self._drop()
                raise InputError(
                    "The bytes are not those of the checksum.", code="checksum_mismatch"
                )
        if self._file is not None:
            self._store()

    def _store(self) -> None:
        file, self._file = self._file, None
        assert file is not None  # noqa: S101 - the callers looked
        with self._held:
            key = uploads.part_key(self.row.id, self.row.received)
            part = Part(self.row.received, file.size, key)
            blobs = self._gateway.blobs
            blobs.put_file(key, file.path)
            try:
                self.row = uploads.append(
                    self._gateway.db, self.row, part, expires=expiry(self._gateway)
                )
            except InputError:
                # After any other error nobody knows whether the piece counts: its bytes stay,
                # and go with the upload.
                blobs.delete(key)
                raise

    def _drop(self) -> None:
        self._file = None
        self._held.close()
