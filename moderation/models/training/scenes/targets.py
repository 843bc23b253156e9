"""What the heatmaps should say of an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.scenes.examples import Example
from moderation.models.training.scenes.pictures import CLASSES, Box

F32 = NDArray[np.float32]
STRIDES = (8, 16)
RANGES = ((0.0, 0.3), (0.15, 1.01))
"""Sizes (root of a box's area) that each stride answers for; between them both do."""
INNER = 0.5
"""Cells whose heat is at least this also tell the box."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """heat (classes, h, w) 0..1, 1 at the middle of an object; box (4, h, w), corners as
    fractions of the picture, where weight (h, w) is not 0."""

    heat: F32
    box: F32
    weight: F32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """pixels (n, side, side, 3) uint8; logit, top (n, labels); known (n, classes); clean (n,);
    levels: arrays of `Level`, stacked."""

    pixels: NDArray[np.uint8]
    logit: F32
    top: F32
    known: NDArray[np.bool_]
    clean: NDArray[np.bool_]
    levels: tuple[Level, ...]


def collate(examples: Sequence[Example]) -> Batch:
    """Several examples of one size as arrays."""
    side = examples[0].pixels.shape[0]
    levels = [
        [level(example.boxes, side // stride, sizes) for example in examples]
        for stride, sizes in zip(STRIDES, RANGES, strict=True)
    ]
    return Batch(
        pixels=np.stack([e.pixels for e in examples]),
        logit=np.stack([e.logit for e in examples]),
        top=np.stack([e.top for e in examples]),
        known=np.stack([e.known for e in examples]),
        clean=np.array([e.clean for e in examples]),
        levels=tuple(
            Level(
                np.stack([one.heat for one in found]),
                np.stack([one.box for one in found]),
                np.stack([one.weight for one in found]),
            )
            for found in levels
        ),
    )


def level(boxes: Sequence[Box], cells: int, sizes: tuple[float, float]) -> Level:
    """The maps of one stride: `cells` a side, for boxes of these sizes.

    Heat falls off as a bell whose width is a sixth of the box's sides, as in CenterNet.
    """
    heat = np.zeros((len(CLASSES), cells, cells), np.float32)
    corners = np.zeros((4, cells, cells), np.float32)
    weight = np.zeros((cells, cells), np.float32)
    middles = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    # Small ones last: where boxes overlap, theirs are the cells.
    for box in sorted(boxes, key=lambda b: -b.area):
        if not sizes[0] <= box.area**0.5 <= sizes[1]:
            continue
        x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
        spread_x = max((box.x2 - box.x1) / 6, 0.45 / cells)
        spread_y = max((box.y2 - box.y1) / 6, 0.45 / cells)
        column, row = min(cells - 1, int(x * cells)), min(cells - 1, int(y * cells))
        bell = np.exp(
            -0.5 * ((middles[None] - middles[column]) / spread_x) ** 2
            - 0.5 * ((middles[:, None] - middles[row]) / spread_y) ** 2
        ).astype(np.float32)
        bell[row, column] = 1.0
        np.maximum(heat[box.kind], bell, out=heat[box.kind])
        inner = (bell >= INNER) & box.tight
        corners[:, inner] = np.array([box.x1, box.y1, box.x2, box.y2], np.float32)[:, None]
        weight[inner] = bell[inner]
    return Level(heat, corners, weight)
