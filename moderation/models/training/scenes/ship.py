"""What ships: fused and calibrated on sources left out, trained on all, in every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.errors import WeightsError
from moderation.models.nets.scenes import LABELS
from moderation.models.training import figures_text, metrics
from moderation.models.training.calibration import CalibrationReport, calibrate, fit
from moderation.models.training.datasets import is_held_out
from moderation.models.training.fusion import Fuser, FusionReport, compare, equal_fuser
from moderation.models.training.leftout import (
    BOXES_FILE,
    FILE,
    TWINS,
    BoxFigure,
    LeftOut,
    write_boxes,
    write_left_out,
)
from moderation.models.training.scenes import augment, export, manifest, score
from moderation.models.training.scenes.boxes import box_figures
from moderation.models.training.scenes.examples import Load
from moderation.models.training.scenes.fit import Step
from moderation.models.training.scenes.manifest import by_source
from moderation.models.training.scenes.pictures import Picture, Pixels
from moderation.models.training.scenes.recipe import Recipe
from moderation.models.training.scenes.train import Loader, Progress, Run, train
from moderation.settings import Settings

F32 = NDArray[np.float32]
PARITY = 1e-3
"""Largest difference of any output between OpenVINO and torch, both in f32."""
PARTS = ("logit", "heat", "frozen")
LEAST_MEASURED = 0.02
"""Boxes down to this peak count for the average precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Shipped:
    """What was found on the way. differences: as `export.write` tells them."""

    folder: Path
    left_out: LeftOut
    fusions: Mapping[str, FusionReport | None]
    calibrations: Mapping[str, CalibrationReport | None]
    boxes: tuple[BoxFigure, ...]
    differences: Mapping[str, float]

    def figures(self) -> list[dict[str, Any]]:
        """One row a label and left-out source, JSON-ready."""
        return [
            {
                "label": label,
                "left_out": source,
                "positives": len(yes),
                "negatives": len(no),
                "auc": round(metrics.auc(yes, no), 4),
                "auc_95": [round(value, 4) for value in metrics.bootstrap(metrics.auc, yes, no)],
                "recall_at_2_percent": round(metrics.recall_at(yes, no, 0.02), 3),
            }
            for label in LABELS
            for source, yes, no in by_source(self.left_out, label)
        ]


def ship(
    recipe: Recipe,
    settings: Settings,
    *,
    out: Path | None = None,
    fold: str = "a",
    device: str = "cpu",
    threads: int = 2,
    progress: Progress | None = None,
    watch: Callable[[Step], None] | None = None,
) -> Shipped:
    """Two runs, one without the fold's sources and one with all, then fusion, calibration, files.

    Raises ConfigError without data or the published trunk.
    """

    def run(leaving: str | None) -> Run:
        return train(
            recipe, settings, fold=leaving, device=device, threads=threads,
            progress=progress, watch=watch,
        )  # fmt: skip

    load = Loader(settings)
    measured = run(fold)
    left_out, boxes = measure(measured, recipe, fold, load, threads, progress)
    fusions = {label: compare(left_out.of(label)) for label in LABELS}
    fusers = {label: _fuser(left_out, label, fusions[label]) for label in LABELS}
    left_out = replace(left_out, score={x: _fused(left_out, x, fusers[x]) for x in LABELS})
    calibrations = {label: calibrate(left_out.of(label)) for label in LABELS}
    platt = {label: _platt(left_out, label) for label in LABELS}
    left_out = replace(left_out, calibration=platt)
    whole = run(None).served
    whole.set_fusion([_baked(fusers[label], platt[label]) for label in LABELS])
    folder = settings.manifests / recipe.id if out is None else out
    differences = export.write(whole, recipe.serve_side, folder)
    if differences["f32"] > PARITY:
        raise WeightsError(f"OpenVINO differs from torch by {differences['f32']:.1e}")
    write_left_out(folder / FILE, left_out)
    write_boxes(folder / BOXES_FILE, boxes)
    told = manifest.text(recipe, folder, left_out, boxes)
    (folder / "model.toml").write_text(told, "utf-8")
    card = folder / "README.md"
    if card.is_file():
        text = figures_text.card(card.read_text("utf-8"), recipe.id, left_out, boxes)
        card.write_text(text, "utf-8")
    return Shipped(folder, left_out, fusions, calibrations, boxes, differences)


