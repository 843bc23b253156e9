"""The file of a multipart body comes out as it went in, however the body is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.receive import AT_ONCE, FilePart, pour
from moderation.errors import InputError

BOUNDARY = b"xX"
TYPE = {"content-type": "multipart/form-data; boundary=xX"}
HEAD = b'--xX\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
# Bytes that look like the parser's own marks, in any mixture.
tricky = st.lists(
    st.sampled_from(
        [b"\r\n--xX", b"--xX", b"\r\n--", b"\r", b"\n", b"--", b"x", b"\0", b"\r\n\r\n"]
    ),
    max_size=30,
).map(b"".join)


async def parts(data: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        yield data[start:end]


def read(body: bytes, cuts: Sequence[int]) -> tuple[bytes, str | None]:
    part = FilePart(TYPE)

    async def run() -> bytes:
        return b"".join([piece async for piece in part.read(parts(body, cuts))])

    return asyncio.run(run()), part.name


@given(
    data=st.one_of(st.binary(max_size=300), tricky),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    fields=st.integers(0, 2),
)
def test_a_file_comes_out_as_it_went_in(data: bytes, cuts: list[int], fields: int) -> None:
    if b"\r\n--xX" in b"\r\n" + data:
        data = data.replace(b"--xX", b"--xx")
    field = b'--xX\r\nContent-Disposition: form-data; name="note"\r\n\r\nsome text\r\n'
    body = field * fields + HEAD % "näme.mp4".encode() + data + b"\r\n" + field * fields
    assert read(body + b"--xX--\r\n", cuts) == (data, "näme.mp4")


@given(
    body=st.one_of(st.binary(max_size=200), tricky.map(lambda tail: HEAD % b"a" + tail)),
    cuts=st.lists(st.integers(0, 500), max_size=4),
)
def test_any_bytes_are_a_file_or_an_error_of_ours(body: bytes, cuts: list[int]) -> None:
    try:
        read(body, cuts)
    except InputError as error:
        assert error.code in {"malformed_multipart", "file_missing", "too_many_parts"}  # noqa: PT017


@pytest.mark.parametrize("end", range(1, 12))
def test_a_body_that_ends_early_is_no_file(end: int) -> None:
    whole = HEAD % b"a" + b"film" + b"\r\n--xX--\r\n"
    with pytest.raises(InputError) as error:
        read(whole[: -2 - end], [])
    assert error.value.code == "malformed_multipart"


@given(st.lists(st.integers(0, 3 * AT_ONCE // 2), max_size=6))
def test_pieces_are_written_a_mebibyte_at_a_time(sizes: list[int]) -> None:
    written: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number, size in enumerate(sizes):
            yield bytes([number]) * size

    asyncio.run(pour(pieces(), written.append))
    whole = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert b"".join(written) == whole
    assert all(len(data) >= AT_ONCE for data in written[:-1])
    assert all(len(data) < AT_ONCE + 3 * AT_ONCE // 2 for data in written)


@pytest.mark.parametrize("keep", [False, True])
def test_what_came_before_an_error_is_kept_where_it_counts(keep: bool) -> None:
    written: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"came"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(pour(pieces(), written.append, keep=keep))
    assert written == ([b"came"] if keep else [])
