"""The shipped models over pictures that no shipped head was trained on, by the serving path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moderation.models.spec import read_specs
from moderation.models.training import datasets
from moderation.models.training.evaluate import EvalReport, run_eval
from moderation.models.weights import status
from moderation.settings import Settings, load_settings

ORDINARY, POSITIVES = 300, 50

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    if not os.environ.get("MODERATION_DATASET_DIR"):
        pytest.skip("MODERATION_DATASET_DIR is not set: no labelled pictures here")
    found = load_settings(home=tmp_path_factory.mktemp("home"))
    if not all(row.ok for row in status(read_specs(found.manifests), found)):
        pytest.skip("weights are missing: run `moderation weights pull`")
    return found


@pytest.fixture(scope="module")
def report(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> EvalReport:
    """The first held-out ordinary pictures, and those of each danger. `moderation eval` has all."""
    samples = datasets.read_manifest(datasets.dataset_dir(settings) / "manifest.csv")
    held = [sample for sample in samples if datasets.is_held_out(sample.file)]
    lines = ["file,label"]
    for group in ("safe", *datasets.LABEL_OF_GROUP):
        root = datasets.open_group(settings, group)
        mine = sorted((s for s in held if s.group == group), key=lambda s: Path(s.file).name[::-1])
        label = datasets.LABEL_OF_GROUP.get(group, "safe")
        count = ORDINARY if group == "safe" else POSITIVES
        lines += [f"{root / s.file},{label}" for s in mine[:count]]
    manifest = tmp_path_factory.mktemp("held-out") / "held_out.csv"
    manifest.write_text("\n".join(lines))
    return run_eval(manifest, settings, "default")


def test_ordinary_pictures_pass(report: EvalReport, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nordinary: {report.ordinary}, reviewed {report.ordinary_reviewed}")
        for row in report.rows():
            print(f"{row['label']}: {row['at']}, recall {row['recall']}, AUC {row['auc']}")
    assert report.failed == ()
    assert report.ordinary == ORDINARY
    assert report.ordinary_blocked == 0
    assert report.ordinary_reviewed <= 0.02 * report.ordinary


@pytest.mark.parametrize("label", sorted(datasets.LABEL_OF_GROUP.values()))
def test_models_tell_their_danger_from_ordinary_pictures(report: EvalReport, label: str) -> None:
    found = next(entry for entry in report.labels if entry.label == label)
    assert found.positives == POSITIVES
    assert found.auc is not None
    assert found.auc > 0.85
    assert found.at[0].true_positives > found.at[0].false_positives


def test_nothing_ordinary_is_blocked_and_most_of_what_is_blocked_is_a_weapon(
    report: EvalReport,
) -> None:
    blocks = {
        entry.label: at for entry in report.labels for at in entry.at if at.decision == "block"
    }
    assert all(at.false_positives == 0 for at in blocks.values())
    assert blocks["violence.weapon"].true_positives > 0.2 * POSITIVES
