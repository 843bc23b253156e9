"""The recipe of `fights`: what a window is, how its features are made, how the head is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from moderation.models.training import recipe_file
from moderation.models.training.recipe_file import Part

Pool = Literal["all", "person", "motion", "both"]


class Folds(Part):
    """How often each kind of data is cut to be left out: whole cameras of the main source, whole
    sources of the small ones. `alone`: sources large enough to be left out by themselves."""

    main: str
    cameras: int = Field(ge=2)
    small: int = Field(ge=2)
    alone: tuple[str, ...]


class Recipe(Part):
    """width, height: of what the network reads, in pixels; frames, so many a second (`rate`), and
    a window every `every_s` seconds. pools: how the cells of the trunk's map are averaged, a set of
    features for each: all cells alike, by the probability of a person in the cell, by how much the
    cell's pixels change, by both at once. steps: how many frames apart the compared ones are.

    windows: of each clip, at most so many are learned from. c: the inverse penalty. other_weight:
    of a clip that is not of the main source. version: of the trained model. hard_others: the share
    of ordinary moving windows that are taken to be as hard as the clips without a fight, which were
    chosen to be: the calibration is told for all ordinary windows.
    """

    id: str
    version: str
    width: int = Field(multiple_of=32, gt=0)
    height: int = Field(multiple_of=32, gt=0)
    frames: int = Field(ge=2, le=64)
    rate: float = Field(gt=0)
    every_s: float = Field(gt=0)
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)]
    steps: tuple[Annotated[int, Field(ge=1)], ...]
    windows: int = Field(ge=1)
    c: float = Field(gt=0)
    other_weight: float = Field(gt=0)
    hard_others: float = Field(default=1.0, gt=0, le=1)
    folds: Folds

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if any(step >= self.frames for step in self.steps):
            raise ValueError("a step as long as the window compares nothing")
        return self


def read_recipe(path: Path) -> Recipe:
    """Raises ConfigError, in one line."""
    return recipe_file.read(path, Recipe)
