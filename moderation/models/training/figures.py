"""The figures of a model on sources that it never saw, each beside what is wanted of it. Pure.

They come from left-out scores (`leftout.py`) alone. `figures_text.py` shows them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.models.training import metrics
from moderation.models.training.calibration import Method, calibrate
from moderation.models.training.groups import source_folds
from moderation.models.training.leftout import BoxFigure, LabelScores, LeftOut, Measured
from moderation.models.training.limits import calibrator_of
from moderation.models.training.metrics import Interval
from moderation.models.training.targets import (
    CALIBRATION_ERROR,
    CCTV,
    CLIPS,
    FALSE_POSITIVES,
    HARD,
    TARGETS,
    Target,
)
from moderation.policy import Policy

LARGE = 30
"""Clips that make a source a row of its own."""
AUC, RECALL, RECALL_5 = "AUC", "recall at 2 %", "recall at 5 %"
MAP, ECE, ECE_RARE = "mAP@0.5", "ECE at 50:50", "ECE at 1 %"
REVIEW, BLOCK = "sent to review", "blocked"
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its 95 % interval. `target`: at least that much, or at most where `most`."""

    name: str
    value: float
    interval: Interval
    target: float | None = None
    most: bool = False

    @property
    def reached(self) -> bool | None:
        """None where nothing is wanted."""
        if self.target is None:
            return None
        return self.value <= self.target if self.most else self.value >= self.target

    def __str__(self) -> str:
        digits = {AUC: 4, MAP: 2}.get(self.name, 3)
        low, high = self.interval
        return f"{self.value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Row:
    """What one model says of one label, over one part of what was left out.

    `what`: pictures, hard negatives, same source, twins, clips, boxes, calibration, ordinary.
    """

    model: str
    label: str
    what: str
    left_out: str
    positives: int
    negatives: int
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        found = asdict(self)
        for told, figure in zip(found["figures"], self.figures, strict=True):
            told["reached"] = figure.reached
        return found

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, if the row has it."""
        return next((figure for figure in self.figures if figure.name == name), None)


def rows_of(model: Measured) -> tuple[Row, ...]:
    """Every row of one model."""
    return tuple(rows(model.spec.ref, model.left_out, model.boxes, clips=model.clips))


def rows(
    model: str, left_out: LeftOut, boxes: Sequence[BoxFigure] = (), *, clips: bool = False
) -> Iterator[Row]:
    """Rows of a model's left-out scores: pictures or clips, then boxes, then calibration."""
    for label in left_out.labels:
        scores = left_out.of(label)
        yield from (_clip_rows if clips else _picture_rows)(model, scores)
    for one in boxes:
        target = TARGETS.get(one.label, Target()).map50
        figure = Figure(MAP, one.map50, one.interval, target)
        each = ", ".join(f"{name} {value:.2f}" for name, value in sorted(one.classes.items()))
        name = f"{one.data} ({each})"
        yield Row(model, one.label, "boxes", name, one.pictures, 0, (figure,))
    for label in left_out.labels:
        yield from _calibration(model, left_out, label, "clips" if clips else "pictures")


def _picture_rows(model: str, scores: LabelScores) -> Iterator[Row]:
    target = TARGETS.get(scores.label, Target())
    plain = scores.where(~scores.twins)
    ordinary = plain.logits[plain.ordinary]
    hard = plain.ordinary & np.isin(_kinds(plain), HARD.get(scores.label, ()))
    for source in np.unique(plain.sources[plain.truth]).tolist():
        mine = plain.logits[plain.truth & (plain.sources == source)]
        yield _against(model, scores.label, "pictures", source, mine, ordinary, target)
    if hard.any():
        for source in np.unique(plain.sources[plain.truth]).tolist():
            mine = plain.logits[plain.truth & (plain.sources == source)]
            yield _against(
                model, scores.label, "hard negatives", source, mine, plain.logits[hard], target
            )
    others = ~plain.truth & ~plain.ordinary
    for source in np.unique(plain.sources[others]).tolist():
        here = plain.sources == source
        mine = plain.logits[here & plain.truth]
        if len(mine):
            yield _against(
                model,
                scores.label,
                "same source",
                source,
                mine,
                plain.logits[here & others],
                Target(),
            )
    twins = scores.where(scores.twins)
    if twins.truth.any() and not twins.truth.all():
        name = ", ".join(np.unique([one.partition(":")[2] for one in twins.sources.tolist()]))
        positives, negatives = twins.logits[twins.truth], twins.logits[~twins.truth]
        yield _against(model, scores.label, "twins", name, positives, negatives, Target(), ())


