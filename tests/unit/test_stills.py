"""Pictures for people: their size, their shape, and that a covered one keeps its secret."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from moderation.stills import COVERED_SIDE, cover, fit, webp, whole
from moderation.types import DecodedImage, InputKey, MediaInfo, View


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1280, 720), (640, 360)),
        ((720, 1280), (360, 640)),
        ((90, 40), (90, 40)),
        ((9000, 2), (640, 1)),
    ],
)
def test_fit_keeps_the_shape_and_enlarges_nothing(
    given: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert fit(*given, 640) == wanted


def test_webp_is_small_and_without_metadata() -> None:
    with Image.open(io.BytesIO(webp(noise(720, 1280)))) as image:
        assert (image.format, image.size) == ("WEBP", (640, 360))
        assert not image.getexif()
        assert "icc_profile" not in image.info


def test_colours_are_those_of_the_pixels() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[..., 0] = 250
    with Image.open(io.BytesIO(webp(pixels))) as image:
        red, green, blue = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
    assert red > 230
    assert max(green, blue) < 25


def test_a_covered_picture_is_grey_and_without_detail() -> None:
    """Text, faces and edges are finer than a twelfth: what differs only there looks the same."""
    pixels = np.full((120, 120, 3), 128, np.uint8)
    pixels[30:60, 30:90] = (200, 40, 40)
    fine = pixels.astype(np.int16)
    fine[::2] += 40
    fine[1::2] -= 40
    detailed = np.clip(fine, 0, 255).astype(np.uint8)
    covered, other = cover(pixels), cover(detailed)
    assert np.abs(covered.astype(int) - other).max() <= 3
    assert (covered[..., 0] == covered[..., 1]).all()
    assert (covered[..., 1] == covered[..., 2]).all()
    spectrum = np.abs(np.fft.fft2(cover(noise(120, 120))[..., 0].astype(float)))
    spectrum[0, 0] = 0
    high = spectrum[COVERED_SIDE : 120 - COVERED_SIDE, COVERED_SIDE : 120 - COVERED_SIDE]
    assert high.max() < spectrum.max() / 50


def test_the_whole_picture_gets_its_own_shape_back() -> None:
    key = InputKey(64, 64)
    views = (View(frame=0), View(frame=0, box=(0.0, 0.0, 0.5, 1.0)), View(frame=3))
    pixels = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30)])
    info = MediaInfo("jpeg", 400, 100, 4, 2, 1000)
    decoded = DecodedImage(info, views, {key: pixels})
    assert whole(decoded).shape == (16, 64, 3)
    assert whole(decoded)[0, 0, 0] == 10
    assert whole(decoded, 3)[0, 0, 0] == 30
    assert whole(decoded, 2)[0, 0, 0] == 10, "a frame that was not sampled: the first"
