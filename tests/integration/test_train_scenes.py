"""A tiny `scenes`: a few steps on painted pictures; the loss falls, the exports match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from moderation.models.spec import read_spec
from moderation.models.training.leftout import read_left_out
from moderation.models.training.scenes.recipe import COMMITTED, Draw, Fold, Recipe, read_recipe
from moderation.settings import Settings, load_settings

pytest.importorskip("torch", reason="torch is not installed: `make test-torch`")
pytest.importorskip("safetensors", reason="safetensors is not installed: `make test-torch`")
pytestmark = pytest.mark.torch

COLOURS = {"weapon": (40, 40, 220), "fire": (240, 120, 20), "smoking": (240, 240, 240)}
HEADER = "file,group,label,source,boxes_cls_cx_cy_w_h,width,height"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a square of the danger's colour; two sources of everything."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    rows = [HEADER]
    for group in ("weapon", "fire", "smoking", "safe"):
        (folder / group).mkdir()
        for source in ("one", "two"):
            for number in range(8):
                noise = random.integers(60, 130, (64, 64, 3), np.uint8)
                shown = Image.fromarray(noise)
                boxes = "[]"
                if group != "safe":
                    x, y = (int(v) for v in random.integers(4, 44, 2))
                    ImageDraw.Draw(shown).rectangle((x, y, x + 16, y + 16), fill=COLOURS[group])
                    boxes = f'"[[0, {(x + 8) / 64}, {(y + 8) / 64}, 0.25, 0.25]]"'
                file = f"{group}/{source}_{number}.webp"
                shown.save(folder / file, lossless=True)
                rows.append(f"{file},{group},{group},{source},{boxes},64,64")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def settings(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(home=tmp_path_factory.mktemp("home"), dataset_dir=data)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    committed = read_recipe(COMMITTED)
    kinds = [("clean", "weapon"), ("clean", "fire"), ("heavy", "smoking"), ("clean", "safe")]
    return committed.model_copy(
        update={
            "side": 64,
            "serve_side": 64,
            "frozen_side": 64,
            "batch": 4,
            "steps": 40,
            "warm_up": 4,
            "average": 0.5,
            "clean_side": (60, 64),
            "folds": {"a": Fold(sources=("two",))},
            "draws": tuple(Draw(kind=k, group=g, share=0.25) for k, g in kinds),  # type: ignore[arg-type]
        }
    )


@pytest.mark.train
def test_a_tiny_run_learns_ships_and_goes_on(
    recipe: Recipe, settings: Settings, tmp_path: Path
) -> None:
    from moderation.models.training.scenes.fit import Step
    from moderation.models.training.scenes.ship import ship

    steps: list[Step] = []
    shipped = ship(recipe, settings, out=tmp_path / "scenes", threads=1, watch=steps.append)
    first, last = steps[0].losses, steps[1].losses
    assert sum(last.values()) < sum(first.values())
    assert shipped.differences["f32"] < 1e-3, "OpenVINO and torch say the same"
    assert shipped.differences["f16 file"] < 0.1

    spec = read_spec(tmp_path / "scenes" / "model.toml")
    assert spec.embedding == "lite0@1"
    assert {label.label for label in spec.labels} == {
        "violence.weapon",
        "violence.fire",
        "smoking.smoking",
    }
    left_out = read_left_out(tmp_path / "scenes" / "left-out.npz")
    measured = left_out.of("violence.weapon")
    assert set(measured.sources[~measured.twins]) == {"two"}
    assert len(shipped.figures()) == 3

    # Everything is done already: the same call trains nothing again, and finds the same.
    more: list[Step] = []
    again = ship(recipe, settings, out=tmp_path / "again", threads=1, watch=more.append)
    assert more == []
    assert np.array_equal(again.left_out.score["violence.fire"], left_out.score["violence.fire"])


def test_the_network_is_the_encoder_of_today_bit_for_bit(settings: Settings) -> None:
    """Stored embeddings stay comparable: the frozen tail is the published one."""
    import torch

    from moderation.models.nets.scenes import Frozen, Scenes, Served
    from moderation.models.training.scenes.train import trunk

    served = Served(Frozen(trunk(settings)), Scenes(trunk(settings))).eval()
    pixels = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(served(pixels)["embedding"], trunk(settings)(pixels)["embedding"])


def test_giou_of_equal_apart_and_nested_boxes() -> None:
    import torch

    from moderation.models.training.scenes.losses import giou

    one = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert giou(one, one).item() == pytest.approx(1.0)
    assert giou(one, torch.tensor([[0.5, 0.5, 1.0, 1.0]])).item() == pytest.approx(-0.5)
    assert giou(one, torch.tensor([[0.0, 0.0, 0.25, 0.5]])).item() == pytest.approx(0.5)


def test_what_nobody_knows_costs_nothing() -> None:
    import torch

    from moderation.models.training.scenes.losses import focal

    heat = torch.zeros(1, 6, 4, 4)
    truth = torch.zeros(1, 6, 4, 4)
    unknown = focal([heat], [truth], torch.zeros(1, 6, dtype=torch.bool))
    known = focal([heat], [truth], torch.ones(1, 6, dtype=torch.bool))
    assert unknown.item() == 0.0
    assert known.item() > 0.0


def test_processes_draw_batches_of_the_same_shape(
    recipe: Recipe, data: Path, settings: Settings
) -> None:
    from moderation.models.training.scenes.batches import batches
    from moderation.models.training.scenes.pictures import read_pictures
    from moderation.models.training.scenes.train import Loader

    pictures = read_pictures(data)

    def first(workers: int) -> list[tuple[int, ...]]:
        drawn = batches(pictures, Loader(settings), recipe, workers=workers)
        one = next(drawn)
        drawn.close()
        return [tuple(one.pixels.shape), *(tuple(heat.shape) for heat, _, _ in one.levels)]

    assert first(0) == first(2)
    assert first(2)[0] == (recipe.batch, recipe.side, recipe.side, 3)
