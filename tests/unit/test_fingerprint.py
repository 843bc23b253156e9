"""Copies of a film are found by their frames' hashes, and different films are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.fingerprint import MAX_BITS, MIN_FRAMES, Fingerprint, Match, compare


@dataclass(frozen=True)
class Frame:
    time_s: float
    pdq: str
    quality: int = 100


def scenes(seed: int, count: int) -> list[int]:
    """The hash that a film shows in each of its seconds."""
    random = Random(seed)
    return [random.getrandbits(256) for _ in range(count)]


def changed(hash_: int, bits: int, random: Random) -> int:
    for bit in random.sample(range(256), bits):
        hash_ ^= 1 << bit
    return hash_


def upload(film: Sequence[int], seed: int, *, bits: int = 0, later_s: float = 0.0) -> Fingerprint:
    """A moment somewhere in each second; `bits` of every hash changed by the coding."""
    random = Random(seed)
    return Fingerprint.of(
        Frame(later_s + second + random.random(), f"{changed(hash_, bits, random):064x}")
        for second, hash_ in enumerate(film)
    )


def share(one: Fingerprint, other: Fingerprint, max_shift_s: float = 5.0) -> float:
    return compare(one, other, max_shift_s=max_shift_s).share


def test_a_copy_read_at_other_moments_is_alike() -> None:
    film = scenes(1, 600)
    match = compare(upload(film, 2, bits=15), upload(film, 3, bits=15), max_shift_s=30)
    assert match.share == 1.0
    assert match.alike
    assert match.offset_s == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(("bits", "expected"), [(MAX_BITS, 1.0), (MAX_BITS + 1, 0.0)])
def test_bits_up_to_the_limit_match(bits: int, expected: float) -> None:
    film = scenes(1, 20)
    assert share(upload(film, 2), upload(film, 3, bits=bits)) == expected


def test_different_films_are_not_alike() -> None:
    match = compare(upload(scenes(1, 600), 2), upload(scenes(2, 600), 3), max_shift_s=30)
    assert match == Match(0.0)
    assert not match.alike


def test_the_smaller_part_counts() -> None:
    """A short passage that a long film quotes makes no copy of it."""
    film, other = scenes(1, 100), scenes(2, 90)
    assert share(upload(film[:10], 1), upload(film[:10] + other, 2)) == pytest.approx(0.1)
    assert share(upload(film[:10] + other, 2), upload(film[:10], 1)) == pytest.approx(0.1)


@pytest.mark.parametrize("later_s", [20.0, -20.0])
def test_a_film_behind_a_title_is_found_at_its_offset(later_s: float) -> None:
    film = scenes(1, 200)
    early, late = upload(film, 2), upload(film, 3, later_s=later_s)
    match = compare(late, early, max_shift_s=30)
    assert (match.share, match.offset_s) == (1.0, pytest.approx(later_s, abs=0.3))
    assert share(late, early, max_shift_s=10) == 0.0


def test_the_same_scenes_in_another_order_are_no_copy() -> None:
    film = scenes(1, 100)
    shuffled = Random(5).sample(film, len(film))
    assert share(upload(film, 2), upload(shuffled, 3), max_shift_s=60) < 0.25


def test_a_still_whose_near_duplicates_were_left_out_matches() -> None:
    """One of the two was looked at every 4 s, as far as near-duplicates are left out."""
    film = [hash_ for hash_ in scenes(1, 10) for _ in range(4)]
    every, seldom = upload(film, 2), upload(film, 3)
    kept = Fingerprint(seldom.times[::4], seldom.words[::4])
    assert share(every, kept) == 1.0


def test_plain_frames_and_very_few_say_nothing() -> None:
    film = scenes(1, MIN_FRAMES)
    whole = upload(film, 2)
    assert share(whole, whole) == 1.0
    assert share(whole, upload(film[:-1], 3)) == 0.0
    assert len(Fingerprint.of([Frame(0.0, "00" * 32, quality=49)])) == 0
    nothing = Fingerprint.of([])
    assert compare(nothing, nothing, max_shift_s=5) == Match(0.0)


def test_frames_come_in_any_order_and_survive_the_store() -> None:
    frames = [Frame(float(second), f"{hash_:064x}") for second, hash_ in enumerate(scenes(1, 9))]
    told = Fingerprint.of(reversed(frames))
    read = Fingerprint.load(told.hashes, told.times_packed)
    assert read.times.tolist() == [frame.time_s for frame in frames]
    assert [row.tobytes().hex() for row in read.words] == [frame.pdq for frame in frames]


@pytest.mark.parametrize("pdq", ["", "zz" * 32, "ab" * 31])
def test_a_broken_hash_is_an_error(pdq: str) -> None:
    with pytest.raises(ValueError, match=r"hash|hex|buffer"):
        Fingerprint.of([Frame(0.0, pdq)])


@given(
    first=st.integers(0, 2**32),
    second=st.integers(0, 2**32),
    counts=st.tuples(st.integers(0, 80), st.integers(0, 80)),
    common=st.integers(0, 40),
)
def test_the_order_of_the_two_does_not_matter(
    first: int, second: int, counts: tuple[int, int], common: int
) -> None:
    both = scenes(first ^ second, common)
    one = upload(both + scenes(first, counts[0]), first)
    other = upload(both + scenes(second, counts[1]), second)
    there, back = (compare(a, b, max_shift_s=4.0) for a, b in ((one, other), (other, one)))
    assert 0 <= there.share <= 1
    assert there.alike == back.alike or abs(there.share - 0.25) < 0.1
