"""Hashes near a hash, held against comparing all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.hash_index import BYTES, MAX_DISTANCE, HashIndex


def turned(pdq: bytes, bits: list[int]) -> bytes:
    """The hash with these bits turned over."""
    value = int.from_bytes(pdq, "big")
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(BYTES, "big")


def brute(hashes: list[bytes], pdq: bytes, distance: int) -> list[tuple[int, int]]:
    """(bits, row), by comparing every hash."""
    wanted = int.from_bytes(pdq, "big")
    bits = [(int.from_bytes(one, "big") ^ wanted).bit_count() for one in hashes]
    return sorted((n, row) for row, n in enumerate(bits) if n <= distance)


def found(index: HashIndex, pdq: bytes, distance: int) -> list[tuple[int, int]]:
    rows, bits = index.within(pdq, distance)
    return [(int(n), int(row)) for row, n in zip(rows, bits, strict=True)]


# Far more hashes than are compared one by one, and some in its tail.
CROWD = np.random.default_rng(7).integers(0, 256, (6000, BYTES), np.uint8)
HASHES = [row.tobytes() for row in CROWD]
INDEX = HashIndex(b"".join(HASHES[:5000])).with_more(b"".join(HASHES[5000:]))
a_turn = st.lists(st.integers(0, 255), min_size=0, max_size=40, unique=True)


@settings(max_examples=200)
@given(row=st.integers(0, len(HASHES) - 1), bits=a_turn, distance=st.integers(0, MAX_DISTANCE))
def test_whoever_is_near_is_found_in_a_crowd(row: int, bits: list[int], distance: int) -> None:
    pdq = turned(HASHES[row], bits)
    assert found(INDEX, pdq, distance) == brute(HASHES, pdq, distance)
    assert ((len(bits), row) in found(INDEX, pdq, distance)) is (len(bits) <= distance)


def test_the_bits_may_lie_anywhere() -> None:
    """As few drawers as can be hold one that is 31 bits away: two bits in all words but one."""
    for spared in range(16):
        bits = [16 * word + bit for word in range(16) for bit in (3, 12)]
        bits.remove(16 * spared + 3)
        pdq = turned(HASHES[17], bits)
        assert found(INDEX, pdq, MAX_DISTANCE) == [(MAX_DISTANCE, 17)]


@given(
    hashes=st.lists(st.integers(0, 3).map(lambda n: bytes([n]) * BYTES), max_size=12),
    cut=st.integers(0, 12),
    wanted=st.integers(0, 3),
)
def test_few_and_equal_ones_come_in_order(hashes: list[bytes], cut: int, wanted: int) -> None:
    index = HashIndex(b"".join(hashes[:cut])).with_more(b"".join(hashes[cut:]))
    pdq = bytes([wanted]) * BYTES
    assert len(index) == len(hashes)
    assert found(index, pdq, MAX_DISTANCE) == brute(hashes, pdq, MAX_DISTANCE)


def test_what_grows_stays_what_it_was_for_others() -> None:
    first = HashIndex(HASHES[0])
    grown = first.with_more(b"".join(HASHES))
    assert (len(first), len(grown)) == (1, 6001)
    assert found(first, HASHES[1], 0) == []
    assert found(grown, HASHES[1], 0) == [(0, 2)]
    assert found(grown, HASHES[0], 0) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(("pdq", "distance"), [(b"", 0), (b"x" * 31, 0), (b"x" * 32, 32)])
def test_what_is_no_hash_or_no_distance_is_refused(pdq: bytes, distance: int) -> None:
    with pytest.raises(ValueError, match="no hash"):
        INDEX.within(pdq, distance)
    with pytest.raises(ValueError, match="no hashes"):
        HashIndex(b"x" * 33)
