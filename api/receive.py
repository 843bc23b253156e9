"""Bodies of any length: read while they come, a mebibyte at a time, never held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.bodies import MAX_FIELD, MAX_FIELDS, no_file
from api.deps import Gateway, in_thread
from api.incoming import IncomingFile
from moderation.errors import InputError, LimitError

AT_ONCE: Final = 1024 * 1024
"""Bytes that are handed to a thread at once."""


@asynccontextmanager
async def file(gateway: Gateway, expected: int = 0) -> AsyncIterator[IncomingFile]:
    """A new file for a video, gone when the block ends. Raises OverloadedError, at once where
    there is no room for `expected` bytes; BlobError."""
    limit = gateway.settings.max_video_bytes
    made = gateway.incoming.file(limit, min(expected, limit))
    opened = await in_thread(made.__enter__)
    try:
        yield opened
    finally:
        # In a thread, as removing gigabytes takes its time; and whoever is cancelled, too.
        with anyio.CancelScope(shield=True):
            await in_thread(made.__exit__, None, None, None)


async def pour(
    pieces: AsyncIterator[bytes], write: Callable[[bytes], object], *, keep: bool = False
) -> None:
    """Hand all pieces to the blocking `write`, about a mebibyte at a time.

    keep: where the pieces end by an error, what came before it is written all the same.
    """
    waiting: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= AT_ONCE:
                data = b"".join(waiting)
                waiting, size = [], 0
                await in_thread(write, data)
    except Exception:
        if keep and waiting:
            await in_thread(write, b"".join(waiting))
        raise
    if waiting:
        await in_thread(write, b"".join(waiting))


class FilePart:
    """The one file of a multipart body: its bytes while they come, and then its name.

    Other fields are passed over. Raises InputError (malformed_multipart, file_missing) and
    LimitError (too_many_parts).
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        _, options = parse_options_header(headers["content-type"])
        if b"boundary" not in options:
            raise _malformed("Missing boundary in multipart.")
        self.name: str | None = None
        self._found = self._ended = self._inside = False
        self._parts = self._field = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._data: list[bytes] = []
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._take,
                    "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                    "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed() from error

    async def read(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The file's bytes out of the body's."""
        async for piece in body:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise _malformed() from error
            if self._data:
                data, self._data = b"".join(self._data), []
                yield data
        if not self._ended and self._parts:
            raise _malformed("The multipart body ends early.")
        if not self._found:
            raise no_file()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise LimitError(f"Too many parts: {MAX_FIELDS} are read.", code="too_many_parts")
        self._inside = False
        self._field = 0
        self._disposition = b""

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _malformed("A part has no name.")
        if options[b"name"] not in (b"file", b"files") or b"filename" not in options:
            return
        if self._found:
            raise LimitError("Too many files: one is read.", code="too_many_parts")
        self._found = self._inside = True
        self.name = options[b"filename"].decode("utf-8", "replace")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._data.append(data[start:end])
            return
        self._field += end - start
        if self._field > MAX_FIELD:
            raise _malformed("A field is too long.")

    def _end(self) -> None:
        self._ended = True


def _malformed(detail: str = "Invalid multipart data.") -> InputError:
    return InputError(detail, code="malformed_multipart")
