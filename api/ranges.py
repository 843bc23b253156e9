"""Stored bytes as an answer, whole or in part (RFC 9110, ranges): players jump in a film."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from fastapi import Header
from starlette.responses import Response, StreamingResponse

from api.deps import Gateway, in_thread
from api.problems import respond
from moderation.types import Problem

RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

SAFE: Final = {
    "Cache-Control": "private",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of media: a browser shows them, and does nothing else with them."""

AskedRange = Annotated[
    str | None, Header(alias="Range", description="one range of bytes", max_length=100)
]


class UnsatisfiableError(ValueError):
    """A range that begins behind the last byte."""


def part_of(asked: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a `Range` header; None: all of it, also for what is no single range
    of bytes, which one may ignore. Raises UnsatisfiableError."""
    found = RANGE.fullmatch(asked.strip()) if asked else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:  # the last so many bytes
        if int(last) == 0:
            raise UnsatisfiableError
        return max(0, size - int(last)), size - 1
    start, end = int(first), int(last) if last else size - 1
    if last and end < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return start, min(end, size - 1)


async def stored(
    gateway: Gateway,
    key: str,
    size: int,
    asked: str | None,
    *,
    media_type: str,
    headers: Mapping[str, str],
    request_id: str | None,
) -> Response:
    """Bytes of the media store, streamed. Raises NotFoundError (blob_missing), BlobError before
    the answer has begun."""
    told = {**headers, "Accept-Ranges": "bytes"}
    try:
        part = part_of(asked, size)
    except UnsatisfiableError:
        problem = Problem(
            title="Range not satisfiable",
            status=416,
            code="range_invalid",
            detail=f"There are {size} bytes.",
            request_id=request_id,
        )
        return respond(problem, {**told, "Content-Range": f"bytes */{size}"})
    start, end = part or (0, size - 1)
    if part is not None:
        told["Content-Range"] = f"bytes {start}-{end}/{size}"
    told["Content-Length"] = str(end - start + 1)
    chunks = gateway.blobs.open_range(key, start, end - start + 1)
    first = await in_thread(next, chunks, b"")
    return StreamingResponse(
        _after(first, chunks), 200 if part is None else 206, headers=told, media_type=media_type
    )


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
