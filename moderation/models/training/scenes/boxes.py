"""How good the boxes of `scenes` are on pictures that it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from moderation.models.nets.scenes import CLASSES, CLASSES_OF, LABELS
from moderation.models.training import metrics
from moderation.models.training.leftout import BoxFigure
from moderation.models.training.metrics import Detections, Truths
from moderation.models.training.scenes.pictures import ONE_CLASS, Picture
from moderation.types import Detection

GUN = "gun"
KNIFE = CLASSES.index("knife")
ROUNDS = 50
Classes = Mapping[str, tuple[Detections, Truths]]


def box_figures(
    pictures: Sequence[Picture], found: Sequence[Sequence[Detection]]
) -> tuple[BoxFigure, ...]:
    """mAP@0.5 of each label over its pictures whose boxes are tight, with an interval over
    pictures. Where a source calls every gun by one name, pistols and long guns are one class."""
    figures = []
    for label in LABELS:
        rows = [i for i, picture in enumerate(pictures) if _measurable(picture, label)]
        if not rows:
            continue
        members = [pictures[i] for i in rows]
        classes = _classes(members, [found[i] for i in rows], _names(label, members))
        value, each = metrics.mean_average_precision(classes)
        low, high = _interval(classes, len(rows))
        figures.append(
            BoxFigure(
                label=label,
                map50=value,
                interval=(low, high),
                classes={name: ap for name, ap in each.items() if not np.isnan(ap)},
                pictures=len(rows),
                data=", ".join(sorted({picture.source for picture in members})),
            )
        )
    return tuple(figures)


def _measurable(picture: Picture, label: str) -> bool:
    tight = bool(picture.boxes) and all(box.tight for box in picture.boxes)
    return picture.label == label and tight


def _names(label: str, pictures: Sequence[Picture]) -> dict[int, str]:
    """Class number -> the name under which it is counted."""
    vague = any(picture.source in ONE_CLASS for picture in pictures)
    guns = vague and label == "violence.weapon"
    return {k: GUN if guns and k != KNIFE else CLASSES[k] for k in CLASSES_OF[label]}


def _classes(
    pictures: Sequence[Picture], found: Sequence[Sequence[Detection]], names: Mapping[int, str]
) -> Classes:
    by_sublabel = {CLASSES[k]: name for k, name in names.items()}
    classes = {}
    for name in sorted(set(names.values())):
        truths = [
            [(b.x1, b.y1, b.x2, b.y2) for b in picture.boxes if names[b.kind] == name]
            for picture in pictures
        ]
        marked = [[d for d in of if by_sublabel.get(str(d.sublabel)) == name] for of in found]
        classes[name] = (
            [
                (np.array([d.box for d in of]).reshape(-1, 4), np.array([d.score for d in of]))
                for of in marked
            ],
            [np.array(boxes, np.float64).reshape(-1, 4) for boxes in truths],
        )
    return classes


def _interval(classes: Classes, count: int) -> tuple[float, float]:
    random = np.random.default_rng(0)
    values = []
    for _ in range(ROUNDS):
        picks = random.integers(count, size=count)
        drawn = {
            name: ([found[i] for i in picks], [truth[i] for i in picks])
            for name, (found, truth) in classes.items()
        }
        values.append(metrics.mean_average_precision(drawn)[0])
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
