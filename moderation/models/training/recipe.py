"""What each head learns from: its positives, its negatives, its penalty.

Negatives are ordinary pictures alone: pictures of the other dangers as negatives lower a
linear head on unseen sources, and a picture may well show two dangers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.datasets import LABEL_OF_GROUP, Clip, Sample
from moderation.models.training.features import FRAMES

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """One head. `c`: inverse penalty of the logistic regression (larger fits closer)."""

    label: str
    group: str
    c: float
    clips: bool = False


TASKS = (Task("violence.fight", "violence", c=3e-4, clips=True),)
"""Weapons, fire and smoking have a network of their own (`scenes`)."""

SAFE_FOLDS: tuple[frozenset[str], ...] = (
    frozenset({"stanford40"}),
    frozenset({"har_actions", "vio_anik"}),
    frozenset({"safe_imagenet1000", "fire_abonia"}),
    frozenset({"safe_weather"}),
)
"""Sources of ordinary pictures that are left out together. Ordinary clips go with the fights of
their own source."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows in one order: features (n, d) f32, file and source (n,), truth of one label (n,)."""

    features: F32
    files: NDArray[np.str_]
    sources: NDArray[np.str_]
    truth: NDArray[np.bool_]
    clusters: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)


def clip_samples(clips: Sequence[Clip]) -> list[Sample]:
    """FRAMES samples for each clip, `file#index`, in the order of `features.embed_clips`.

    Small repositories count as one source: one clip cannot be a source of its own.
    """
    large = {"fight-detection-surv-dataset", "hockey", "violent-flows"}
    return [
        Sample(
            file=f"{clip.file}#{index}",
            group="clips",
            source=f"clips_{clip.source if clip.source in large else 'small'}",
            labels=frozenset({LABEL_OF_GROUP["violence"]} if clip.fight else ()),
            detail=clip.camera,
        )
        for clip in clips
        for index in range(FRAMES)
    ]
