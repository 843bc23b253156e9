"""Figures on what was left out, from scores that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moderation.cli.app import main
from moderation.errors import ConfigError
from moderation.models.spec import read_spec
from moderation.models.training import figures, figures_text
from moderation.models.training.figures import AUC, ECE, MAP, RECALL, RECALL_5, Figure, Row
from moderation.models.training.figures_fusion import fusion_rows, with_frames
from moderation.models.training.leftout import BoxFigure, LeftOut, Measured
from moderation.models.training.ordinary import as_left_out
from moderation.models.training.targets import CCTV
from moderation.policy import load_policies

SMOKING, FIGHT = "smoking.smoking", "violence.fight"


def pictures() -> LeftOut:
    """Two sources of smokers, one well and one badly told from the ordinary; eaters score high."""
    rng = np.random.default_rng(0)
    kinds = [
        ("smoking", "good", "x", 1, 60, 4.0),
        ("smoking", "bad", "x", 1, 60, 0.5),
        ("safe", "home", "safe_person:reading", 0, 200, -2.0),
        ("safe", "street", "safe_person:eating", 0, 200, 1.0),
        ("twin", "twins:good", "x", 1, 30, 2.0),
        ("twin", "twins:good", "x", 0, 30, 0.0),
    ]
    files, sources, details, truth, score = [], [], [], [], []
    for number, (group, source, detail, shown, count, mean) in enumerate(kinds):
        files += [f"{group}/{number}_{n}.webp" for n in range(count)]
        sources += [source] * count
        details += [detail] * count
        truth += [shown] * count
        score += rng.normal(mean, 1, count).tolist()
    return LeftOut(
        files=np.asarray(files),
        sources=np.asarray(sources),
        truth={SMOKING: np.asarray(truth, np.int8)},
        score={SMOKING: np.asarray(score, np.float32)},
        details=np.asarray(details),
    )


@pytest.fixture(scope="module")
def found() -> list[Row]:
    boxes = BoxFigure("violence.weapon", 0.7, (0.6, 0.8), {"gun": 0.7}, 50, "range")
    return list(figures.rows("net@1", pictures(), [boxes]))


def one(rows: list[Row], what: str, left_out: str) -> Row:
    (row,) = [row for row in rows if (row.what, row.left_out) == (what, left_out)]
    return row


def value(row: Row, name: str) -> Figure:
    figure = row.figure(name)
    assert figure is not None
    return figure


def test_each_source_is_told_from_all_ordinary_pictures_and_twins_from_twins(
    found: list[Row],
) -> None:
    good, bad = one(found, "pictures", "good"), one(found, "pictures", "bad")
    assert (good.positives, good.negatives) == (60, 400)
    assert value(good, AUC).value > 0.97 > value(bad, AUC).value
    assert (value(good, AUC).reached, value(bad, AUC).reached) == (True, False)
    twins = one(found, "twins", "good")
    assert (twins.positives, twins.negatives) == (30, 30)
    assert value(twins, AUC).reached is None


def test_hard_negatives_are_the_kinds_that_look_alike(found: list[Row]) -> None:
    easy, hard = one(found, "pictures", "bad"), one(found, "hard negatives", "bad")
    assert hard.negatives == 200
    assert value(hard, AUC).value < value(easy, AUC).value
    assert value(hard, RECALL).target == 0.85


def test_intervals_hold_the_figure(found: list[Row]) -> None:
    for row in found:
        for figure in row.figures:
            if not figure.most:  # the error of what is drawn anew is larger
                assert figure.interval[0] <= figure.value <= figure.interval[1]


def test_calibration_is_measured_on_sources_that_it_did_not_see(found: list[Row]) -> None:
    row = one(found, "calibration", "pictures of sources not calibrated on")
    assert (row.positives, row.negatives) == (120, 400)
    assert value(row, ECE).value > 0.03, "the two sources have nothing in common"
    assert value(row, ECE).reached is False


def test_one_source_alone_is_measured_on_its_other_half() -> None:
    told = pictures()
    keep = np.isin(told.sources, ["good", "home"])
    single = LeftOut(
        told.files[keep],
        told.sources[keep],
        {SMOKING: told.truth[SMOKING][keep]},
        {SMOKING: told.score[SMOKING][keep]},
    )
    (row,) = [row for row in figures.rows("net@1", single) if row.what == "calibration"]
    assert row.left_out == "pictures, the other half of the same sources"
    assert value(row, ECE).value < 0.1


def test_clips_are_counted_by_cameras_and_cctv_apart() -> None:
    rng = np.random.default_rng(1)
    sources = [CCTV] * 40 + ["large"] * 40 + ["a"] * 8 + ["b"] * 8
    truth = np.arange(96) % 2
    clips = LeftOut(
        files=np.asarray([f"clips/{n}.mp4" for n in range(96)]),
        sources=np.asarray(sources),
        truth={FIGHT: truth.astype(np.int8)},
        score={FIGHT: (rng.normal(0, 1, 96) + 3 * truth).astype(np.float32)},
        details=np.asarray([str(n // 4) for n in range(96)]),
    )
    rows = [row for row in figures.rows("fights@1", clips, clips=True) if row.what == "clips"]
    assert [(row.left_out, row.positives) for row in rows] == [
        (f"{CCTV}, new cameras", 20),
        ("small sources", 8),
        ("large", 20),
        ("all but CCTV", 28),
    ]
    assert all(value(row, AUC).target == 0.92 for row in rows)
    assert all(row.figure(RECALL_5) for row in rows)


def test_ordinary_pictures_at_the_thresholds_of_a_policy() -> None:
    scores = np.asarray([0.96, 0.8, 0.1, 0.2])
    told = as_left_out([f"safe/{n}" for n in range(4)], ["s"] * 4, {"porn.explicit": scores})
    (row,) = figures.ordinary_rows(told, load_policies()["default"])
    assert [figure.value for figure in row.figures] == [0.5, 0.25]
    assert [figure.reached for figure in row.figures] == [False, False]


def test_markdown_says_what_is_reached(found: list[Row]) -> None:
    text = figures_text.markdown(found)
    assert "**0.70 (0.60-0.80)**, >= 0.6 reached" in text
    assert ">= 0.97 missed" in text
    short = figures_text.summary(found)
    assert "AUC 0.97: missed on 1 of 2" in short


def test_a_document_keeps_its_words_and_gets_its_figures() -> None:
    page = "before\n<!-- figures: by hand -->\nold\n<!-- end of figures -->\nafter\n"
    filled = figures_text.filled(page, "| new |", "page")
    assert filled.startswith("before\n<!-- figures: by hand -->\n\n| new |\n\n")
    assert filled.endswith("after\n")
    assert "old" not in filled
    assert figures_text.filled(filled, "| new |", "page") == filled
    assert figures_text.between(filled) == "| new |"
    assert figures_text.between("nothing") is None
    with pytest.raises(ConfigError, match="page has no place"):
        figures_text.filled("nothing", "| new |", "page")


def test_what_reaches_a_score_is_counted_after_calibration() -> None:
    truth = np.asarray([1, 1, 0, 0], np.int8)
    told = LeftOut(
        np.asarray(list("abcd")),
        np.asarray(["s"] * 4),
        {FIGHT: truth},
        {FIGHT: np.asarray([2.0, -2.0, -2.0, -2.0], np.float32)},
        calibration={FIGHT: np.asarray([1.0, 0.0])},
    )
    rows = figures_text.reaches(told).splitlines()
    assert "| 0.8 | 0.500 | 0.000 |" in rows  # sigmoid(2) is 0.88
    assert "| 0.9 | 0.000 | 0.000 |" in rows


def test_clips_and_their_frames_are_fused_out_of_fold() -> None:
    rng = np.random.default_rng(2)
    truth = (np.arange(80) % 2).astype(np.int8)
    names = [f"clips/{n}.mp4" for n in range(80)]
    sources = np.asarray([f"c{n // 20}" for n in range(80)])
    one, two = (rng.normal(0, 1, 80) + 1.5 * truth for _ in range(2))
    clips = LeftOut(np.asarray(names), sources, {FIGHT: truth}, {FIGHT: one.astype(np.float32)})
    frames = LeftOut(
        np.asarray([f"{name}#{n}" for name in names for n in range(3)]),
        np.repeat(sources, 3),
        {FIGHT: np.repeat(truth, 3)},
        {FIGHT: np.repeat(two, 3).astype(np.float32)},
    )
    scores = with_frames(clips.of(FIGHT), frames.of(FIGHT))
    np.testing.assert_allclose(scores.parts["frames"], two, rtol=1e-5)
    folder = Path(__file__).parents[2] / "weights"
    measured = [
        Measured(read_spec(folder / "fights" / "model.toml"), clips),
        Measured(read_spec(folder / "scene-heads" / "model.toml"), frames),
    ]
    found = {row.left_out: value(row, AUC).value for row in fusion_rows(measured)}
    assert found["logistic fuser"] > max(found["clip alone"], found["frames alone"])
    assert all(row.model.startswith("fights@") for row in fusion_rows(measured))


class TestCommand:
    def test_json_has_every_figure_with_its_target(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["eval", "--left-out", "--model", "scenes", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        boxes = [row for row in rows if (row["what"], row["label"]) == ("boxes", "violence.weapon")]
        (figure,) = boxes[0]["figures"]
        assert (figure["name"], figure["target"]) == (MAP, 0.6)
        assert figure["reached"] is (figure["value"] >= 0.6)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["eval"],
            ["eval", "pictures", "--left-out"],
            ["eval", "pictures", "--markdown"],
            ["eval", "--left-out", "--model", "nobody"],
        ],
    )
    def test_what_does_not_go_together_is_refused(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_a_page_without_a_place_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shipped = Path(__file__).parents[2] / "weights" / "scenes"
        folder = tmp_path / "weights" / "scenes"
        folder.mkdir(parents=True)
        for name in ("model.toml", "left-out.npz", "left-out.json"):
            (folder / name).write_bytes((shipped / name).read_bytes())
        (folder / "README.md").write_text("no marks")
        monkeypatch.setenv("MODERATION_WEIGHTS_DIR", str(tmp_path / "weights"))
        assert main(["eval", "--left-out", "--model", "scenes", "--write"]) == 2
        assert "no place for the figures" in capsys.readouterr().err
