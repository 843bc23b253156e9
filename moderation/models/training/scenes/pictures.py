"""The pictures that `scenes` learns from: labels, boxes, and what is known of each."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moderation.errors import ConfigError
from moderation.models.training.datasets import LABEL_OF_GROUP

Pixels = NDArray[np.uint8]
GROUPS = ("smoking", "weapon", "fire", "safe")
LABELS = ("violence.weapon", "violence.fire", "smoking.smoking")
CLASSES = ("cigarette", "pistol", "knife", "long_gun", "fire", "smoke_plume")
FIRST_CLASS = {"smoking": 0, "weapon": 1, "fire": 4}
LOOSE = frozenset({"smk_huyhoc"})
"""Sources whose boxes hold a hand or a face, too: they tell where, and not how large."""
ONE_CLASS = frozenset({"wpn_lane"})
"""Sources that call every gun a pistol: nothing is known of their long guns."""
SIDE = 320


@dataclass(frozen=True, slots=True)
class Box:
    """An object of class `kind` (in CLASSES); corners as fractions of the picture. tight: the
    sides can be trusted."""

    kind: int
    x1: float
    y1: float
    x2: float
    y2: float
    tight: bool = True

    @property
    def area(self) -> float:
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of the manifest. No boxes means not boxed, never "nothing there"."""

    file: str
    group: str
    source: str
    detail: str
    boxes: tuple[Box, ...]

    @property
    def safe(self) -> bool:
        return self.group == "safe"

    @property
    def label(self) -> str | None:
        return None if self.safe else LABEL_OF_GROUP[self.group]

    @property
    def odd_action(self) -> bool:
        """Divides the kinds of ordinary pictures of a source into two halves, by name."""
        return hashlib.sha256(self.detail.encode()).digest()[0] % 2 == 1


def read_pictures(folder: Path) -> tuple[Picture, ...]:
    """Every picture of the groups that `scenes` knows. Raises ConfigError."""
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["group"] in GROUPS]
            return tuple(_picture(row) for row in rows)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error!r}", code="dataset_missing") from error


def _picture(row: dict[str, str]) -> Picture:
    group, source = row["group"], row["source"]
    boxes = []
    for kind, x, y, w, h in json.loads(row["boxes_cls_cx_cy_w_h"] or "[]"):
        sides = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        left, top, right, bottom = (min(max(float(side), 0.0), 1.0) for side in sides)
        if right > left and bottom > top:
            number = FIRST_CLASS[group] + int(kind)
            boxes.append(Box(number, left, top, right, bottom, source not in LOOSE))
    return Picture(row["file"], group, source, row["label"], tuple(boxes))


def load_pixels(path: Path) -> Pixels:
    """RGB, the longest side brought to SIDE or less. Raises ConfigError for no picture."""
    read = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if read is None:
        raise ConfigError(f"{path} does not decode", code="dataset_missing")
    pixels = np.asarray(read[..., ::-1], np.uint8)
    return shrink(pixels, SIDE)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """The longest side brought down to `side`; smaller ones stay."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
