"""The whole of `train_heads` on a synthetic data set: only the pictures' embeddings are made up."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from moderation.models.heads import Heads
from moderation.models.spec import read_spec
from moderation.models.training import features
from moderation.models.training.datasets import is_held_out
from moderation.models.training.leftout import FILE, read_left_out
from moderation.models.training.metrics import auc
from moderation.models.training.pipeline import TrainResult, train_heads
from moderation.models.training.recipe import SAFE_FOLDS, TASKS
from moderation.models.weights import sha256_of
from moderation.settings import load_settings

DIMS = 12
KINDS = ("safe", *(task.group for task in TASKS))


def embedding(file: str) -> NDArray[np.float32]:
    """Noise of its own for each file, and its kind's own direction, as its name tells."""
    rng = np.random.default_rng(zlib.crc32(file.encode()))
    found = rng.normal(0, 1, DIMS).astype(np.float32)
    kind = file.partition("/")[0] if "fight_" not in file else "violence"
    if kind in KINDS:
        found[KINDS.index(kind)] += 4.0
    return found


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    data = tmp_path_factory.mktemp("data")
    rows = ["file,group,label,source"]
    for source in sorted(set().union(*SAFE_FOLDS)):
        rows += [f"safe/{source}_{n}.webp,safe,x,{source}" for n in range(40)]
    for task in TASKS:
        for source in ("one", "two"):
            rows += [f"{task.group}/{source}_{n}.webp,{task.group},x,{source}" for n in range(40)]
    (data / "manifest.csv").write_text("\n".join(rows))
    clips = [f"clips/{kind}_{n}.mp4,{kind},hockey," for n in range(8) for kind in ("fight", "no")]
    (data / "clips.csv").write_text("\n".join(["file,label,source,camera_group", *clips]))
    out = tmp_path_factory.mktemp("out") / "scene-heads"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            features,
            "embed_group",
            lambda group, files, settings, progress: np.stack([embedding(f) for f in files]),
        )
        patch.setattr(
            features,
            "embed_clips",
            lambda files, settings, progress: np.stack(
                [embedding(f"{f}#{n}") for f in files for n in range(features.FRAMES)]
            ),
        )
        return train_heads(load_settings(home=data, dataset_dir=data), out=out)


def test_what_is_written_is_what_serving_reads(result: TrainResult) -> None:
    spec = read_spec(result.folder / "model.toml")
    (artefact,) = spec.artefacts
    path = result.folder / artefact.file
    assert (sha256_of(path), path.stat().st_size) == (artefact.sha256, artefact.size)
    heads = Heads.read(path, labels=len(spec.labels))
    for row, task in enumerate(TASKS):
        assert (spec.labels[row].label, spec.labels[row].index) == (task.label, row)
        shown = np.stack([embedding(f"{task.group}/new_{n}.webp") for n in range(20)])
        plain = np.stack([embedding(f"safe/new_{n}.webp") for n in range(20)])
        assert heads.probabilities(shown)[:, row].mean() > 0.7
        assert heads.probabilities(plain)[:, row].mean() < 0.3


def test_the_manifest_states_every_figure_with_its_source(result: TrainResult) -> None:
    spec = read_spec(result.folder / "model.toml")
    rows = result.rows()
    assert json.loads(json.dumps(rows)) == rows
    for row in rows:
        assert any(
            metric.label == row["label"]
            and metric.name == "auc"
            and metric.value == row["auc"]
            and metric.data.startswith(f"{row['left_out']} left out")
            for metric in spec.metrics
        )
    assert {"clips_hockey", "clips_hockey (inside)"} <= {row["left_out"] for row in rows}


def test_no_shipped_head_saw_the_held_out_tenth(result: TrainResult) -> None:
    for trained in result.heads:
        files = trained.left_out.files.tolist()
        aside = [file for file in files if is_held_out(file) and file.startswith("safe/")]
        assert aside
        ordinary = 40 * sum(len(fold) for fold in SAFE_FOLDS)
        assert trained.trained_on[1] <= ordinary + 24 - len(aside)


def test_every_picture_has_a_score_by_heads_that_never_saw_its_source(result: TrainResult) -> None:
    told = read_left_out(result.folder / FILE)
    (task,) = TASKS
    rows = told.of(task.label)
    assert len(rows) == len(told.files)
    assert rows.ordinary.sum() == 40 * sum(len(fold) for fold in SAFE_FOLDS)
    assert auc(rows.logits[rows.truth], rows.logits[~rows.truth]) > 0.9
    assert told.calibration[task.label].shape == (2,)
