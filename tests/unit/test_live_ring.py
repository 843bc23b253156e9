"""Which parts of a ring are kept, and which make a clip."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import MediaError
from moderation.live.ring import PACKET, Part, Ring, RingOptions, reaching, stale

NOW = 1_800_000_000.0
OPTIONS = RingOptions(span_s=30.0, max_bytes=1000, part_s=2.0, lead_s=3.0)

rings = st.lists(st.tuples(st.floats(0.0, 12.0), st.integers(0, 700)), max_size=30).map(
    lambda steps: tuple(
        Part(number, NOW - 100 + sum(step for step, _ in steps[: number + 1]), size)
        for number, (_, size) in enumerate(steps)
    )
)


@given(rings, st.floats(-100, 300))
def test_what_is_kept_reaches_back_far_enough_and_is_not_too_much(
    parts: tuple[Part, ...], later: float
) -> None:
    now = NOW + later
    gone = stale(parts, now, OPTIONS)
    assert gone == tuple(part.number for part in parts[: len(gone)])
    kept = parts[len(gone) :]
    assert kept or not parts  # the one that is being written stays
    assert len(kept) <= 1 or sum(part.size for part in kept) <= OPTIONS.max_bytes
    assert len(kept) <= 1 or kept[1].begun_s > now - OPTIONS.span_s
    if gone and sum(part.size for part in parts[len(gone) - 1 :]) <= OPTIONS.max_bytes:
        assert kept[0].begun_s <= now - OPTIONS.span_s  # nothing is thrown away too early


@given(rings, st.floats(-120, 300))
def test_a_clip_begins_with_the_last_part_that_had_begun(
    parts: tuple[Part, ...], later: float
) -> None:
    captured = NOW + later
    found = reaching(parts, captured)
    assert found == parts[len(parts) - len(found) :]
    if parts and parts[0].begun_s <= captured:
        assert found[0].begun_s <= captured
        assert all(part.begun_s > captured for part in found[1:])
    else:
        assert found == parts


def write(ring: Ring, number: int, data: bytes, last_s: float) -> None:
    path = Path(ring.pattern % number)
    path.write_bytes(data)
    os.utime(path, (last_s, last_s))


def packets(count: int, mark: int) -> bytes:
    return bytes([0x47, mark]) + bytes(PACKET - 2) + bytes(PACKET * (count - 1))


def test_a_part_begins_when_the_one_before_it_got_its_last_byte(tmp_path: Path) -> None:
    ring = Ring(tmp_path, RingOptions(span_s=5.0, lead_s=1.0))
    assert ring.begin(NOW) == 0
    for number in range(6):
        write(ring, number, packets(2, number), NOW + 2 * (number + 1))
    assert [part.begun_s for part in ring.parts()] == [NOW + 2 * number for number in range(6)]
    ring.prune(NOW + 12)
    assert [part.number for part in ring.parts()] == [3, 4, 5]
    assert ring.parts()[0].begun_s == NOW + 6  # known although the one before is gone
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n:09d}.ts" for n in (3, 4, 5)]


def test_a_clip_is_whole_packets_of_the_parts_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    ring = Ring(folder, RingOptions(lead_s=1.0))
    ring.begin(NOW)
    for number in range(4):
        write(ring, number, packets(2, number), NOW + 2 * (number + 1))
    write(ring, 4, packets(1, 4) + b"half a packet", NOW + 9)
    clip = ring.freeze(NOW + 5.5, tmp_path / "clip.ts")
    assert clip.begun_s == NOW + 4
    data = clip.path.read_bytes()
    assert data == packets(2, 2) + packets(2, 3) + packets(1, 4)
    assert clip.size == len(data)
    older = ring.freeze(NOW - 50, tmp_path / "older.ts")
    assert older.begun_s == NOW  # it does not reach so far, and says so
    with pytest.raises(FileExistsError):
        ring.freeze(NOW, tmp_path / "clip.ts")


def test_before_the_first_packet_there_is_no_clip(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    ring = Ring(folder, OPTIONS)
    ring.begin(NOW)
    with pytest.raises(MediaError, match="nothing that can be kept"):
        ring.freeze(NOW, tmp_path / "clip.ts")
    write(ring, 0, b"less than a packet", NOW)
    with pytest.raises(MediaError, match="nothing that can be kept"):
        ring.freeze(NOW, tmp_path / "clip.ts")
    assert [path.name for path in tmp_path.iterdir()] == ["ring"]


def test_a_new_attempt_begins_after_the_parts_of_the_last_one(tmp_path: Path) -> None:
    ring = Ring(tmp_path, OPTIONS)
    assert ring.begin(NOW) == 0
    assert ring.begin(NOW + 1) == 0  # nothing came
    write(ring, 0, packets(1, 0), NOW + 2)
    assert ring.begin(NOW + 10) == 1
    write(ring, 1, packets(1, 1), NOW + 12)
    assert [part.begun_s for part in ring.parts()] == [NOW + 1, NOW + 10]
    ring.prune(NOW + 100)
    assert ring.begin(NOW + 101) == 2  # never the number of one that was deleted


def test_freezing_and_pruning_at_once_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    ring = Ring(folder, RingOptions(span_s=4.0, lead_s=0.0))
    ring.begin(NOW)
    over = threading.Event()

    def grow() -> None:
        for number in range(300):
            write(ring, number, packets(3, number % 256), NOW + number + 1)
            ring.prune(NOW + number + 1)
        over.set()

    thread = threading.Thread(target=grow)
    thread.start()
    clips = 0
    while not over.is_set():
        parts = ring.parts()
        if not any(part.size for part in parts):
            continue  # the first one has just been opened
        newest = parts[-1].begun_s
        clip = ring.freeze(newest - 2, tmp_path / f"{clips}.ts")
        data = clip.path.read_bytes()
        assert len(data) == clip.size
        marks = [data[at + 1] for at in range(0, len(data), 3 * PACKET)]
        assert marks == [(marks[0] + step) % 256 for step in range(len(marks))]
        clips += 1
    thread.join(30)
    assert clips > 0
    assert len(ring.parts()) <= 6
