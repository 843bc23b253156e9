"""One training example: pixels and everything that is known of them, and unknown.

Unknown is told apart from no: a picture of a weapon may show a cigarette, and nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.scenes import augment, paste
from moderation.models.training.scenes.augment import Random
from moderation.models.training.scenes.pictures import (
    CLASSES,
    LABELS,
    ONE_CLASS,
    Box,
    Picture,
    Pixels,
    shrink,
)
from moderation.models.training.scenes.recipe import Draw, Recipe

F32 = NDArray[np.float32]
Load = Callable[[Picture], Pixels]
WEAPON, FIRE, SMOKING = range(3)
KINDS_OF = ((1, 2, 3), (4, 5), (0,))
PAINTED = 0.35
"""Part of the smoking pictures whose cigarettes are painted over: all else stays the same, and
the answer is no."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """pixels (side, side, 3) uint8; logit, top (labels,): 1, 0 or NaN for unknown, for the image
    logit and for the strongest cells of the heatmap; known (classes,): heatmaps that `boxes`
    tell in full; clean: hardly changed."""

    pixels: Pixels
    logit: F32
    top: F32
    known: NDArray[np.bool_]
    boxes: tuple[Box, ...]
    clean: bool


class Sampler:
    """Draws examples for ever; the same ones for the same recipe, pictures and seed."""

    def __init__(
        self, pictures: Sequence[Picture], recipe: Recipe, load: Load, random: Random
    ) -> None:
        self._recipe, self._load, self._random = recipe, load, random
        self._groups = {
            group: [p for p in pictures if p.group == group]
            for group in ("weapon", "fire", "smoking", "safe")
        }
        self._odds = {
            group: _odds(members, recipe.source_balance)
            for group, members in self._groups.items()
            if members
        }
        shares = np.array([draw.share for draw in recipe.draws])
        self._shares = shares / shares.sum()
        self._flames = [p for p in self._groups["fire"] if p.boxes]

    def draw(self) -> Example:
        draw = self._recipe.draws[self._random.choice(len(self._shares), p=self._shares)]
        picture = self._pick(draw)
        pixels = self._load(picture)
        if draw.kind == "clean":
            return self._clean(picture, pixels)
        if draw.kind == "pasted":
            return self._pasted(pixels)
        return self._heavy(picture, pixels)

    def _pick(self, draw: Draw) -> Picture:
        members = self._groups[draw.group]
        return members[self._random.choice(len(members), p=self._odds[draw.group])]

    def _clean(self, picture: Picture, pixels: Pixels) -> Example:
        random, boxes = self._random, list(picture.boxes)
        if random.random() < 0.5:
            pixels, boxes = augment.flip(pixels, boxes)
        if random.random() < 0.8:
            low, high = self._recipe.clean_side
            pixels = shrink(pixels, int(random.integers(low, high + 1)))
        pixels = augment.jpeg(pixels, int(random.integers(60, 96)))
        truth = _truth(picture)
        logit = truth.copy()
        if picture.label == "smoking.smoking":
            logit[:] = np.nan  # its sources look like nothing else
        return self._example(pixels, logit, truth, _known(picture), boxes, clean=True)

    def _heavy(self, picture: Picture, pixels: Pixels) -> Example:
        random, boxes = self._random, list(picture.boxes)
        truth, known = _truth(picture), _known(picture)
        small = bool(boxes) and all(b.tight and b.area <= augment.SMALL for b in boxes)
        if picture.group == "smoking" and small and random.random() < PAINTED:
            pixels, boxes = augment.paint_over(pixels, boxes, random), []
            truth[SMOKING] = 0.0
        elif random.random() < 0.3 and (places := augment.somewhere(boxes, random)):
            pixels = augment.paint_over(pixels, places, random)
        if random.random() < 0.6 and (boxes or picture.safe or truth[SMOKING] == 0):
            least = 0.35 if boxes or picture.safe else 0.7
            pixels, boxes = augment.crop(pixels, boxes, random, least)
        if random.random() < 0.15:
            pixels, boxes = augment.letterbox(pixels, boxes, random)
        if random.random() < 0.5:
            pixels, boxes = augment.flip(pixels, boxes)
        if random.random() < 0.4:
            pixels = augment.erase(pixels, boxes, random)
        logit = np.full(len(LABELS), np.nan, np.float32)
        logit[SMOKING] = truth[SMOKING]
        return self._example(augment.spoil(pixels, random), logit, truth, known, boxes)

    def _pasted(self, pixels: Pixels) -> Example:
        random = self._random
        truth = np.full(len(LABELS), np.nan, np.float32)
        known = np.zeros(len(CLASSES), np.bool_)
        known[list(KINDS_OF[FIRE])] = True
        boxes = []
        if random.random() < 0.4:
            pixels = paste.lights(pixels, random)
        if random.random() < 0.7:
            fire = self._flames[random.integers(len(self._flames))]
            box = fire.boxes[random.integers(len(fire.boxes))]
            pixels, found = paste.flames(pixels, self._load(fire), box, random)
            boxes.append(found)
        truth[FIRE] = float(bool(boxes))
        if random.random() < 0.5:
            pixels, boxes = augment.flip(pixels, boxes)
        unknown = np.full(len(LABELS), np.nan, np.float32)
        return self._example(augment.spoil(pixels, random), unknown, truth, known, boxes)

    def _example(
        self,
        pixels: Pixels,
        logit: F32,
        top: F32,
        known: NDArray[np.bool_],
        boxes: Sequence[Box],
        clean: bool = False,
    ) -> Example:
        square = augment.stretched(pixels, self._recipe.side)
        return Example(square, logit, top, known, tuple(boxes), clean)


def _truth(picture: Picture) -> F32:
    """What a picture shows, as far as anybody looked."""
    if picture.safe:
        return np.zeros(len(LABELS), np.float32)
    truth = np.full(len(LABELS), np.nan, np.float32)
    truth[LABELS.index(str(picture.label))] = 1.0
    return truth


def _known(picture: Picture) -> NDArray[np.bool_]:
    """The classes of which every object of a picture is boxed, or none is there."""
    if picture.safe:
        return np.ones(len(CLASSES), np.bool_)
    known = np.zeros(len(CLASSES), np.bool_)
    if picture.boxes:
        known[list(KINDS_OF[LABELS.index(str(picture.label))])] = True
    if picture.source in ONE_CLASS:
        known[3] = False
    if picture.group != "weapon":
        known[list(KINDS_OF[WEAPON])] = True  # nobody holds a gun there
    return known


def _odds(members: Sequence[Picture], balance: float) -> NDArray[np.float64]:
    counts: dict[str, int] = {}
    for picture in members:
        counts[picture.source] = counts.get(picture.source, 0) + 1
    odds = np.array([counts[p.source] ** (balance - 1.0) for p in members])
    return np.asarray(odds / odds.sum(), np.float64)
