"""Films whose bytes lie, and the check that looking at them left nothing behind."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts")


# --- MP4 ---------------------------------------------------------------------------------


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Every box of an MP4 at any depth: its type, and where it starts and ends."""
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        (size,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if size < 8:
            return
        yield kind, at, at + size
        if kind in CONTAINERS:
            yield from boxes(data, at + 8, at + size)
        at += size


def claim_duration(data: bytes, seconds: float) -> bytes:
    """An MP4 that says it is so long, in all three places; its edit list goes, which tells the
    truth."""
    changed = bytearray(data)
    movie_scale = 1000
    for kind, at, _ in boxes(data):
        if kind in (b"mvhd", b"mdhd"):  # version 0: times, scale, duration
            (scale,) = struct.unpack_from(">I", data, at + 20)
            struct.pack_into(">I", changed, at + 24, min(2**32 - 1, int(seconds * scale)))
            movie_scale = scale if kind == b"mvhd" else movie_scale
        elif kind == b"tkhd":
            struct.pack_into(">I", changed, at + 28, min(2**32 - 1, int(seconds * movie_scale)))
        elif kind == b"edts":
            changed[at + 4 : at + 8] = b"free"
    return bytes(changed)


def claim_size(data: bytes, width: int, height: int) -> bytes:
    """An MP4 of H.264 that says in its sample entry and track header that it is so large."""
    changed = bytearray(data)
    entry = data.index(b"avc1", data.index(b"stsd"))
    struct.pack_into(">HH", changed, entry + 28, width, height)
    for kind, at, _ in boxes(data):
        if kind == b"tkhd":
            struct.pack_into(">HH", changed, at + 84, width, 0)
            struct.pack_into(">HH", changed, at + 88, height, 0)
    return bytes(changed)


def refer_to(data: bytes, other: Path) -> bytes:
    """An MP4, its index at the end, whose pictures are said to lie in another file: by a `url `
    and by an `alis` reference, the latter as QuickTime writes it."""
    name = os.fsencode(other.name)
    path = os.fsencode(other)
    record = bytearray(150)
    struct.pack_into(">H", record, 6, 2)  # version
    record[50 : 51 + len(name[:63])] = bytes([len(name[:63])]) + name[:63]
    struct.pack_into(">hh", record, 130, 1, 1)  # levels from the file and to it
    record += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2)
    record += struct.pack(">HH", 18, len(path)) + path + b"\0" * (len(path) % 2)
    record += struct.pack(">HH", 0xFFFF, 0)
    struct.pack_into(">H", record, 4, len(record))
    alias = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    url = path + b"\0"
    link = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url
    body = struct.pack(">II", 0, 2) + alias + link
    return _replaced(data, b"dref", struct.pack(">I4s", 8 + len(body), b"dref") + body)


def _replaced(data: bytes, kind: bytes, box: bytes) -> bytes:
    """With every box of a kind replaced; those around it grow. What lies before stays in place."""
    found = [(at, end) for told, at, end in boxes(data) if told == kind]
    around = [(at, end) for told, at, end in boxes(data) if told in CONTAINERS]
    changed = bytearray(data)
    for at, end in around:
        grown = sum(len(box) - (e - a) for a, e in found if at < a and e <= end)
        struct.pack_into(">I", changed, at, end - at + grown)
    for at, end in reversed(found):
        changed[at:end] = box
    return bytes(changed)


# --- other containers --------------------------------------------------------------------


def claim_matroska_duration(data: bytes, milliseconds: float) -> bytes:
    """A Matroska file whose header says that it is so long."""
    at = data.index(b"\x44\x89\x88") + 3  # Duration, eight bytes
    return data[:at] + struct.pack(">d", milliseconds) + data[at + 8 :]


def claim_avi_frames(data: bytes, frames: int) -> bytes:
    """An AVI whose headers say that it has so many frames."""
    changed = bytearray(data)
    struct.pack_into("<I", changed, data.index(b"avih") + 24, frames)
    struct.pack_into("<I", changed, data.index(b"strh") + 40, frames)
    return bytes(changed)


def claim_flv_duration(data: bytes, seconds: float) -> bytes:
    """An FLV whose metadata says that it is so long."""
    at = data.index(b"duration\0") + 9
    return data[:at] + struct.pack(">d", seconds) + data[at + 8 :]


# --- what is left behind -----------------------------------------------------------------


def processes_about(path: Path) -> set[str]:
    """Living processes, whoever's children, whose command line names a path below this one."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if os.fsencode(path) in words:
                found.add(entry.name)
    return found


def children() -> dict[str, str]:
    """Children of this process and their states: Z is a zombie."""
    found: dict[str, str] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:  # the thread has ended meanwhile
            continue
        for pid in pids:
            try:
                found[pid] = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:  # reaped meanwhile
                continue
    return found


@contextmanager
def leaves_nothing(film: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Fails where the block leaves a process, a zombie or a file in one of the folders. A child
    that was there before may have been replaced."""

    def files() -> set[Path]:
        return {path for folder in folders for path in folder.rglob("*")}

    before = len(children()), files()
    yield
    after = children()
    assert "Z" not in after.values(), "a zombie is left"
    assert len(after) <= before[0], "a process is left"
    assert processes_about(film) == set(), "a process is left"
    assert files() <= before[1], "a file is left"
