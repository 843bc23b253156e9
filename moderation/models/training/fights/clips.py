"""The clips to learn from: their windows as they would be served, and who is left out together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moderation.errors import ConfigError
from moderation.models.training.datasets import Clip
from moderation.models.training.fights.recipe import Folds
from moderation.pixels import resize
from moderation.types import InputKey

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Clips that are left out together: rows of the clip list, and what they have in common."""

    name: str
    rows: NDArray[np.int64]


def read_frames(path: Path, key: InputKey) -> Pixels:
    """All frames of a clip, stretched to the size that is served: (frames, height, width, 3) RGB.
    Raises ConfigError where none can be read."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    try:
        while (read := capture.read())[0]:
            picture = np.ascontiguousarray(read[1][..., ::-1], np.uint8)
            frames.append(resize(picture, (0, 0, picture.shape[1], picture.shape[0]), key))
    finally:
        capture.release()
    if not frames:
        raise ConfigError(f"{path} has no readable frame")
    return np.stack(frames)


def windows(count: int, frames: int, most: int) -> list[NDArray[np.int64]]:
    """Which frames of a clip of so many the windows read: at most so many windows, evenly spread,
    no two overlapping by more than two thirds. A clip shorter than a window is slowed down."""
    if count <= frames:
        return [np.linspace(0, count - 1, frames).round().astype(np.int64)]
    last = count - frames
    places = min(most, 1 + last // max(1, frames // 3))
    starts = np.linspace(0, last, places) if places > 1 else np.array([last / 2])
    return [np.arange(frames) + int(start) for start in starts]


def folds(clips: Sequence[Clip], told: Folds) -> list[Fold]:
    """Every clip in exactly one fold; no camera of the main source, and no other source, in two.
    Raises ConfigError where a fold would be empty."""
    sources = np.array([clip.source for clip in clips])
    cameras = np.array([clip.camera for clip in clips])
    main = sources == told.main
    alone = np.isin(sources, told.alone)
    small = ~main & ~alone
    groups = [
        *_spread(f"{told.main}, cameras", np.flatnonzero(main), cameras, told.cameras),
        *_spread("small sources", np.flatnonzero(small), sources, told.small),
        *(Fold(name, np.flatnonzero(sources == name)) for name in told.alone),
    ]
    for fold in groups:
        if not len(fold.rows):
            raise ConfigError(f"no clip to leave out: {fold.name}")
    return groups


def _spread(
    name: str, rows: NDArray[np.int64], groups: NDArray[np.str_], parts: int
) -> Iterable[Fold]:
    """Whole groups into so many parts of about one size, the largest first."""
    names, sizes = np.unique(groups[rows], return_counts=True)
    filled: list[list[str]] = [[] for _ in range(parts)]
    totals = [0] * parts
    for index in np.lexsort((names, -sizes)):
        least = int(np.argmin(totals))
        totals[least] += int(sizes[index])
        filled[least].append(str(names[index]))
    for number, members in enumerate(filled):
        yield Fold(f"{name} {number + 1}", rows[np.isin(groups[rows], members)])
