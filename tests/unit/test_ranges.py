"""Which bytes a `Range` header asks for (RFC 9110, section 14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import UnsatisfiableError, part_of


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 99)),
        ("bytes=0-0", (0, 0)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-1000", (90, 99)),
        ("bytes=-1", (99, 99)),
        ("bytes=-1000", (0, 99)),
        # Several, other units, nonsense: a server may answer with all of it.
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=\u0661-", None),
        ("", None),
    ],
)
def test_parts_of_a_hundred_bytes(asked: str | None, part: tuple[int, int] | None) -> None:
    assert part_of(asked, 100) == part


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_there_is_nothing_behind_the_end(asked: str) -> None:
    with pytest.raises(UnsatisfiableError):
        part_of(asked, 100)


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}"), st.integers(1, 10**12))
def test_whatever_is_asked_stays_inside(asked: str, size: int) -> None:
    try:
        part = part_of(asked, size)
    except UnsatisfiableError:
        return
    if part is not None:
        assert 0 <= part[0] <= part[1] < size