def measure(
    run: Run, recipe: Recipe, fold: str, load: Load, threads: int, progress: Progress | None
) -> tuple[LeftOut, tuple[BoxFigure, ...]]:
    """Scores, not yet fused, and boxes of the pictures of sources that a run left out; twins of
    pictures of known sources that it did not see."""
    aside = recipe.folds[fold]
    pictures = [p for p in run.unseen if aside.leaves_out(p)]
    spec = score.detector(LEAST_MEASURED)
    said = score.score(
        run.served, pictures, load, spec, side=recipe.serve_side, threads=threads,
        progress=progress,
    )  # fmt: skip
    pairs = [p for p in run.unseen if is_held_out(p.file) and _paintable(p)]
    twins = [replace(p, file=f"{p.file}#{kind}") for p in pairs for kind in ("erased", "kept")]
    again = score.score(
        run.served, twins, lambda p: _twin(p, load), spec, side=recipe.serve_side,
        threads=threads, progress=progress,
    )  # fmt: skip
    rows = [*pictures, *twins]
    parts = np.concatenate([said.parts, again.parts])
    found = LeftOut(
        files=np.array([p.file for p in rows]),
        sources=np.array([*(p.source for p in pictures), *(f"{TWINS}{p.source}" for p in twins)]),
        details=np.array([p.detail for p in rows]),
        truth={label: np.array([_truth(p, label) for p in rows], np.int8) for label in LABELS},
        score={label: parts[:, row].sum(axis=1) for row, label in enumerate(LABELS)},
        parts={
            label: {name: parts[:, row, column] for column, name in enumerate(PARTS)}
            for row, label in enumerate(LABELS)
        },
        boxed={
            label: np.array(
                [
                    any(one.label == label and one.score >= manifest.EVIDENCE for one in of)
                    for of in (*said.found, *again.found)
                ],
                np.int8,
            )
            for label in LABELS
        },
    )
    return found, box_figures(pictures, said.found)


def _truth(picture: Picture, label: str) -> int:
    if picture.file.endswith("#erased"):
        return 0 if picture.label == label else -1
    return 1 if picture.label == label else 0 if picture.safe else -1


def _paintable(picture: Picture) -> bool:
    small = all(b.tight and b.area <= augment.SMALL for b in picture.boxes)
    return picture.group == "smoking" and bool(picture.boxes) and small


def _twin(picture: Picture, load: Load) -> Pixels:
    """The picture with its objects painted over, or with other places of it."""
    file, _, kind = picture.file.partition("#")
    pixels = load(replace(picture, file=file))
    random = np.random.default_rng(len(file))
    places = list(picture.boxes) if kind == "erased" else augment.somewhere(picture.boxes, random)
    return augment.paint_over(pixels, places, random) if places else pixels


def _fuser(left_out: LeftOut, label: str, report: FusionReport | None) -> Fuser:
    """Of one source alone nothing can be fitted that another one would confirm: equal weights."""
    if report is not None:
        return report.fuser
    rows = left_out.of(label)
    rows = rows.where(~rows.twins)
    return equal_fuser(rows.parts, rows.truth)


def _fused(left_out: LeftOut, label: str, fuser: Fuser) -> F32:
    parts = {name: part.astype(np.float64) for name, part in left_out.parts[label].items()}
    return fuser(parts).astype(np.float32)


def _platt(left_out: LeftOut, label: str) -> NDArray[np.float64]:
    """The graph answers calibrated log odds, so the calibration is a line."""
    rows = left_out.of(label)
    rows = rows.where(~rows.twins)
    return fit("platt", rows.logits, rows.truth).table


def _baked(fuser: Fuser, platt: NDArray[np.float64]) -> list[float]:
    """Weights of PARTS and a constant: a * (fused) + b."""
    a, b = platt.tolist()
    weights = dict(zip(fuser.names, fuser.weights, strict=True))
    return [*(a * weights[name] for name in PARTS), a * fuser.bias + b]
