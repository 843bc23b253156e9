"""The network of `fights` on a tiny trunk: what is averaged, and what the head sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from moderation.errors import WeightsError
from moderation.models.backends.openvino import embed_preprocessing
from moderation.models.spec import InputSpec
from moderation.models.training.fights.features import compiled, pixels_of
from moderation.models.training.fights.graph import (
    SOMEBODY,
    STILL,
    digest_of,
    trunk_of,
    window_network,
    with_head,
)
from moderation.models.training.fights.recipe import Folds, Recipe
from moderation.models.training.heads import Head

FRAMES, HEIGHT, WIDTH = 4, 64, 96
RECIPE = Recipe(
    id="fights",
    version="1",
    width=WIDTH,
    height=HEIGHT,
    frames=FRAMES,
    rate=12.0,
    every_s=3.0,
    pools=("all", "person", "motion", "both"),
    steps=(1, 2),
    windows=3,
    c=0.01,
    other_weight=0.2,
    folds=Folds(main="cctv", cameras=2, small=2, alone=("hockey",)),
)


def tiny_trunk() -> ov.Model:
    """Two channels of map: the mean of red, and of green, over a cell; heat: blue as a share."""
    pixels = ops.parameter([-1, 3, -1, -1], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    kernel = np.zeros((2, 3, 32, 32), np.float32)
    kernel[0, 0] = kernel[1, 1] = 1 / 1024
    values = ops.convolution(pixels, ops.constant(kernel), [32, 32], [0, 0], [0, 0], [1, 1])
    blue = np.zeros((1, 3, 4, 4), np.float32)
    blue[0, 2] = 1 / 16 / 255
    heat = ops.convolution(pixels, ops.constant(blue), [4, 4], [0, 0], [0, 0], [1, 1])
    results = []
    for node, name in ((heat, "heat"), (values, "map")):
        result = ops.result(node)
        result.output(0).set_names({name})
        results.append(result)
    return ov.Model(results, [pixels], "tiny")


def expected(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same features, written down in numpy."""
    cells = frames.reshape(FRAMES, 2, 32, 3, 32, 3).astype(np.float64)
    means = cells.mean(axis=(2, 4)).reshape(FRAMES, 6, 3)
    stats = [means[..., :2].mean(0)]
    stats += [np.abs(means[s:, :, :2] - means[:-s, :, :2]).mean(0) for s in (1, 2)]
    grey = frames.astype(np.float64).mean(axis=3)
    change = np.abs(np.diff(grey, axis=0)).mean(0).reshape(2, 32, 3, 32).mean(axis=(1, 3)).ravel()
    people = means[..., 2].mean(0) / 255 + SOMEBODY
    pools = [np.ones(6), people, change**2 + STILL, people * (change + STILL)]
    return np.concatenate([pool / pool.sum() @ stat for pool in pools for stat in stats])


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    random = np.random.default_rng(3)
    smooth = random.integers(0, 256, (FRAMES, 2, 3, 3)).repeat(32, axis=1).repeat(32, axis=2)
    return np.clip(smooth + random.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)


def test_features_are_what_the_words_say(frames: NDArray[np.uint8]) -> None:
    read = compiled(window_network(tiny_trunk(), RECIPE))
    found = read([pixels_of(frames)])[0]
    assert found.shape == (1, 4 * 3 * 2)
    np.testing.assert_allclose(found[0], expected(frames), rtol=1e-4, atol=1e-3)


def test_a_batch_is_read_window_by_window(frames: NDArray[np.uint8]) -> None:
    read = compiled(window_network(tiny_trunk(), RECIPE))
    one, other = pixels_of(frames), pixels_of(frames[::-1])
    both = read([np.concatenate([one, other])])[0]
    np.testing.assert_allclose(both[0], read([one])[0][0], rtol=1e-5)
    np.testing.assert_allclose(both[1], read([other])[0][0], rtol=1e-5)


def test_what_stands_still_has_no_change() -> None:
    still = np.broadcast_to(
        np.arange(256 // 4, dtype=np.uint8)[:HEIGHT, None, None], (HEIGHT, 1, 1)
    )
    frame = np.broadcast_to(still, (FRAMES, HEIGHT, WIDTH, 3)).copy()
    found = compiled(window_network(tiny_trunk(), RECIPE))([pixels_of(frame)])[0]
    changes = found.reshape(4, 3, 2)[:, 1:]
    np.testing.assert_allclose(changes, 0, atol=1e-5)


def test_the_head_is_in_the_file_and_the_trunk_can_be_had_back(
    frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    network = window_network(tiny_trunk(), RECIPE)
    weight = np.linspace(-0.1, 0.1, 24).astype(np.float32)
    saved = tmp_path / "model.xml"
    ov.save_model(with_head(network, Head(weight, 0.25)), saved, compress_to_fp16=False)
    served = embed_preprocessing(
        ov.Core().read_model(saved),
        InputSpec(
            name="pixels",
            width=WIDTH,
            height=HEIGHT,
            interpolation="area",
            layout="NTCHW",
            colour="RGB",
        ),
        FRAMES,
    )
    logit = compiled(served)([frames[None]])[0]
    assert logit.shape == (1, 1)
    assert logit[0, 0] == pytest.approx(expected(frames) @ weight + 0.25, abs=1e-3)
    again = compiled(window_network(trunk_of(saved), RECIPE))
    np.testing.assert_array_equal(
        again([pixels_of(frames)])[0], compiled(network)([pixels_of(frames)])[0]
    )


def test_another_network_holds_no_trunk(tmp_path: Path) -> None:
    pixels = ops.parameter([-1, 3], np.float32, name="pixels")
    ov.save_model(ov.Model([ops.relu(pixels)], [pixels], "other"), tmp_path / "other.xml")
    with pytest.raises(WeightsError, match="no node"):
        trunk_of(tmp_path / "other.xml")


def test_the_digest_is_of_the_weights(tmp_path: Path) -> None:
    ov.save_model(tiny_trunk(), tmp_path / "a.xml")
    ov.save_model(window_network(trunk_of(tmp_path / "a.xml"), RECIPE), tmp_path / "b.xml")
    first = digest_of(trunk_of(tmp_path / "a.xml"))
    assert first == digest_of(trunk_of(tmp_path / "b.xml"))
