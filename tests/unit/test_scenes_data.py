"""What `scenes` learns from: pictures, what is done to them, and what their heatmaps should say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError
from moderation.models.training.curve import curve
from moderation.models.training.scenes import augment, paste
from moderation.models.training.scenes.examples import SMOKING, Example, Sampler
from moderation.models.training.scenes.pictures import Box, Picture, Pixels, read_pictures, shrink
from moderation.models.training.scenes.recipe import COMMITTED, Fold, Recipe, read_recipe
from moderation.models.training.scenes.targets import collate, level

HEADER = "file,group,label,source,boxes_cls_cx_cy_w_h,width,height\n"
unit = st.floats(0.0, 1.0, allow_nan=False)


def a_box(kind: int = 0) -> st.SearchStrategy[Box]:
    def made(x: float, y: float, w: float, h: float) -> Box:
        return Box(kind, x * (1 - w), y * (1 - h), x * (1 - w) + w, y * (1 - h) + h)

    size = st.floats(0.02, 0.9)
    return st.builds(made, unit, unit, size, size)


def grey(height: int = 60, width: int = 80) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


def picture(
    group: str, boxes: tuple[Box, ...] = (), source: str = "s", detail: str = "d"
) -> Picture:
    return Picture(f"{group}/{source}.webp", group, source, detail, boxes)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(COMMITTED)


def test_the_manifest_tells_classes_and_trust(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEADER
        + 'weapon/a.webp,weapon,weapon,w,"[[2, 0.5, 0.5, 0.2, 0.4]]",320,200\n'
        + 'smoking/b.webp,smoking,smoking,smk_huyhoc,"[[0, 0.0, 0.5, 0.2, 0.4]]",320,200\n'
        + "safe/c.webp,safe,safe_sky,s,[],320,200\n"
        + "violence/d.webp,violence,violence,v,[],320,200\n"
    )
    weapon, smoking, safe = read_pictures(tmp_path)
    assert weapon.boxes[0].kind == 3
    assert weapon.label == "violence.weapon"
    assert not smoking.boxes[0].tight, "its boxes hold a hand, too"
    assert smoking.boxes[0].x1 == 0.0, "cut at the picture's border"
    assert safe.safe
    assert safe.label is None


def test_a_manifest_of_another_kind_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,label\na,b\n")
    with pytest.raises(ConfigError, match=r"manifest\.csv"):
        read_pictures(tmp_path)


def test_the_committed_recipe_draws_everything_once(recipe: Recipe) -> None:
    kinds = Counter((draw.kind, draw.group) for draw in recipe.draws)
    assert max(kinds.values()) == 1


def test_a_fold_leaves_out_sources_and_half_of_the_actions() -> None:
    fold = Fold(sources=("gone",), actions=("many",))
    assert fold.leaves_out(picture("weapon", source="gone"))
    assert not fold.leaves_out(picture("weapon", source="many"))
    halves = {fold.leaves_out(picture("safe", source="many", detail=f"a{i}")) for i in range(20)}
    assert halves == {True, False}


@given(a_box())
def test_a_flip_twice_is_none(box: Box) -> None:
    once, boxes = augment.flip(grey(), [box])
    _, again = augment.flip(once, boxes)
    assert (again[0].x1, again[0].x2) == pytest.approx((box.x1, box.x2))
    assert again[0].y1 == box.y1


@given(a_box(), st.integers(0, 999))
def test_a_crop_keeps_its_box_where_the_pixels_are(box: Box, seed: int) -> None:
    pixels = np.zeros((120, 160, 3), np.uint8)
    x1, y1, x2, y2 = (
        round(box.x1 * 160),
        round(box.y1 * 120),
        round(box.x2 * 160),
        round(box.y2 * 120),
    )
    pixels[y1:y2, x1:x2] = 255
    part, boxes = augment.crop(pixels, [box], np.random.default_rng(seed), 0.35)
    assert len(boxes) == 1, "the only box is what it is cropped around"
    rows, columns = np.nonzero(part[..., 0])
    if len(rows):
        height, width = part.shape[:2]
        found = boxes[0]
        assert abs(found.x1 - columns.min() / width) <= 2.5 / width
        assert abs(found.y2 - (rows.max() + 1) / height) <= 2.5 / height


@given(a_box(), st.integers(0, 999))
def test_bars_move_the_box_with_the_pixels(box: Box, seed: int) -> None:
    framed, (moved,) = augment.letterbox(grey(), [box], np.random.default_rng(seed))
    assert moved.area * framed.shape[0] * framed.shape[1] == pytest.approx(box.area * 60 * 80)
    assert 0 <= moved.x1 <= moved.x2 <= 1
    assert 0 <= moved.y1 <= moved.y2 <= 1


def test_boxes_mostly_outside_a_crop_go() -> None:
    half = augment.inside([Box(0, 0.4, 0.4, 0.6, 0.6)], (0.5, 0.0, 1.0, 1.0))
    assert half[0].x1 == 0.0
    assert augment.inside([Box(0, 0.3, 0.4, 0.6, 0.6)], (0.5, 0.0, 1.0, 1.0)) == []


def test_erasing_leaves_most_of_every_box(recipe: Recipe) -> None:
    box = Box(0, 0.3, 0.3, 0.6, 0.6)
    for seed in range(50):
        spoilt = augment.erase(grey(), [box], np.random.default_rng(seed))
        part = (spoilt != 128).any(axis=2)[18:36, 24:48]
        assert part.mean() <= 0.75, "up to three rectangles, a third each at most"


def test_painting_over_removes_the_object() -> None:
    pixels = grey()
    pixels[20:30, 20:40] = 255
    box = Box(0, 20 / 80, 20 / 60, 40 / 80, 30 / 60)
    done = augment.paint_over(pixels, [box], np.random.default_rng(0))
    assert np.abs(done.astype(int) - 128).max() < 30


def test_places_to_paint_over_touch_no_object() -> None:
    box = Box(0, 0.4, 0.4, 0.6, 0.6)
    for seed in range(50):
        for place in augment.somewhere([box], np.random.default_rng(seed)):
            apart = place.x2 < 0.4 or place.x1 > 0.6 or place.y2 < 0.4 or place.y1 > 0.6
            assert apart
            assert place.area <= augment.SMALL


@given(st.integers(0, 999))
def test_pasted_flames_lie_in_their_box(seed: int) -> None:
    fire = np.zeros((40, 40, 3), np.uint8)
    fire[...] = (255, 140, 0)
    dark = np.zeros((90, 120, 3), np.uint8)
    done, box = paste.flames(dark, fire, Box(4, 0.1, 0.1, 0.9, 0.9), np.random.default_rng(seed))
    assert box.kind == 4
    rows, columns = np.nonzero(done.max(axis=2) > 100)
    assert len(rows), "a flame gives light"
    assert columns.mean() / 120 == pytest.approx((box.x1 + box.x2) / 2, abs=0.05)
    assert rows.mean() / 90 == pytest.approx((box.y1 + box.y2) / 2, abs=0.05)


def test_shrinking_never_enlarges() -> None:
    assert shrink(grey(60, 80), 40).shape == (30, 40, 3)
    assert shrink(grey(60, 80), 100).shape == (60, 80, 3)


@given(a_box())
def test_a_heatmap_is_highest_in_the_middle(box: Box) -> None:
    found = level([box], 32, (0.0, 1.01))
    row, column = np.unravel_index(found.heat[box.kind].argmax(), (32, 32))
    assert found.heat[box.kind].max() == 1.0
    assert row == min(31, int((box.y1 + box.y2) / 2 * 32))
    assert column == min(31, int((box.x1 + box.x2) / 2 * 32))
    assert found.box[:, row, column] == pytest.approx([box.x1, box.y1, box.x2, box.y2])
    assert (found.weight > 0).sum() >= 1


def test_every_size_has_a_stride() -> None:
    for side in np.linspace(0.02, 0.98, 25):
        box = Box(0, 0.0, 0.0, float(side), float(side))
        batch = collate([Example(np.zeros((64, 64, 3), np.uint8), *_unknown(), (box,), False)])
        assert any(one.heat.max() == 1.0 for one in batch.levels)


def test_loose_boxes_tell_where_and_not_how_large() -> None:
    found = level([Box(0, 0.2, 0.2, 0.6, 0.6, tight=False)], 16, (0.0, 1.01))
    assert found.heat.max() == 1.0
    assert found.weight.max() == 0.0


def test_examples_say_what_nobody_knows(recipe: Recipe) -> None:
    cigarette = Box(0, 0.5, 0.5, 0.56, 0.53)
    pictures = [
        picture("smoking", (cigarette,)),
        picture("smoking", source="unboxed"),
        picture("weapon", (Box(1, 0.2, 0.2, 0.6, 0.7),), source="wpn_lane"),
        picture("fire", (Box(4, 0.2, 0.2, 0.6, 0.7),)),
        picture("safe"),
    ]
    sampler = Sampler(pictures, recipe, lambda _: _textured(), np.random.default_rng(0))
    seen = [sampler.draw() for _ in range(300)]
    assert {one.pixels.shape for one in seen} == {(recipe.side, recipe.side, 3)}
    smoking = [one for one in seen if one.logit[SMOKING] == 1]
    assert smoking
    assert all(np.isnan(one.logit[:2]).all() for one in smoking), "a smoker may hold a gun"
    painted = [one for one in seen if one.logit[SMOKING] == 0 and np.isnan(one.logit[0])]
    assert any(one.boxes == () and one.known[0] for one in painted), "the cigarette is gone"
    guns = [one for one in seen if one.top[0] == 1]
    assert not any(one.known[3] for one in guns), "its source calls every gun a pistol"
    assert all(np.isnan(one.logit).all() or one.clean for one in guns)


def test_a_curve_shows_the_highest_value_on_top() -> None:
    lines = curve([4.0, 2.0, 1.0], width=3, height=2)
    assert len(lines) == 2
    assert lines[0].endswith("|█  ")
    assert lines[1].endswith("|██▄")
    assert curve([]) == []


def _textured() -> Pixels:
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (160, 120)), np.uint8)


def _unknown() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nothing = np.full(3, np.nan, np.float32)
    return nothing, nothing, np.zeros(6, np.bool_)
