"""The recipe of `scenes`: what is drawn how often, how long, and which sources are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from moderation.models.training import recipe_file
from moderation.models.training.recipe_file import Part
from moderation.models.training.scenes.pictures import Picture

COMMITTED = Path(__file__).parents[1] / "recipes" / "scenes.toml"
Kind = Literal["clean", "heavy", "pasted"]


class Draw(Part):
    """One kind of example, drawn in proportion to its share.

    clean: the whole picture, hardly changed. heavy: cropped, erased, spoilt. pasted: a safe
    picture with flames, smoke, or lights that are none.
    """

    kind: Kind
    group: Literal["weapon", "fire", "smoking", "safe"]
    share: float = Field(gt=0, le=1)


class Fold(Part):
    """Sources that a run never sees, and every second action of the sources in `actions`."""

    sources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def leaves_out(self, picture: Picture) -> bool:
        """Whether training never sees a picture."""
        if picture.source in self.sources:
            return True
        return picture.safe and picture.source in self.actions and picture.odd_action


class Losses(Part):
    """Weights of the parts of the loss, beside 1 for the image logits."""

    heat: float = 0.5
    top: float = 0.5
    box: float = 1.0
    anchor: float = 2.0


class Recipe(Part):
    """`side` is the picture's in training, `serve_side` that of measuring and serving,
    `frozen_side` that of the published features behind look-alikes and logistics."""

    id: str
    version: str
    side: int = Field(multiple_of=32)
    serve_side: int = Field(multiple_of=32)
    frozen_side: int = Field(multiple_of=32)
    batch: int = Field(ge=2)
    steps: int = Field(ge=1)
    clean_side: tuple[int, int]
    """Most clean pictures are first shrunk to a longest side between these: sharpness is a cue."""
    rate: float = Field(gt=0)
    heads_rate: float = Field(gt=0)
    """Learning rate of the heads as a multiple of `rate`."""
    warm_up: int = Field(ge=0)
    decay: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    """Decay of the averaged weights, which are the ones that ship."""
    seed: int
    source_balance: float = Field(ge=0, le=1)
    """A source of n pictures is drawn in proportion to n to this power."""
    losses: Losses
    draws: tuple[Draw, ...]
    probe_c: dict[str, float]
    """Inverse penalty of each label's logistic over the frozen features."""
    folds: dict[str, Fold]


def read_recipe(path: Path) -> Recipe:
    """Raises ConfigError, in one line."""
    return recipe_file.read(path, Recipe)
