"""All of it in one call: data -> embeddings -> figures on left-out sources -> shipped heads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.models.spec import ModelSpec
from moderation.models.training import datasets, features, figures, metrics
from moderation.models.training.crossval import (
    leave_sources_out,
    mean_logits,
    pooled,
)
from moderation.models.training.heads import Head, fit_head, fit_platt, sigmoid
from moderation.models.training.leftout import FILE, LeftOut, write_left_out
from moderation.models.training.recipe import TASKS, Examples, Task, clip_samples
from moderation.settings import Settings

ID = "scene-heads"
VERSION = "2"
Progress = Callable[[str, int, int], None]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedHead:
    """One label's head with its calibration and what the evaluation found.

    `left_out`: what heads that were not trained on a picture's source said of it. `trained_on`:
    (positives, negatives).
    """

    task: Task
    head: Head
    calibration: tuple[float, float]
    pooled_auc: float
    calibration_error: float
    left_out: LeftOut
    trained_on: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """Where the heads were written, and what was measured."""

    folder: Path
    sha256: str
    size: int
    heads: tuple[TrainedHead, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row per label and left-out source, JSON-ready; "(inside)" where frames of clips are
        compared with others of their own source."""
        return [
            {
                "label": row.label,
                "left_out": row.left_out + (" (inside)" if row.what == "same source" else ""),
                "positives": row.positives,
                "negatives": row.negatives,
                "auc": round(area.value, 4),
                "auc_95": [round(value, 4) for value in area.interval],
                "recall_at_2_percent": round(recall.value, 3),
            }
            for trained in self.heads
            for row in figures.rows(f"{ID}@{VERSION}", trained.left_out)
            if (area := row.figure(figures.AUC)) and (recall := row.figure(figures.RECALL))
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Every picture and clip frame with its embedding and look-alike cluster."""

    samples: tuple[datasets.Sample, ...]
    embeddings: F32
    clusters: NDArray[np.int64]

    def examples(self, task: Task) -> Examples:
        """A task's positives and the ordinary pictures; clips where the task asks for them."""
        groups = {task.group, "safe"} | ({"clips"} if task.clips else set())
        rows = np.flatnonzero([sample.group in groups for sample in self.samples])
        chosen = [self.samples[row] for row in rows]
        return Examples(
            features=self.embeddings[rows],
            files=np.asarray([sample.file for sample in chosen]),
            sources=np.asarray([sample.source for sample in chosen]),
            truth=np.asarray([task.label in sample.labels for sample in chosen]),
            clusters=self.clusters[rows],
        )


def load_data(settings: Settings, progress: Progress | None = None) -> Data:
    """Read the manifests and embed what is not cached. Raises ConfigError without data."""
    folder = datasets.dataset_dir(settings)
    pictures = datasets.read_manifest(folder / "manifest.csv")
    clips = datasets.read_clips(folder / "clips.csv")
    samples: list[datasets.Sample] = []
    parts = []
    for group in sorted({"safe", *(task.group for task in TASKS)}):
        members = [sample for sample in pictures if sample.group == group]
        files = [sample.file for sample in members]
        parts.append(features.embed_group(group, files, settings, progress))
        samples += members
    parts.append(features.embed_clips([clip.file for clip in clips], settings, progress))
    samples += clip_samples(clips)
    embeddings = np.concatenate(parts)
    clusters = datasets.look_alikes(embeddings, [sample.source for sample in samples])
    return Data(tuple(samples), embeddings, clusters)


def train_heads(
    settings: Settings, *, out: Path | None = None, progress: Progress | None = None
) -> TrainResult:
    """Train, measure and write heads.npz and model.toml into `out` (default: the committed
    folder). Raises ConfigError without data, WeightsError without the trunk."""
    data = load_data(settings, progress)
    heads = tuple(train_one(data, task, progress) for task in TASKS)
    folder = out or settings.manifests / ID
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "heads.npz"
    np.savez(
        path,
        weight=np.stack([trained.head.weight for trained in heads]),
        bias=np.asarray([trained.head.bias for trained in heads], np.float32),
        calibration=np.asarray([trained.calibration for trained in heads], np.float32),
    )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    result = TrainResult(folder, digest, len(content), heads)
    manifest = manifest_text(result, features.encoder_spec(settings))
    (folder / "model.toml").write_text(manifest, "utf-8")
    (only,) = heads  # one file holds the scores of one head
    write_left_out(folder / FILE, only.left_out)
    return result


def train_one(data: Data, task: Task, progress: Progress | None = None) -> TrainedHead:
    """One head: measured on left-out sources, then fitted on all that is not held out.

    The calibration comes from the left-out scores, at equal prevalence of both kinds.
    """
    examples = data.examples(task)
    folds = leave_sources_out(examples, task, progress)
    positives, negatives = pooled(folds)
    truth = np.concatenate([np.ones(len(positives), bool), np.zeros(len(negatives), bool)])
    a, b = fit_platt(np.concatenate([positives, negatives]), truth)
    keep = datasets.trainable(examples.files.tolist(), examples.clusters)
    head = fit_head(examples.features[keep], examples.truth[keep], c=task.c)
    return TrainedHead(
        task=task,
        head=head,
        calibration=(a, b),
        pooled_auc=metrics.auc(positives, negatives),
        calibration_error=metrics.calibration_error(
            sigmoid(a * positives + b), sigmoid(a * negatives + b)
        ),
        left_out=LeftOut(
            files=examples.files,
            sources=examples.sources,
            truth={task.label: examples.truth.astype(np.int8)},
            score={task.label: mean_logits(folds, len(examples))},
            calibration={task.label: np.asarray((a, b))},
        ),
        trained_on=(int(examples.truth[keep].sum()), int((~examples.truth[keep]).sum())),
    )


def manifest_text(result: TrainResult, encoder: ModelSpec) -> str:
    """The manifest of the heads just written, with their figures."""
    lines = [
        "# Written by `python -m moderation.models.training.train_heads`.",
        f'id = "{ID}"',
        f'version = "{VERSION}"',
        'task = "heads"',
        f'architecture = "logistic regression on the features of {encoder.id}, one per label"',
        'summary = "Fights in a single picture."',
        'licence = "Apache-2.0"',
        'origin = "trained by this project; recipe and data in the card"',
        f'encoder = "{encoder.ref}"',
    ]
    for row, trained in enumerate(result.heads):
        lines += ["", "[[labels]]", f'label = "{trained.task.label}"', 'output = "heads"']
        lines += [f"index = {row}"]
    lines += [
        *("", "[[artefacts]]", 'backend = "numpy"'),
        *('source = "committed"', 'file = "heads.npz"'),
        *(f'sha256 = "{result.sha256}"', f"size = {result.size}"),
    ]
    for item in result.rows():
        interval = f"{item['auc_95'][0]:.3f} to {item['auc_95'][1]:.3f}"
        counts = f"{item['positives']} against {item['negatives']}"
        for name in ("auc", "recall_at_2_percent"):
            if math.isnan(item[name]):
                continue
            where = f"{item['left_out']} left out, {counts}"
            where += f" (95 %: {interval})" if name == "auc" else ""
            lines += ["", "[[metrics]]", f'label = "{item["label"]}"', f'name = "{name}"']
            lines += [f"value = {item[name]}", f'data = "{where}"']
    return "\n".join(lines) + "\n"
