"""Golden values: each shipped network through its backend equals an independent computation.

The independent side reads the same pixels, normalises them in plain numpy as the model's card
says, and runs the unchanged graph: no preprocessing step, no streams, no batching of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset

from moderation.errors import WeightsError
from moderation.models.backends.openvino import OpenVinoBackend
from moderation.models.registry import choose_artefact
from moderation.models.spec import ModelSpec, read_specs
from moderation.models.weights import resolve
from moderation.settings import load_settings

pytestmark = pytest.mark.weights

CARDS = {
    # id: (colour order, layout, mean, scale), copied by hand from the models' own code
    "image-safety-s": ("RGB", "NCHW", (0, 0, 0), 1),
    "open-nsfw": ("BGR", "NHWC", (104, 117, 123), 1),
    "lite0": ("RGB", "NCHW", (127, 127, 127), 128),
}
BATCHES = (1, 2, 3, 8)


def pixels(spec: ModelSpec, count: int) -> np.ndarray:
    """Smooth random pictures: noise alone would hide a swapped colour order less well."""
    assert spec.input is not None
    random = np.random.default_rng(7)
    small = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    rows = np.arange(spec.input.height) * 8 // spec.input.height
    columns = np.arange(spec.input.width) * 8 // spec.input.width
    return np.ascontiguousarray(small[:, rows][:, :, columns])


def independent(spec: ModelSpec, path: str, batch: np.ndarray) -> list[np.ndarray]:
    colour, layout, mean, scale = CARDS[spec.id]
    values = batch[..., ::-1] if colour == "BGR" else batch
    values = (values.astype(np.float64) - np.array(mean)) / scale
    if layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)
    model = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = [model(one[None].astype(np.float32)) for one in values]
    return [
        np.concatenate([np.array(answer[output]) for answer in answers]) for output in model.outputs
    ]


@pytest.fixture(params=sorted(CARDS))
def network(request: pytest.FixtureRequest) -> Iterator[tuple[ModelSpec, str, OpenVinoBackend]]:
    settings = load_settings(precision="f32")
    spec = next(s for s in read_specs(settings.manifests) if s.id == request.param)
    try:
        path = resolve(spec, choose_artefact(spec, "openvino", "f32"), settings)
    except WeightsError as error:
        pytest.skip(str(error))
    backend = OpenVinoBackend(spec, path, settings)
    backend.load()
    yield spec, str(path), backend
    backend.close()


def test_scores_equal_an_independent_computation(
    network: tuple[ModelSpec, str, OpenVinoBackend],
) -> None:
    spec, path, backend = network
    batch = pixels(spec, max(BATCHES))
    expected = independent(spec, path, batch)
    for count in BATCHES:
        outputs = backend.start(batch[:count]).result()
        for values, golden in zip(outputs.values(), expected, strict=True):
            assert values.shape == golden[:count].shape
            tolerance = 1e-3 * max(1.0, float(np.abs(golden).max()))
            np.testing.assert_allclose(values, golden[:count], atol=tolerance)


def test_a_pass_that_nobody_read_does_not_fail_the_next(
    network: tuple[ModelSpec, str, OpenVinoBackend],
) -> None:
    spec, path, backend = network
    batch = pixels(spec, 8)
    backend.start(batch)  # as when another network fails in the same batch
    with pytest.raises(RuntimeError):
        backend.start(batch[:, :9, :9]).result()
    outputs = backend.start(batch[:2]).result()
    for values, golden in zip(outputs.values(), independent(spec, path, batch[:2]), strict=True):
        tolerance = 1e-3 * max(1.0, float(np.abs(golden).max()))
        np.testing.assert_allclose(values, golden, atol=tolerance)


def test_the_backend_says_what_it_runs_on(
    network: tuple[ModelSpec, str, OpenVinoBackend],
) -> None:
    _, _, backend = network
    assert backend.precision == "f32"
    assert backend.device.startswith("cpu")


def test_every_shipped_network_has_a_card_here() -> None:
    specs = read_specs(load_settings().manifests)
    assert {s.id for s in specs if s.input is not None} == set(CARDS)


def test_a_file_that_is_no_graph_is_one_clear_error(tmp_path: object) -> None:
    settings = load_settings()
    spec = next(s for s in read_specs(settings.manifests) if s.id == "lite0")
    path = settings.manifests / "lite0" / "model.toml"
    with pytest.raises(WeightsError, match=r"OpenVINO cannot load .*model\.toml"):
        OpenVinoBackend(spec, path, settings).load()


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW", "NTHWC"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_clip_model_reads_windows_of_uint8_rgb(tmp_path: Path, layout: str, colour: str) -> None:
    """A network that answers the mean of every channel of every frame."""
    sizes = {"N": -1, "C": 3, "T": 4, "H": 2, "W": 6}
    pixels = opset.parameter([sizes[axis] for axis in layout], np.float32, name="x")
    mean = opset.reduce_mean(pixels, [layout.index("H"), layout.index("W")])
    mean.output(0).set_names({"means"})
    path = tmp_path / "model.xml"
    ov.save_model(ov.Model([mean], [pixels]), path, compress_to_fp16=False)
    backend = OpenVinoBackend(clip(layout, colour), path, load_settings(precision="f32"))
    backend.load()
    batch = np.random.default_rng(3).integers(0, 256, (3, 4, 2, 6, 3), dtype=np.uint8)
    for count in (1, 2, 3):
        (means,) = backend.start(batch[:count]).result().values()
        golden = batch[:count].mean(axis=(2, 3))
        golden = ((golden[..., ::-1] if colour == "BGR" else golden) - (10, 20, 30)) / (1, 2, 4)
        golden = golden.transpose(0, 2, 1) if layout == "NCTHW" else golden
        np.testing.assert_allclose(means, golden, rtol=1e-5)
    backend.close()


def test_a_clip_model_that_reads_another_number_of_frames_does_not_load(tmp_path: Path) -> None:
    pixels = opset.parameter([-1, 3, 8, 2, 6], np.float32, name="x")
    path = tmp_path / "model.xml"
    ov.save_model(ov.Model([opset.relu(pixels)], [pixels]), path)
    backend = OpenVinoBackend(clip("NCTHW", "RGB"), path, load_settings(precision="f32"))
    with pytest.raises(WeightsError, match="OpenVINO cannot load"):
        backend.load()


def clip(layout: str, colour: str) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "id": "fights",
            "version": "1",
            "task": "clip",
            "architecture": "toy",
            "summary": "toy",
            "licence": "MIT",
            "origin": "here",
            "input": {
                "name": "x",
                "width": 6,
                "height": 2,
                "interpolation": "area",
                "layout": layout,
                "colour": colour,
                "mean": (10, 20, 30),
                "scale": (1, 2, 4),
            },
            "window": {"frames": 4, "rate": 12.0, "every_s": 3.0},
            "labels": [{"label": "violence.fight", "output": "means", "index": 0}],
            "artefacts": [
                {
                    "backend": "openvino",
                    "source": "committed",
                    "file": "model.xml",
                    "sha256": "0" * 64,
                    "size": 1,
                }
            ],
        }
    )
