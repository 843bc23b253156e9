from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moderation.errors import ConfigError
from moderation.models.training.evaluate import count, evaluate
from moderation.models.training.truth import Labelled, parse_labels, read_truth
from moderation.policy import Outcome, decide, parse_policy
from moderation.settings import load_settings
from moderation.types import Coverage, LabelScore, Problem

POLICY = parse_policy(
    """
id: test
version: 1
rules:
  - {label: violence.weapon, review_at: 0.5, block_at: 0.9, block_needs: evidence}
  - {label: porn.explicit, review_at: 0.5, block_at: 0.9}
"""
)


@dataclass(frozen=True)
class Fake:
    outcome: Outcome
    peaks: dict[str, LabelScore] = field(default_factory=dict)
    problem: Problem | None = None


def fake(**scores: float) -> Fake:
    full = {"violence.weapon": 0.0, "porn.explicit": 0.0} | {
        {"weapon": "violence.weapon", "porn": "porn.explicit"}[k]: v for k, v in scores.items()
    }
    peaks = {label: LabelScore(label, score, "m@1") for label, score in full.items()}
    coverage = Coverage(frames_total=1, frames_scored=1, complete=True)
    return Fake(decide(peaks, POLICY, coverage), peaks)


def item(name: str, *labels: str) -> Labelled:
    return Labelled(Path(name), name, frozenset(labels))


def test_confusion_and_ranking_at_the_thresholds() -> None:
    report = count(
        [
            (item("gun1", "violence.weapon"), fake(weapon=0.95)),
            (item("gun2", "violence.weapon"), fake(weapon=0.2)),
            (item("safe1"), fake(weapon=0.6)),
            (item("safe2"), fake(weapon=0.1)),
            (item("safe3"), fake(porn=0.95)),
            (item("nude", "porn.explicit"), fake(weapon=0.99, porn=0.99)),
        ],
        POLICY,
    )
    weapon = next(entry for entry in report.labels if entry.label == "violence.weapon")
    # The picture of another danger is no negative: nobody said that it shows no weapon.
    assert (weapon.positives, weapon.negatives, weapon.highest_negative) == (2, 3, 0.6)
    assert weapon.auc == pytest.approx(5 / 6)
    review, block = weapon.at
    assert (review.true_positives, review.false_positives) == (1, 1)
    assert (review.false_negatives, review.true_negatives) == (1, 2)
    assert (review.precision, review.recall) == (0.5, 0.5)
    assert block.true_positives == 0, "no box, no block: the rule needs evidence"
    assert (report.ordinary, report.ordinary_reviewed, report.ordinary_blocked) == (3, 1, 1)
    low, high = report.ordinary_flagged_95
    assert low < 2 / 3 < high


def test_without_ordinary_pictures_the_others_are_the_negatives() -> None:
    report = count(
        [
            (item("gun", "violence.weapon"), fake(weapon=0.9)),
            (item("nude", "porn.explicit"), fake(porn=0.9)),
        ],
        POLICY,
    )
    assert [(entry.positives, entry.negatives) for entry in report.labels] == [(1, 1), (1, 1)]


def test_failures_are_named_and_counted_nowhere() -> None:
    broken = Fake(
        Outcome(POLICY.on_failure, ()), {}, Problem(title="x", status=422, code="corrupt")
    )
    report = count([(item("bad", "violence.weapon"), broken), (item("ok"), fake())], POLICY)
    assert report.failed == (("bad", "corrupt"),)
    weapon = next(entry for entry in report.labels if entry.label == "violence.weapon")
    assert (weapon.positives, weapon.auc, weapon.at[0].recall) == (0, None, None)


def test_the_report_is_json_and_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    items = [
        Labelled(tmp_path / "a", "a", frozenset({"violence.weapon"})),
        Labelled(tmp_path / "b", "b", frozenset()),
    ]
    seen: list[tuple[str, int, int]] = []
    report = evaluate(
        items,
        lambda data: fake(weapon=0.9 if data == b"a" else 0.1),
        POLICY,
        lambda *step: seen.append(step),
    )
    assert seen == [("evaluating", 1, 2), ("evaluating", 2, 2)]
    assert json.loads(json.dumps(report.to_json()))["labels"][1]["auc"] == 1.0
    rows = report.rows()
    assert [(row["label"], row["at"]) for row in rows][2:] == [
        ("violence.weapon", "review 0.5"),
        ("violence.weapon", "block 0.9"),
    ]
    assert rows[2]["recall"].startswith("1.000 (")
    assert all(set(row) == set(rows[0]) for row in rows)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("safe", set()),
        ("Weapon", {"violence.weapon"}),
        ("fire+smoke_plume", {"violence.fire"}),
        ("violence.gore; smoking", {"violence.gore", "smoking.smoking"}),
    ],
)
def test_labels_by_name_or_short_name(text: str, labels: set[str]) -> None:
    assert parse_labels(text, "here") == labels


def test_a_folder_of_folders(tmp_path: Path) -> None:
    for name in ("safe/x/1.jpg", "weapon/2.jpg", "violence.gore/3"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    found = read_truth(tmp_path, load_settings(home=tmp_path / "home"))
    assert {(entry.name, *entry.labels) for entry in found} == {
        ("safe/x/1.jpg",),
        ("weapon/2.jpg", "violence.weapon"),
        ("violence.gore/3", "violence.gore"),
    }


def test_manifests_with_labels_or_groups(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home")
    (tmp_path / "weapon").mkdir()
    (tmp_path / "weapon" / "b.webp").write_bytes(b"")
    (tmp_path / "own.csv").write_text("file,label\nweapon/b.webp,weapon\n")
    (tmp_path / "group.csv").write_text("file,group,label\nweapon/b.webp,weapon,gun\n")
    expected = (
        Labelled(tmp_path / "weapon" / "b.webp", "weapon/b.webp", frozenset({"violence.weapon"})),
    )
    assert read_truth(tmp_path / "own.csv", settings) == expected
    assert read_truth(tmp_path / "group.csv", settings) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\nx.jpg,weapon\n", r"bad\.csv:2: no file"),
        ("name,label\nx.jpg,weapon\n", "needs the columns"),
        ("file,label\nx.jpg,wepon\n", "no file|unknown label"),
        ("file,label\n", "no labelled picture"),
    ],
)
def test_bad_manifests_are_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_truth(tmp_path / "bad.csv", load_settings(home=tmp_path / "home"))


def test_an_unknown_folder_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wepon").mkdir()
    (tmp_path / "wepon" / "x").write_bytes(b"")
    with pytest.raises(ConfigError, match="unknown label 'wepon'"):
        read_truth(tmp_path, load_settings(home=tmp_path / "home"))
    with pytest.raises(ConfigError, match="no such folder"):
        read_truth(tmp_path / "nowhere", load_settings(home=tmp_path / "home"))
