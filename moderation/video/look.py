"""One chunk of a film -> a frame pack: read, told apart from near-duplicates, nothing scored."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from moderation.errors import MediaError
from moderation.pdq import pdq_hash
from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions, Deduper, FrameHash
from moderation.video.pack import FramePack, Look
from moderation.video.probe import VideoInfo
from moderation.video.sampling import Chunk
from moderation.video.source import SAME_S, ReadOptions, VideoFrame, read_frames

NEAR_S = 0.5
"""How much later than the frame shown at a moment another may come and still stand for it: the
next one that others need, or that is not damaged."""


def look(
    path: Path,
    chunk: Chunk,
    info: VideoInfo,
    keys: Sequence[InputKey],
    reading: ReadOptions,
    dedupe: DedupeOptions,
) -> FramePack:
    """Every moment of the chunk, and the frames that need scores: for windows all of them, at the
    one size that their models read.

    What cannot be read is not seen, and is no error: the looks say so. Raises ServiceError where
    our side failed.
    """
    if chunk.window is not None:
        keys, dedupe = (chunk.window.key,), replace(dedupe, max_distance=-1)
    if not chunk.exact:
        quick = _read(path, chunk, info, keys, replace(reading, skip="noref"), dedupe)
        if all(one.shown_s is not None for one in quick.looks):
            return quick
    # Some files have hardly a frame that others need: skipping would leave half of it unseen.
    return _read(path, chunk, info, keys, replace(reading, skip="none"), dedupe)


def _read(
    path: Path,
    chunk: Chunk,
    info: VideoInfo,
    keys: Sequence[InputKey],
    options: ReadOptions,
    dedupe: DedupeOptions,
) -> FramePack:
    seen = _Seen(keys, dedupe)
    own = sorted({own_s for _, own_s in chunk.asks})
    # Where nothing, or nothing more, can be read, the moments themselves say so.
    with suppress(MediaError):
        for frame in read_frames(path, own, chunk.seek_s, info, keys, options):
            seen.add(frame)
    return seen.pack(chunk.asks)


class _Seen:
    """The frames that came, in order."""

    def __init__(self, keys: Sequence[InputKey], dedupe: DedupeOptions) -> None:
        self._keys = keys
        self._hashed = max(keys, key=lambda key: key.width * key.height)
        self._deduper = Deduper(dedupe)
        self._times: list[float] = []
        self._sources: list[float] = []
        self._kept: list[VideoFrame] = []
        self._hashes: list[FrameHash] = []

    def add(self, frame: VideoFrame) -> None:
        if self._times and frame.time_s <= self._times[-1]:
            return  # a broken file shows the same moment twice
        pdq, quality = pdq_hash(frame.pixels[self._hashed])
        told = FrameHash(frame.time_s, pdq, quality)
        choice = self._deduper.add(told)
        self._times.append(frame.time_s)
        self._sources.append(choice.source_s)
        if choice.kept:
            self._kept.append(frame)
            self._hashes.append(told)

    def pack(self, asks: Sequence[tuple[float, float]]) -> FramePack:
        looks = tuple(self._look(time_s, own_s) for time_s, own_s in asks)
        pixels = {
            key: np.stack([frame.pixels[key] for frame in self._kept])
            if self._kept
            else np.empty((0, key.height, key.width, 3), np.uint8)
            for key in self._keys
        }
        return FramePack(looks, tuple(self._hashes), pixels)

    def _look(self, time_s: float, own_s: float) -> Look:
        at = bisect_left(self._times, own_s - SAME_S)
        if at == len(self._times) or self._times[at] > own_s + NEAR_S:
            return Look(time_s)
        return Look(time_s, self._times[at], self._sources[at])
