"""Flames and smoke put into ordinary pictures, and lights that are neither. Random and pure."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from moderation.models.training.scenes.augment import Random
from moderation.models.training.scenes.pictures import Box, Pixels

FIRE, SMOKE = 4, 5
F32 = NDArray[np.float32]


def flames(pixels: Pixels, fire: Pixels, box: Box, random: Random) -> tuple[Pixels, Box]:
    """The flame or plume inside `box` of another picture, put somewhere at a new size: a flame
    as light that is added, smoke as a veil."""
    rows, columns = fire.shape[:2]
    y1, y2 = int(box.y1 * rows), int(np.ceil(box.y2 * rows))
    x1, x2 = int(box.x1 * columns), int(np.ceil(box.x2 * columns))
    patch = fire[y1:y2, x1:x2].astype(np.float32) / 255
    place, size = _place(pixels, random, patch.shape[1] / max(1, patch.shape[0]))
    patch = np.asarray(cv2.resize(patch, size, interpolation=cv2.INTER_LINEAR), np.float32)
    if random.random() < 0.5:
        patch = patch[:, ::-1]
    soft = _oval(size)
    under = _under(pixels, place, size)
    if box.kind == FIRE:
        red, blue = patch[..., 0], patch[..., 2]
        mask = np.asarray(
            np.clip(2.5 * (red - 0.45 * blue - 0.35), 0, 1)[..., None] * soft, np.float32
        )
        mixed = np.asarray(1 - (1 - under * (1 - 0.5 * mask)) * (1 - patch * mask), np.float32)
    else:
        mask = soft * np.float32(random.uniform(0.5, 0.95))
        mixed = np.asarray(under * (1 - mask) + patch * mask, np.float32)
    return _put(pixels, mixed, place), _box(pixels, place, size, box.kind)


def lights(pixels: Pixels, random: Random) -> Pixels:
    """One to three lamps, glows or red things."""
    work = pixels
    for _ in range(int(random.integers(1, 4))):
        place, size = _place(work, random, float(random.uniform(0.6, 1.6)))
        colour = np.array(
            [random.uniform(0.7, 1), random.uniform(0.1, 0.9), random.uniform(0, 0.7)], np.float32
        )
        soft = np.asarray(_oval(size) ** float(random.uniform(0.3, 3)), np.float32)
        under = _under(work, place, size)
        if random.random() < 0.6:
            mixed = np.asarray(1 - (1 - under) * (1 - colour * soft), np.float32)
        else:
            hard = (soft > 0.4).astype(np.float32) * np.float32(random.uniform(0.6, 1))
            mixed = np.asarray(under * (1 - hard) + colour * hard, np.float32)
        work = _put(work, mixed, place)
    return work


def _place(
    pixels: Pixels, random: Random, aspect: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(left, top) and (width, height) in pixels of something of this shape."""
    rows, columns = pixels.shape[:2]
    part = float(np.exp(random.uniform(np.log(0.08), np.log(0.5))))
    shape = min(max(aspect, 0.3), 3.0) ** 0.5
    width = int(min(columns - 2, max(10, part * columns * shape)))
    height = int(min(rows - 2, max(10, part * rows / shape)))
    left = int(random.integers(max(1, columns - width)))
    top = int(random.integers(max(1, rows - height)))
    return (left, top), (width, height)


def _oval(size: tuple[int, int]) -> F32:
    """1 in the middle, falling to 0 at the border: (height, width, 1)."""
    width, height = size
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    far = np.sqrt(x * x + y * y)
    return np.asarray(np.clip((1 - far) / 0.4, 0, 1)[..., None], np.float32)


def _under(pixels: Pixels, place: tuple[int, int], size: tuple[int, int]) -> F32:
    (left, top), (width, height) = place, size
    part = pixels[top : top + height, left : left + width]
    return np.asarray(part.astype(np.float32) / np.float32(255), np.float32)


def _put(pixels: Pixels, mixed: F32, place: tuple[int, int]) -> Pixels:
    left, top = place
    done = pixels.copy()
    height, width = mixed.shape[:2]
    done[top : top + height, left : left + width] = np.clip(mixed, 0, 1) * 255
    return done


def _box(pixels: Pixels, place: tuple[int, int], size: tuple[int, int], kind: int) -> Box:
    rows, columns = pixels.shape[:2]
    (left, top), (width, height) = place, size
    inset = 0.12  # the oval's rim is hardly seen
    return Box(
        kind,
        (left + inset * width) / columns,
        (top + inset * height) / rows,
        (left + (1 - inset) * width) / columns,
        (top + (1 - inset) * height) / rows,
    )
