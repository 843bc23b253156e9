"""Training of `fights`: who is left out, how clips count, what is written."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError
from moderation.models.spec import read_spec
from moderation.models.training.datasets import Clip
from moderation.models.training.fights import export, graph, measure
from moderation.models.training.fights.clips import Fold, folds, windows
from moderation.models.training.fights.features import Windows
from moderation.models.training.fights.logistic import fit_wide
from moderation.models.training.fights.recipe import read_recipe
from moderation.models.training.fights.train import RECIPE, fit_all
from moderation.models.training.heads import Head, fit_head
from moderation.models.training.leftout import read_left_out, write_left_out
from tests.unit.test_fights_graph import RECIPE as TINY
from tests.unit.test_fights_graph import tiny_trunk

CLIPS = [
    *(Clip(f"clips/c{i}.mp4", i % 2 == 0, "cctv", f"camera{i // 2}") for i in range(24)),
    *(Clip(f"clips/s{i}.mp4", i % 2 == 0, f"small{i // 4}", "") for i in range(16)),
    *(Clip(f"clips/h{i}.mp4", i % 2 == 0, "hockey", f"{i}") for i in range(12)),
]


def learnable(seed: int = 0, apart: float = 2.0) -> Windows:
    """Two windows a clip, forty features of which one tells fights."""
    random = np.random.default_rng(seed)
    owner = np.arange(len(CLIPS)).repeat(2)
    values = random.normal(size=(len(owner), 40)).astype(np.float32)
    values[:, 7] += apart * np.array([clip.fight for clip in CLIPS])[owner]
    return Windows(values, owner)


@given(count=st.integers(1, 200), frames=st.integers(2, 32), most=st.integers(1, 5))
def test_windows_lie_inside_the_clip(count: int, frames: int, most: int) -> None:
    found = windows(count, frames, most)
    assert 1 <= len(found) <= most
    for window in found:
        assert len(window) == frames
        assert window.min() >= 0
        assert window.max() < count
        assert (np.diff(window) >= 0).all()
    starts = [int(window[0]) for window in found]
    assert all(b - a >= frames // 3 for a, b in pairwise(starts))


def test_a_short_clip_is_slowed_down() -> None:
    (window,) = windows(4, 8, 3)
    assert window.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_each_clip_is_left_out_once_and_no_camera_is_on_both_sides() -> None:
    groups = folds(CLIPS, TINY.folds)
    rows = np.concatenate([fold.rows for fold in groups])
    assert sorted(rows.tolist()) == list(range(len(CLIPS)))
    for fold in groups:
        inside = {(c.source, c.camera if c.source == "cctv" else "") for c in pick(fold)}
        others = [CLIPS[row] for row in set(range(len(CLIPS))) - set(fold.rows.tolist())]
        assert not inside & {(c.source, c.camera if c.source == "cctv" else "") for c in others}


def pick(fold: Fold) -> list[Clip]:
    return [CLIPS[row] for row in fold.rows.tolist()]


def test_a_fold_without_clips_is_an_error() -> None:
    with pytest.raises(ConfigError, match="hockey"):
        folds([clip for clip in CLIPS if clip.source != "hockey"], TINY.folds)


def test_the_wide_solution_is_the_narrow_one() -> None:
    random = np.random.default_rng(1)
    features = random.normal(3, 2, (60, 25)).astype(np.float32)
    truth = features[:, 0] + random.normal(size=60) > 3
    weight = random.uniform(0.2, 2, 60)
    wide = fit_wide(features, truth, weight, c=0.05)
    narrow = fit_head(features, truth, c=0.05, weight=weight)
    np.testing.assert_allclose(wide(features), narrow(features), atol=2e-3)


def test_one_kind_alone_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="one kind"):
        fit_wide(np.zeros((3, 2), np.float32), np.ones(3, bool), np.ones(3), c=1.0)


def test_both_kinds_count_the_same() -> None:
    truth = np.array([True, False, False, False])
    weight = measure.even(np.array([1.0, 2.0, 3.0, 4.0]), truth)
    assert weight[truth].sum() == pytest.approx(weight[~truth].sum())
    assert weight.sum() == pytest.approx(10.0)
    assert weight[3] / weight[1] == pytest.approx(2.0)


def test_what_is_left_out_is_not_learned_from() -> None:
    """Labels that only the left-out clips have turned round cannot be guessed."""
    data = learnable()
    groups = folds(CLIPS, TINY.folds)
    turned = [Clip(c.file, c.fight != (c.source == "hockey"), c.source, c.camera) for c in CLIPS]
    scores = measure.of_clips(measure.leave_out(data, turned, groups, TINY), data.clip, len(turned))
    hockey = np.array([c.source == "hockey" for c in turned])
    truth = np.array([c.fight for c in turned])
    assert scores[hockey & truth].mean() < scores[hockey & ~truth].mean()
    assert scores[~hockey & truth].mean() > scores[~hockey & ~truth].mean()


def test_figures_tell_good_scores_from_chance() -> None:
    groups = folds(CLIPS, TINY.folds)
    free = TINY.model_copy(update={"c": 1.0})
    good = fit_all(learnable(apart=8.0), CLIPS, groups, free)
    chance = fit_all(learnable(apart=0.0), CLIPS, groups, free)
    assert [one.name for one in good.figures] == [
        "cctv, cameras left out",
        "small sources left out",
        "hockey left out",
        "all other sources",
    ]
    assert min(one.auc for one in good.figures) > 0.9
    assert max(one.interval[0] for one in chance.figures) < 0.75
    for one in good.figures:
        assert one.interval[0] <= one.auc <= one.interval[1]
    assert good.calibration[0] > 0


def test_what_is_written_reads_as_a_clip_model(tmp_path: Path) -> None:
    folder = tmp_path / "fights"
    groups = folds(CLIPS, TINY.folds)
    trained = fit_all(learnable(), CLIPS, groups, TINY)
    network = graph.window_network(tiny_trunk(), TINY)
    head = Head(np.linspace(-1, 1, 24).astype(np.float32), 0.5)
    saved = export.save_network(graph.with_head(network, head), folder)
    told = export.manifest(TINY, folder, trained.calibration, trained.figures)
    (folder / "model.toml").write_text(told, "utf-8")
    spec = read_spec(folder / "model.toml")
    assert spec.clip is not None
    assert (spec.clip.frames, spec.clip.rate, spec.clip.every_s) == (4, 12.0, 3.0)
    assert spec.labels[0].calibration == pytest.approx(trained.calibration, rel=1e-4)
    assert spec.labels[0].label == "violence.fight"
    assert ov.Core().read_model(saved).outputs[0].get_any_name() == spec.labels[0].output
    assert len(spec.metrics) == 2 * len(trained.figures)
    write_left_out(folder / "left-out.npz", export.left_out(trained.scores, CLIPS, (1.0, 0.0)))
    scores = read_left_out(folder / "left-out.npz").of("violence.fight")
    assert scores.truth.tolist() == [clip.fight for clip in CLIPS]
    np.testing.assert_allclose(scores.logits, trained.scores)


def test_the_shipped_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPE)
    assert recipe.id == "fights"
    text = RECIPE.read_text("utf-8")
    assert tomllib.loads(text)["frames"] == recipe.frames
    (tmp_path / "r.toml").write_text(text.replace("frames = 16", "frames = 4"), "utf-8")
    with pytest.raises(ConfigError, match="compares nothing"):
        read_recipe(tmp_path / "r.toml")
