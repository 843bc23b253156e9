"""Request bodies, read up to a limit: raw bytes, JSON, or multipart files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from api.limits import too_large
from api.problems import describe
from moderation.errors import InputError, LimitError, UnsupportedMediaError

T = TypeVar("T", bound=BaseModel)

MULTIPART = "multipart/form-data"
JSON = "application/json"
RAW = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
"""What `curl --data-binary @photo.jpg` calls any body: read as raw bytes, told by its header."""
MAX_JSON = 16 * 1024
MAX_FIELD = 64 * 1024
MAX_FIELDS = 16
SPOOL_BYTES = 8 * 1024 * 1024
"""A part of up to this size stays in memory; a larger one goes to a temporary file."""


class _Parser(MultiPartParser):
    spool_max_size = SPOOL_BYTES


def media_type(request: Request) -> str:
    """The body's media type in lower case, without parameters; raw bytes when it is not told."""
    given = request.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower() or RAW


def unsupported(kind: str, known: str) -> UnsupportedMediaError:
    """The error for a body of a media type that the route does not read."""
    shown = kind if len(kind) <= 80 and kind.isascii() and kind.isprintable() else "this type"
    return UnsupportedMediaError(
        f"The body is {shown}; send {known}.", code="unsupported_content_type"
    )


def no_file() -> InputError:
    """The error for a multipart body without a usable `file` part."""
    return InputError("The form needs a part `file` with a file name.", code="file_missing")


async def read(request: Request, limit: int) -> bytes:
    """The body, which the caller may not make longer than `limit` bytes. Raises LimitError."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, model: type[T]) -> T:
    """A small JSON body. Raises InputError for anything that is not the model."""
    data = await read(request, MAX_JSON)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        told = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise InputError(describe(told)) from error


async def only_json(request: Request, model: type[T]) -> T:
    """As `read_json`. Raises UnsupportedMediaError for a body that does not say it is JSON."""
    kind = media_type(request)
    if kind != JSON:
        raise unsupported(kind, JSON)
    return await read_json(request, model)


@asynccontextmanager
async def files(request: Request, *, at_most: int) -> AsyncIterator[list[UploadFile]]:
    """The files of a multipart body named `file` or `files`, in order; closed afterwards.

    Raises LimitError (too_many_parts) and InputError (malformed_multipart).
    """
    parser = _Parser(
        request.headers,
        request.stream(),
        max_files=at_most,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise LimitError(error.message, code="too_many_parts") from error
        raise InputError(error.message, code="malformed_multipart") from error
    except ValueError as error:  # a charset whose decoder raises more than UnicodeDecodeError
        raise InputError("Invalid multipart data.", code="malformed_multipart") from error
    try:
        yield [
            value
            for name, value in form.multi_items()
            if name in ("file", "files") and isinstance(value, UploadFile)
        ]
    finally:
        await form.close()
