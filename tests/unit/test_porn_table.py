"""The table of false positives: its arithmetic, and what makes it score anew. No network runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moderation.models.spec import ModelSpec, read_specs
from moderation.models.training import ordinary, porn_table
from moderation.models.training.leftout import write_left_out
from moderation.models.training.porn_table import OPTIONAL, THREE, TWO, middle, rows, table
from moderation.settings import Settings, load_settings

EXPLICIT = {
    TWO[0]: np.array([0.9, 0.2, 0.1]),
    TWO[1]: np.array([0.7, 0.4, 0.1]),
    OPTIONAL: np.array([0.8, 0.9, 1.0]),
}
SEXY = np.array([0.0, 0.5, 0.75])


def test_each_way_of_putting_scores_together() -> None:
    found = dict(rows(EXPLICIT, SEXY))
    expected = {
        "two: mean": [0.8, 0.3, 0.1],
        "two: lower": [0.7, 0.2, 0.1],
        "three: mean": [0.8, 0.5, 0.4],
        "three: lowest": [0.7, 0.2, 0.1],
        "three: second": [0.8, 0.4, 0.1],
        "three: mean, gated": [0.8, 1 / 3, 0.1],
        "safety+nsfwjs: gated": [0.85, 0.2, 0.1],
        "open-nsfw+nsfwjs: gated": [0.7, 0.4, 0.1],
    }
    assert set(found) == {*expected, *THREE, f"{OPTIONAL} sexy"}
    for name, scores in expected.items():
        assert found[name] == pytest.approx(scores), name


def test_a_row_tells_the_share_at_each_threshold_and_the_highest() -> None:
    head, row = table([("x", np.array([0.1, 0.6, 0.7, 0.96]))])
    assert head.split()[:2] == ["scores", ">=0.50"]
    assert row.split()[:6] == ["x", "75.00%", "50.00%", "25.00%", "25.00%", "25.00%"]
    assert row.split()[-1] == "0.960"


@pytest.mark.parametrize(("size", "expected"), [((40, 20), (20, 10)), ((3, 1), (2, 1))])
def test_a_close_up_is_the_middle(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = Image.new("L", size)
    picture.putpixel((size[0] // 2, size[1] // 2), 255)
    found = middle(picture)
    assert found.size == expected
    assert found.getpixel((found.width // 2, found.height // 2)) == 255


class TestCache:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return load_settings(home=tmp_path)

    @pytest.fixture
    def specs(self) -> list[ModelSpec]:
        weights = Path(__file__).resolve().parents[2] / "weights"
        return [spec for spec in read_specs(weights) if spec.ref in THREE]

    @pytest.fixture
    def scored(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """One entry for each time that networks would have run."""
        runs: list[int] = []

        def score(files: list[str], *_: object) -> dict[tuple[str, str], np.ndarray]:
            runs.append(len(files))
            told = {(porn_table.EXPLICIT, ref): scores for ref, scores in EXPLICIT.items()}
            return told | {(porn_table.SEXY, OPTIONAL): SEXY}

        monkeypatch.setattr(porn_table, "score", score)
        return runs

    def test_it_scores_once(
        self, settings: Settings, specs: list[ModelSpec], scored: list[int]
    ) -> None:
        for files in (["a", "b", "c"], ["a", "b", "c"], ["a", "b", "d"]):
            explicit, sexy = porn_table.cached("x", files, Image.open, specs, settings)
            assert {ref: list(one) for ref, one in explicit.items()} == {
                ref: list(one) for ref, one in EXPLICIT.items()
            }
            assert list(sexy) == list(SEXY)
        assert scored == [3, 3]

    def test_another_file_of_weights_scores_anew_and_one_for_another_backend_does_not(
        self, settings: Settings, specs: list[ModelSpec], scored: list[int]
    ) -> None:
        first = specs[0]
        (artefact,) = [one for one in first.artefacts if one.backend == "openvino"][:1]
        torch = artefact.model_copy(update={"backend": "torch"})
        more = first.model_copy(update={"artefacts": (*first.artefacts, torch)})
        other = artefact.model_copy(update={"sha256": "0" * 64})
        changed = first.model_copy(update={"artefacts": (other,)})
        for one in (first, more, changed):
            porn_table.cached("x", ["a", "b", "c"], Image.open, [one, *specs[1:]], settings)
        assert scored == [3, 3]


def test_scores_of_ordinary_pictures_are_kept_as_left_out_scores(tmp_path: Path) -> None:
    chance = np.array([0.9, 0.25, 0.0])
    files = [f"safe/{n}.webp" for n in range(3)]
    told = ordinary.as_left_out(files, ["a", "a", "b"], {"porn.explicit": chance})
    assert ordinary.read_ordinary(tmp_path) is None
    write_left_out(tmp_path / ordinary.NAME, told)
    found = ordinary.read_ordinary(tmp_path)
    assert found is not None
    rows = found.of("porn.explicit")
    assert rows.ordinary.all()
    np.testing.assert_allclose(1 / (1 + np.exp(-rows.logits)), chance, atol=1e-6)
