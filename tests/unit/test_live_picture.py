"""Pictures that mean nothing, and those that only look like it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moderation.live.picture import (
    HEIGHT,
    WIDTH,
    Meaningless,
    PictureWatch,
    difference,
    is_bars,
    is_black,
    small_grey,
)

EBU_75 = [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0)]
EBU_75 += [(0, 0, 191)]


def bars(
    colours: list[tuple[int, int, int]], height: int = 180, width: int = 320
) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    for column in range(width):
        picture[:, column] = colours[column * len(colours) // width]
    return picture


def scene(seed: int, height: int = 180, width: int = 320) -> NDArray[np.uint8]:
    """Soft blobs, as photographs have them."""
    random = np.random.default_rng(seed)
    rough = random.integers(0, 256, (6, 8, 3)).astype(np.float32)
    rows = np.linspace(0, 5, height)
    columns = np.linspace(0, 7, width)
    top, left = rows.astype(int).clip(0, 4), columns.astype(int).clip(0, 6)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = rough[top][:, left] * (1 - right) + rough[top][:, left + 1] * right
    lower = rough[top + 1][:, left] * (1 - right) + rough[top + 1][:, left + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.uint8)


@given(st.integers(HEIGHT, 100), st.integers(WIDTH, 150), st.integers(0, 255))
def test_a_plain_picture_stays_plain_at_any_size(height: int, width: int, level: int) -> None:
    grey = small_grey(np.full((height, width, 3), level, np.uint8))
    assert grey.shape == (HEIGHT, WIDTH)
    assert np.allclose(grey, level, atol=0.01)


@given(st.integers(0, 1000), st.integers(HEIGHT, 80), st.integers(WIDTH, 130))
def test_each_cell_is_the_mean_of_its_part(seed: int, height: int, width: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    grey = small_grey(picture)
    row, column = seed % HEIGHT, seed % WIDTH
    part = picture[
        row * height // HEIGHT : (row + 1) * height // HEIGHT,
        column * width // WIDTH : (column + 1) * width // WIDTH,
    ]
    assert grey[row, column] == pytest.approx(part.mean((0, 1)) @ [0.299, 0.587, 0.114], abs=0.01)


def test_a_picture_that_is_too_small_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer pixels"):
        small_grey(np.zeros((20, 100, 3), np.uint8))


def test_black_is_black_with_noise_and_not_with_a_lamp() -> None:
    random = np.random.default_rng(1)
    black = random.integers(10, 24, (180, 320, 3)).astype(np.uint8)
    assert is_black(small_grey(black))
    black[80:95, 100:115] = 120
    assert not is_black(small_grey(black))
    assert not is_black(small_grey(np.full((180, 320, 3), 90, np.uint8)))


def test_colour_bars_are_known() -> None:
    assert is_bars(small_grey(bars(EBU_75)))
    assert is_bars(small_grey(bars([(255, 255, 255), *EBU_75[1:], (0, 0, 0)])))
    hd = [(102, 102, 102), *EBU_75, (102, 102, 102)]  # SMPTE HD: bars between two grey fields
    assert is_bars(small_grey(bars(hd)))
    with_caption = bars(EBU_75)
    with_caption[120:] = scene(3)[120:]
    assert is_bars(small_grey(with_caption))


def test_what_is_no_test_picture_is_not_called_one() -> None:
    ramp = np.repeat(np.linspace(255, 0, 320)[None, :, None], 180, 0).repeat(3, 2).astype(np.uint8)
    assert not is_bars(small_grey(ramp))
    fence = bars([(200, 200, 200), (20, 20, 20)] * 6)
    assert not is_bars(small_grey(fence))
    for seed in range(200):
        assert not is_bars(small_grey(scene(seed)))


def test_frozen_is_what_was_seen_before_within_the_coder_s_noise() -> None:
    watch = PictureWatch()
    grey = small_grey(scene(1))
    assert watch.add(grey) is None
    assert watch.add(grey + np.float32(1.0)) is Meaningless.FROZEN
    moved = scene(1)
    moved[40:60, 40:60] = 255 - moved[40:60, 40:60]
    assert watch.add(small_grey(moved)) is None
    assert watch.add(small_grey(moved)) is Meaningless.FROZEN


def test_a_slow_change_adds_up_until_it_is_seen() -> None:
    watch = PictureWatch()
    grey = small_grey(scene(2)) / 2
    found = [watch.add(grey + np.float32(1.5 * step)) for step in range(20)]
    assert found.count(None) == 7
    assert found.count(Meaningless.FROZEN) == 13


def test_black_and_bars_are_told_before_frozen() -> None:
    watch = PictureWatch()
    black = np.zeros((HEIGHT, WIDTH), np.float32)
    assert [watch.add(black), watch.add(black)] == [Meaningless.BLACK] * 2
    assert watch.add(small_grey(bars(EBU_75))) is Meaningless.BARS


def test_the_difference_is_that_of_the_cell_that_changed_most() -> None:
    one = np.zeros((HEIGHT, WIDTH), np.float32)
    other = one.copy()
    other[3, 4] = 40
    assert difference(one, other) == 40
