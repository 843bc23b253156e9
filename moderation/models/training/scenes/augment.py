"""What is done to the pixels of an example, and to its boxes with them. Random and pure.

Whatever changes pixels alike for all classes here would otherwise be a cue: sources differ in
size, sharpness, compression and shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from moderation.models.training.scenes.pictures import Box, Pixels, shrink

Random = np.random.Generator
VISIBLE = 0.5
"""A box of which less than this part is left in a crop is no object any more."""
SMALL = 0.04
"""Largest part of the picture that is painted over: more leaves a smear that is a cue."""


def stretched(pixels: Pixels, side: int) -> Pixels:
    """The whole picture on a square, as it is served."""
    small = min(pixels.shape[:2]) > side
    how = cv2.INTER_AREA if small else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=how), np.uint8)


def flip(pixels: Pixels, boxes: Sequence[Box]) -> tuple[Pixels, list[Box]]:
    """Left and right changed."""
    turned = [replace(box, x1=1 - box.x2, x2=1 - box.x1) for box in boxes]
    return np.ascontiguousarray(pixels[:, ::-1]), turned


def crop(
    pixels: Pixels, boxes: Sequence[Box], random: Random, least: float
) -> tuple[Pixels, list[Box]]:
    """A part of the picture with sides between `least` and 1 of its own; around one of the
    boxes where there are any. Boxes that it cuts are cut; those mostly outside go."""
    width, height = random.uniform(least, 1.0, 2)
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    if boxes:
        kept = boxes[int(random.integers(len(boxes)))]
        width = min(1.0, max(width, 1.1 * (kept.x2 - kept.x1)))
        height = min(1.0, max(height, 1.1 * (kept.y2 - kept.y1)))
        left = _around(kept.x1, kept.x2, width, random)
        top = _around(kept.y1, kept.y2, height, random)
    rows, columns = pixels.shape[:2]
    x1, y1 = int(left * columns), int(top * rows)
    x2 = max(x1 + 8, round((left + width) * columns))
    y2 = max(y1 + 8, round((top + height) * rows))
    part = pixels[y1:y2, x1:x2]
    frame = (x1 / columns, y1 / rows, (x1 + part.shape[1]) / columns, (y1 + part.shape[0]) / rows)
    return np.ascontiguousarray(part), inside(boxes, frame)


def inside(boxes: Sequence[Box], frame: tuple[float, float, float, float]) -> list[Box]:
    """Boxes as fractions of a part of the picture, cut at its border."""
    left, top, right, bottom = frame
    width, height = right - left, bottom - top
    found = []
    for box in boxes:
        cut = replace(
            box,
            x1=min(max((box.x1 - left) / width, 0.0), 1.0),
            y1=min(max((box.y1 - top) / height, 0.0), 1.0),
            x2=min(max((box.x2 - left) / width, 0.0), 1.0),
            y2=min(max((box.y2 - top) / height, 0.0), 1.0),
        )
        if cut.area * width * height >= VISIBLE * box.area:
            found.append(cut)
    return found


def _around(low: float, high: float, size: float, random: Random) -> float:
    """Where a span of `size` begins that holds low..high and stays within 0..1."""
    first, last = max(0.0, high - size), min(low, 1 - size)
    return (
        float(random.uniform(first, last)) if last > first else float(min(max(first, 0), 1 - size))
    )


def letterbox(pixels: Pixels, boxes: Sequence[Box], random: Random) -> tuple[Pixels, list[Box]]:
    """Bars of one colour on two sides, or all around."""
    rows, columns = pixels.shape[:2]
    x, y = (int(v) for v in random.uniform(0, 0.35, 2) * (columns, rows))
    if random.random() < 0.6:
        x, y = (x, 0) if random.random() < 0.5 else (0, y)
    left, top = int(random.integers(x + 1)), int(random.integers(y + 1))
    colour = [0, 0, 0] if random.random() < 0.6 else [int(v) for v in random.integers(0, 256, 3)]
    framed = cv2.copyMakeBorder(
        pixels, top, y - top, left, x - left, cv2.BORDER_CONSTANT, value=colour
    )
    wide, high = columns + x, rows + y
    moved = [
        replace(
            box,
            x1=(box.x1 * columns + left) / wide,
            y1=(box.y1 * rows + top) / high,
            x2=(box.x2 * columns + left) / wide,
            y2=(box.y2 * rows + top) / high,
        )
        for box in boxes
    ]
    return np.asarray(framed, np.uint8), moved


def erase(pixels: Pixels, boxes: Sequence[Box], random: Random) -> Pixels:
    """Up to three rectangles of one colour or of noise, none over a third of any box."""
    spoilt = pixels.copy()
    rows, columns = pixels.shape[:2]
    for _ in range(int(random.integers(1, 4))):
        width, height = random.uniform(0.05, 0.35, 2)
        x, y = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        if any(_covered(box, x, y, x + width, y + height) > 1 / 3 for box in boxes):
            continue
        area = spoilt[
            int(y * rows) : int((y + height) * rows), int(x * columns) : int((x + width) * columns)
        ]
        if random.random() < 0.5:
            area[:] = random.integers(0, 256, 3)
        else:
            area[:] = random.integers(0, 256, area.shape)
    return spoilt


def _covered(box: Box, x1: float, y1: float, x2: float, y2: float) -> float:
    """The part of a box under a rectangle."""
    wide = min(box.x2, x2) - max(box.x1, x1)
    high = min(box.y2, y2) - max(box.y1, y1)
    return max(0.0, wide) * max(0.0, high) / max(box.area, 1e-9)


def paint_over(pixels: Pixels, boxes: Sequence[Box], random: Random) -> Pixels:
    """The insides of boxes filled from what surrounds them (Telea 2004)."""
    rows, columns = pixels.shape[:2]
    mask = np.zeros((rows, columns), np.uint8)
    for box in boxes:
        more = random.uniform(0.05, 0.25)
        x, y = more * (box.x2 - box.x1) + 2 / columns, more * (box.y2 - box.y1) + 2 / rows
        left, top = max(0, int((box.x1 - x) * columns)), max(0, int((box.y1 - y) * rows))
        right, bottom = int(np.ceil((box.x2 + x) * columns)), int(np.ceil((box.y2 + y) * rows))
        mask[top:bottom, left:right] = 255
    return np.asarray(cv2.inpaint(pixels, mask, 3, cv2.INPAINT_TELEA), np.uint8)


def somewhere(boxes: Sequence[Box], random: Random) -> list[Box]:
    """One or two small boxes that touch none of those given: where painting over hides nothing."""
    found = []
    for _ in range(4):
        width, height = random.uniform(0.03, 0.2, 2)
        x, y = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        place = Box(0, x, y, x + width, y + height)
        if place.area <= SMALL and not any(_covered(box, *_near(place)) > 0 for box in boxes):
            found.append(place)
    return found[:2]


def _near(box: Box) -> tuple[float, float, float, float]:
    return box.x1 - 0.03, box.y1 - 0.03, box.x2 + 0.03, box.y2 + 0.03


def spoil(pixels: Pixels, random: Random) -> Pixels:
    """Colour, grey, blur, smaller, noise, JPEG: each now and then."""
    work = pixels
    if random.random() < 0.8:
        work = _coloured(work, random)
    if random.random() < 0.12:
        work = np.repeat(cv2.cvtColor(work, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if random.random() < 0.15:
        work = np.asarray(cv2.GaussianBlur(work, (0, 0), float(random.uniform(0.4, 1.4))), np.uint8)
    if random.random() < 0.35:
        work = shrink(work, int(random.integers(112, 256)))
    if random.random() < 0.15:
        noise = random.normal(0, random.uniform(2, 12), work.shape)
        work = np.clip(work + noise, 0, 255).astype(np.uint8)
    if random.random() < 0.7:
        work = jpeg(work, int(random.integers(25, 91)))
    return work


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Through a JPEG of this quality and back."""
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("OpenCV cannot write a JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _coloured(pixels: Pixels, random: Random) -> Pixels:
    """Contrast, brightness, gamma, saturation and a cast."""
    table = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(np.exp(random.normal(0, 0.25)))
    table = (table - 0.5) * np.float32(random.uniform(0.7, 1.3)) + 0.5
    table = np.asarray(table + np.float32(random.normal(0, 0.07)), np.float32)
    strength = float(random.uniform(0.5, 1.5))
    saturation = strength * np.eye(3) + (1 - strength) / 3  # around the mean of the channels
    cast = random.normal(1, 0.06, 3)[:, None]
    matrix = (255 * cast * saturation).astype(np.float32)
    values = cv2.transform(np.take(table, pixels), matrix)
    return np.asarray(np.clip(values, 0, 255), np.uint8)
