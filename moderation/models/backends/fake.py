"""Deterministic scores from pixels, without weights: for tests of everything around models.

Not a model: verdicts name it `fake@1`. A label's score is one channel's mean brightness, so a
test can paint the verdict that it wants:

    red -> porn.explicit, green -> violence.weapon, blue -> smoking.smoking,
    darkest channel -> the other labels

It marks things as well: where green, or blue, stands out from the other channels is a pistol, or a
cigarette, in the smallest box around all of it. The box scores how far it stands out. What fills
the view is no thing. Green on cyan shows a weapon with a box, cyan one without.

With MODERATION_FAKE_CLIP=1 there is also `fake-clip@1`, which reads windows of a video and answers
violence.fight by how much their frames differ.

The environment sets what goes wrong: MODERATION_FAKE_DELAY_MS (time of a pass),
MODERATION_FAKE_POISON ("r,g,b": a view whose middle pixel has this colour fails),
MODERATION_FAKE_CRASH (the same, but the process ends at once with exit code 70).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moderation.errors import InferenceError
from moderation.models.backends.base import Pixels
from moderation.models.detections import sublabels
from moderation.settings import Settings
from moderation.types import Detection, InputKey, ViewScores, Window, Windows

REF = "fake@1"
LABELS = (
    "porn.explicit",
    "smoking.smoking",
    "violence.fight",
    "violence.fire",
    "violence.gore",
    "violence.weapon",
)
KEY = InputKey(width=32, height=32)
THINGS = (("violence.weapon", "pistol", 1), ("smoking.smoking", "cigarette", 2))
"""label, sublabel, channel that stands out"""
STANDS_OUT = 32
CLIP_REF = "fake-clip@1"
CLIP_LABEL = "violence.fight"
WINDOW = Window(KEY, frames=8, rate=8.0, every_s=1.0)
COLOUR_TOLERANCE = 8
CRASH_EXIT = 70

Colour = tuple[int, int, int]


class FakeModels:
    """The place of an `Ensemble`, for settings.backend = "fake"."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        delay_s: float | None = None,
        poison: Colour | None = None,
        crash: Colour | None = None,
    ) -> None:
        self.keys: tuple[InputKey, ...] = (KEY,)
        self.windows = windows()
        self.refs: tuple[str, ...] = (CLIP_REF, REF) if self.windows else (REF,)
        self.labels: tuple[str, ...] = LABELS
        self.device = "fake"
        self.precision = "f32"
        self._delay_s = _delay() if delay_s is None else delay_s
        self._poison = poison or _colour("MODERATION_FAKE_POISON")
        self._crash = crash or _colour("MODERATION_FAKE_CRASH")

    def score(
        self,
        views: Sequence[Mapping[InputKey, Pixels]],
        floors: Sequence[Mapping[str, float] | None] | None = None,
    ) -> list[ViewScores]:
        """floors: of no use here, it has no second opinion."""
        if self._delay_s:
            time.sleep(self._delay_s)
        return [self._one(view[KEY]) for view in views]

    def _one(self, pixels: Pixels) -> ViewScores:
        if _shows(pixels, self._crash):
            os._exit(CRASH_EXIT)
        if _shows(pixels, self._poison):
            raise InferenceError("a poisoned picture")
        red, green, blue = (float(mean) / 255 for mean in pixels.mean(axis=(0, 1)))
        painted = {"porn.explicit": red, "violence.weapon": green, "smoking.smoking": blue}
        scores = {label: painted.get(label, min(red, green, blue)) for label in LABELS}
        found = tuple(one for thing in THINGS if (one := _marked(pixels, *thing)) is not None)
        return ViewScores(
            scores=scores,
            models=dict.fromkeys(LABELS, REF),
            sublabels=sublabels(found),
            detections=found,
            embedding=np.array([red, green, blue], np.float16),
            encoder=REF,
        )

    def score_windows(self, window: Window, pixels: Pixels) -> list[ViewScores]:
        if self._delay_s:
            time.sleep(self._delay_s)
        changes = np.abs(np.diff(pixels.astype(np.int16), axis=1)).mean(axis=(1, 2, 3, 4)) / 255
        answered = {CLIP_LABEL: CLIP_REF}
        return [ViewScores({CLIP_LABEL: float(change)}, answered) for change in changes]

    def describe(self) -> list[dict[str, Any]]:
        told: list[tuple[str, str, Sequence[str]]] = [("fake", "classification", LABELS)]
        if self.windows:
            told.append(("fake-clip", "clip", (CLIP_LABEL,)))
        return [
            {
                "id": name,
                "version": "1",
                "task": task,
                "labels": list(labels),
                "licence": "Apache-2.0",
                "device": self.device,
                "precision": self.precision,
            }
            for name, task, labels in told
        ]

    def close(self) -> None:
        """Nothing to let go of."""


def windows() -> Windows:
    """What the fake clip model reads and answers, where the environment asks for it."""
    return {WINDOW: {CLIP_LABEL: CLIP_REF}} if os.environ.get("MODERATION_FAKE_CLIP") == "1" else {}


def _delay() -> float:
    return float(os.environ.get("MODERATION_FAKE_DELAY_MS", "0")) / 1000


def _marked(pixels: Pixels, label: str, sublabel: str, channel: int) -> Detection | None:
    """What stands out in a channel, if anything does."""
    values = pixels.astype(np.int16)
    ahead = values[..., channel] - np.delete(values, channel, axis=2).max(axis=2)
    shown = ahead >= STANDS_OUT
    if shown.all() or not shown.any():
        return None
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    height, width = shown.shape
    box = (
        float(columns[0]) / width,
        float(rows[0]) / height,
        float(columns[-1] + 1) / width,
        float(rows[-1] + 1) / height,
    )
    return Detection(label, sublabel, box, round(float(ahead[shown].mean()) / 255, 4))


def _shows(pixels: Pixels, colour: Colour | None) -> bool:
    """Whether the middle pixel has about this colour."""
    if colour is None:
        return False
    middle = pixels[KEY.height // 2, KEY.width // 2].astype(int)
    return bool(np.abs(middle - colour).max() <= COLOUR_TOLERANCE)


def _colour(variable: str) -> Colour | None:
    text = os.environ.get(variable)
    if not text:
        return None
    red, green, blue = (int(part) for part in text.split(","))
    return red, green, blue