def _kinds(scores: LabelScores) -> NDArray[np.str_]:
    """What the data set calls each row, without its group."""
    if scores.details is None:
        return np.full(len(scores), "")
    return np.asarray([one.rpartition(":")[2] for one in scores.details.tolist()], np.str_)


def _against(
    model: str,
    label: str,
    what: str,
    source: str,
    positives: metrics.Scores,
    negatives: metrics.Scores,
    target: Target,
    recalls: Sequence[str] = (RECALL,),
) -> Row:
    area = metrics.auc(positives, negatives)
    figures = [Figure(AUC, area, metrics.bootstrap(metrics.auc, positives, negatives), target.auc)]
    figures += [
        Figure(
            name,
            metrics.recall_at(positives, negatives, 0.02),
            metrics.bootstrap(partial(metrics.recall_at, rate=0.02), positives, negatives),
            target.recall,
        )
        for name in recalls
    ]
    return Row(model, label, what, source, len(positives), len(negatives), tuple(figures))


def _clip_rows(model: str, scores: LabelScores) -> Iterator[Row]:
    """CCTV, each other large source, the small ones together, all but CCTV together. Intervals are
    over cameras: clips of one camera are no two witnesses."""
    target = CLIPS.get(scores.label, Target())
    sources = np.unique(scores.sources).tolist()
    main = scores.sources == CCTV
    large = [one for one in sources if one != CCTV and (scores.sources == one).sum() >= LARGE]
    small = ~main & ~np.isin(scores.sources, large)
    kept = [
        (f"{CCTV}, new cameras", main),
        ("small sources", small),
        *((source, scores.sources == source) for source in large),
        ("all but CCTV", ~main),
    ]
    cameras = np.full(len(scores), "") if scores.details is None else scores.details
    named = zip(scores.sources.tolist(), cameras.tolist(), strict=True)
    groups = np.asarray([f"{source}/{camera}" for source, camera in named], np.str_)
    for name, here in kept:
        truth, logits = scores.truth[here], scores.logits[here]
        if not truth.any() or truth.all():
            continue
        figures = tuple(
            Figure(
                told,
                figure(logits[truth], logits[~truth]),
                metrics.bootstrap_groups(figure, logits, truth, groups[here].tolist()),
                wanted,
            )
            for told, figure, wanted in (
                (AUC, metrics.auc, target.auc),
                (RECALL_5, partial(metrics.recall_at, rate=0.05), None),
            )
        )
        fights = int(truth.sum())
        yield Row(model, scores.label, "clips", name, fights, len(truth) - fights, figures)


def _calibration(model: str, left_out: LeftOut, label: str, kind: str) -> Iterator[Row]:
    """The error of calibrations fitted on the other sources; where there is one source of
    positives alone, on the other half of its pictures, which is easier."""
    scores = left_out.of(label)
    scores = scores.where(~scores.twins)
    if not scores.truth.any() or scores.truth.all():
        return
    folds = source_folds(scores.sources, scores.truth)
    how = f"{kind} of sources not calibrated on"
    if folds is None:
        halves = [zlib.crc32(file.encode()) % 2 for file in scores.files.tolist()]
        folds, how = np.asarray(halves, np.int64), f"{kind}, the other half of the same sources"
    report = calibrate(scores, folds=folds)
    if report is None:  # never with folds
        return
    method: Method = calibrator_of(left_out, scores).method
    errors = report.errors[method]
    figures = (
        Figure(ECE, *errors["50:50"], CALIBRATION_ERROR, most=True),
        Figure(ECE_RARE, *errors["1 %"], CALIBRATION_ERROR, most=True),
    )
    positives = int(scores.truth.sum())
    yield Row(model, label, "calibration", how, positives, len(scores) - positives, figures)


def ordinary_rows(ordinary: LeftOut, policy: Policy) -> Iterator[Row]:
    """What the policy's thresholds show of ordinary pictures, for labels that are not trained here:
    nobody has pictures to measure their recall."""
    for rule in policy.rules:
        if rule.label not in ordinary.labels:
            continue
        scores = ordinary.of(rule.label)
        chance = calibrator_of(ordinary, scores)(scores.logits)
        wanted = FALSE_POSITIVES.get(rule.label, (None, None))
        figures = []
        for name, at, most in zip(
            (REVIEW, BLOCK), (rule.review_at, rule.block_at), wanted, strict=True
        ):
            hit = int((chance >= (math.inf if at is None else at)).sum())
            told = name if at is None else f"{name}, at {at:g}"
            interval = metrics.wilson(hit, len(chance))
            figures.append(Figure(told, hit / max(len(chance), 1), interval, most, most=True))
        yield Row(policy.ref, rule.label, "ordinary", "all", 0, len(chance), tuple(figures))
