"""Frame packs: what reading one chunk gave, ready to be scored somewhere else.

A pack is plain numbers: no part of the file is in it, and reading one parses nothing but a
header of our own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ServiceError
from moderation.types import InputKey
from moderation.video.dedupe import FrameHash

MAGIC = b"mpk1"
MAX_HEAD = 1 << 20


@dataclass(frozen=True, slots=True)
class Look:
    """One moment that was asked for.

    shown_s: the own time of the frame that stands for it; None: it was not seen. source_s: the
    own time of the kept frame whose scores it shares, its own where it was kept.
    """

    time_s: float
    shown_s: float | None = None
    source_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FramePack:
    """looks: every asked moment, in the order of the chunk. hashes: of the kept frames,
    ascending; their `time_s` is the frame's own. pixels: for every key (len(hashes), height,
    width, 3) uint8 RGB, of the frames in `hashes`."""

    looks: tuple[Look, ...]
    hashes: tuple[FrameHash, ...]
    pixels: Mapping[InputKey, NDArray[np.uint8]]


def dump_pack(pack: FramePack) -> bytes:
    """The pack as bytes: a header in JSON, then the pixels of each key."""
    head = {
        "looks": [[look.time_s, look.shown_s, look.source_s] for look in pack.looks],
        "hashes": [[one.time_s, one.pdq, one.quality] for one in pack.hashes],
        "keys": [[key.width, key.height, key.fit, key.interpolation] for key in pack.pixels],
    }
    told = json.dumps(head).encode()
    pixels = (np.ascontiguousarray(array).reshape(-1).data for array in pack.pixels.values())
    return b"".join([MAGIC, struct.pack("<I", len(told)), told, *pixels])


def load_pack(data: bytes | memoryview) -> FramePack:
    """Raises ServiceError (pack_invalid) for anything that `dump_pack` did not make whole."""
    try:
        view = memoryview(data)
        (length,) = struct.unpack("<I", view[4:8])
        if view[:4] != MAGIC or length > MAX_HEAD:
            raise ValueError("no pack")
        head = json.loads(bytes(view[8 : 8 + length]))
        looks = tuple(Look(float(t), _maybe(a), _maybe(b)) for t, a, b in head["looks"])
        hashes = tuple(FrameHash(float(t), str(p), int(q)) for t, p, q in head["hashes"])
        pixels: dict[InputKey, NDArray[np.uint8]] = {}
        at = 8 + length
        for width, height, fit, interpolation in head["keys"]:
            key = InputKey(int(width), int(height), fit, interpolation)
            shape = (len(hashes), key.height, key.width, 3)
            size = int(np.prod(shape))
            pixels[key] = np.frombuffer(view[at : at + size], np.uint8).reshape(shape)
            at += size
        if at != len(view):
            raise ValueError("bytes are left over")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ServiceError("a frame pack is broken", code="pack_invalid") from error
    return FramePack(looks, hashes, pixels)


def _maybe(value: float | None) -> float | None:
    return None if value is None else float(value)
