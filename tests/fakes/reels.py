"""Films that are only told of: their frames are painted when somebody looks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions, FrameHash
from moderation.video.index import FrameIndex
from moderation.video.pack import FramePack, Look
from moderation.video.probe import Probed, ProbeLimits, VideoInfo
from moderation.video.sampling import Chunk
from moderation.video.source import ReadOptions

FPS = 25
GREY, RED = (90, 90, 90), (250, 20, 20)


@dataclass
class Reel:
    """`length_s` of grey, red in the passages, red now and then where it flickers, nothing to be
    seen in the damaged parts. No two frames are alike. `looked`: the chunks that were asked for."""

    length_s: float = 150.0
    red: Sequence[tuple[float, float]] = ()
    flickers: Sequence[tuple[float, float]] = ()
    damaged: Sequence[tuple[float, float]] = ()
    scenes: tuple[float, ...] = ()
    looked: list[int] = field(default_factory=list)

    @property
    def info(self) -> VideoInfo:
        return VideoInfo(
            container="mov",
            codec="h264",
            pixel_format="yuv420p",
            width=160,
            height=120,
            rotation=0,
            held_s=self.length_s,
            duration_s=self.length_s,
            start_s=0.0,
            frames=round(self.length_s * FPS),
            audio=("aac",),
            size_bytes=9,
        )

    @property
    def index(self) -> FrameIndex:
        numbers = np.arange(round(self.length_s * FPS))
        return FrameIndex(numbers / FPS, numbers % 250 == 0, self.length_s)

    def probe(self, path: Path, limits: ProbeLimits) -> Probed:
        return Probed(self.info, self.index)

    def look(
        self,
        path: Path,
        chunk: Chunk,
        info: VideoInfo,
        keys: Sequence[InputKey],
        reading: ReadOptions,
        dedupe: DedupeOptions,
    ) -> FramePack:
        self.looked.append(chunk.number)
        if chunk.window is not None:
            keys = (chunk.window.key,)
        own = sorted({own_s for _, own_s in chunk.asks if not _within(own_s, self.damaged)})
        looks = tuple(
            Look(time_s, own_s, own_s) if own_s in own else Look(time_s)
            for time_s, own_s in chunk.asks
        )
        hashes = tuple(FrameHash(own_s, _hash(own_s), 100) for own_s in own)
        pixels = {
            key: np.array(
                [_painted(key, RED if self._is_red(own_s) else GREY) for own_s in own],
                np.uint8,
            ).reshape(len(own), key.height, key.width, 3)
            for key in keys
        }
        return FramePack(looks, hashes, pixels)

    def _is_red(self, own_s: float) -> bool:
        flickers = _within(own_s, self.flickers) and int(own_s * 8) % 2 == 0
        return flickers or _within(own_s, self.red)


def _within(time_s: float, parts: Sequence[tuple[float, float]]) -> bool:
    return any(start <= time_s < end for start, end in parts)


def _painted(key: InputKey, colour: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype]:
    return np.full((key.height, key.width, 3), colour, np.uint8)


def _hash(own_s: float) -> str:
    return hashlib.sha256(repr(own_s).encode()).hexdigest()
