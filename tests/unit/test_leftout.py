from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moderation.errors import ConfigError
from moderation.models.training.leftout import (
    BoxFigure,
    LeftOut,
    read_boxes,
    read_left_out,
    write_boxes,
    write_left_out,
)

WEAPON, FIRE = "violence.weapon", "violence.fire"


def example(**changes: Any) -> LeftOut:
    given: dict[str, Any] = {
        "files": np.asarray(["safe/a.webp", "weapon/b.webp", "weapon/c.webp", "fire/d.webp"]),
        "sources": np.asarray(["home", "range", "twins:range", "camp"]),
        "truth": {
            WEAPON: np.asarray([0, 1, 1, -1], np.int8),
            FIRE: np.asarray([0, -1, -1, 1], np.int8),
        },
        "score": {
            WEAPON: np.asarray([-2.0, 1.5, np.nan, 0.0], np.float32),
            FIRE: np.asarray([-3.0, 0.0, 0.0, 4.0], np.float32),
        },
        "parts": {WEAPON: {"heat": np.asarray([1.0, 2.0, 3.0, 4.0], np.float32)}},
        "boxed": {WEAPON: np.asarray([0, 1, -1, 0], np.int8)},
        "calibration": {FIRE: np.asarray([1.5, -0.25])},
        "details": np.asarray(["safe_general", "gun", "knife", "fire"]),
    }
    return LeftOut(**(given | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "left-out.npz"
    written = example()
    write_left_out(path, written)
    found = read_left_out(path)
    assert found.labels == (FIRE, WEAPON)
    assert found.files.tolist() == written.files.tolist()
    assert found.sources.tolist() == written.sources.tolist()
    assert found.details is not None
    assert found.details.tolist()[1] == "gun"
    for label in found.labels:
        np.testing.assert_array_equal(found.truth[label], written.truth[label])
        np.testing.assert_array_equal(found.score[label], written.score[label])
    np.testing.assert_array_equal(found.parts[WEAPON]["heat"], written.parts[WEAPON]["heat"])
    np.testing.assert_array_equal(found.boxed[WEAPON], written.boxed[WEAPON])
    np.testing.assert_array_equal(found.calibration[FIRE], written.calibration[FIRE])
    before = path.read_bytes()
    write_left_out(path, found)
    assert path.read_bytes() == before, "the same scores make the same bytes"


def test_a_label_has_the_rows_that_are_known_and_scored() -> None:
    scores = example().of(WEAPON)
    assert scores.files.tolist() == ["safe/a.webp", "weapon/b.webp"]
    assert scores.truth.tolist() == [False, True]
    assert scores.ordinary.tolist() == [True, False]
    assert scores.parts["heat"].tolist() == [1.0, 2.0]
    only = scores.where(scores.truth)
    assert (only.files.tolist(), len(only)) == (["weapon/b.webp"], 1)


def test_plain_numpy_files_with_floats_for_truth_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "left-out.npz"
    arrays = {
        "files": np.asarray(["a", "b", "c"]),
        "sources": np.asarray(["x", "x", "y"]),
        f"truth:{FIRE}": np.asarray([1.0, np.nan, 0.0]),
        f"score:{FIRE}": np.asarray([2.0, 1.0, 0.0]),
    }
    np.savez(path, **arrays)
    assert read_left_out(path).truth[FIRE].tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": np.asarray(["a", "a", "b", "c"])}, "twice"),
        ({"sources": np.asarray(["a"])}, "rows"),
        ({"score": {WEAPON: np.zeros(4, np.float32)}}, "different labels"),
        ({"boxed": {"smoking.smoking": np.zeros(4, np.int8)}}, "no truth"),
        (
            {"truth": {WEAPON: np.full(4, 2, np.int8), FIRE: np.zeros(4, np.int8)}},
            "1, 0 or -1",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        example(**changes)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_broken_files_are_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "left-out.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read left-out scores"):
        read_left_out(tmp_path / "left-out.npz")


def test_an_array_of_another_name_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", files=np.asarray(["a"]), sources=np.asarray(["b"]), odd=[1])
    with pytest.raises(ConfigError, match="odd"):
        read_left_out(tmp_path / "x.npz")


def test_box_figures(tmp_path: Path) -> None:
    path = tmp_path / "left-out.json"
    assert read_boxes(path) == ()
    figure = BoxFigure(WEAPON, 0.61, (0.58, 0.64), {"pistol": 0.7, "knife": 0.5}, 900, "range")
    write_boxes(path, (figure,))
    assert read_boxes(path) == (figure,)
    path.write_text('{"boxes": {"violence.weapon": {"map50": 1}}}')
    with pytest.raises(ConfigError, match="cannot read box figures"):
        read_boxes(path)
