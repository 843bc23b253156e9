"""Ways to make one score of several, fitted without the sources that they are measured on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from moderation.models.training.figures import AUC, RECALL, Figure, Row
from moderation.models.training.fusion import compare
from moderation.models.training.leftout import LabelScores, Measured

ROUNDS = 100
CLIP, FRAMES = "clip", "frames"


def fusion_rows(measured: Sequence[Measured]) -> Iterator[Row]:
    """One row a way: the components of each label's score, and clips with the frames of them."""
    frames = {label: one for one in measured if not one.clips for label in one.labels}
    for model in measured:
        for label in model.labels:
            scores = model.left_out.of(label)
            if model.clips and label in frames:
                scores = with_frames(scores, frames[label].left_out.of(label))
            yield from _rows(model.spec.ref, scores)


def with_frames(clips: LabelScores, frames: LabelScores) -> LabelScores:
    """Clips with two components: their own logit, and the mean logit of their frames, which are
    named FILE#n. Clips without frames are NaN there."""
    owner = np.asarray([name.partition("#")[0] for name in frames.files.tolist()], np.str_)
    means = [
        float(frames.logits[owner == name].mean()) if (owner == name).any() else np.nan
        for name in clips.files.tolist()
    ]
    return replace(clips, parts={CLIP: clips.logits, FRAMES: np.asarray(means, np.float64)})


def _rows(model: str, scores: LabelScores) -> Iterator[Row]:
    report = compare(scores, rounds=ROUNDS)
    for one in () if report is None else report.figures:
        if one.source != "all":
            continue
        figures = (
            Figure(AUC, one.auc, one.auc_95),
            Figure(RECALL, one.recall_2, one.recall_2_95),
        )
        yield Row(model, scores.label, "fusion", one.method, one.positives, one.negatives, figures)
