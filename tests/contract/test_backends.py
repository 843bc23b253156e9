"""Golden values: each shipped network through each backend equals an independent computation.

The independent side reads the same pixels, normalises them in plain numpy as the model's card
says, and runs the unchanged graph in OpenVINO: no preprocessing step, no streams, no batching of
ours, and for torch not even the same file format.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset
from PIL import Image

from benchmarks.photos import photographs
from moderation.errors import InferenceError, WeightsError
from moderation.models.backends.base import Backend
from moderation.models.registry import backend_class, choose_artefact
from moderation.models.spec import ModelSpec, read_specs
from moderation.models.weights import resolve
from moderation.processor import sums_int8
from moderation.settings import Settings, load_settings

pytestmark = pytest.mark.weights

BACKENDS = ("openvino", pytest.param("torch", marks=pytest.mark.torch))
NAMES = {"openvino": "OpenVINO", "torch": "torch"}
CARDS = {
    # id: (colour order, layout, mean, scale), copied by hand from the models' own code
    "image-safety-s": ("RGB", "NCHW", (0, 0, 0), 1),
    "open-nsfw": ("BGR", "NHWC", (104, 117, 123), 1),
    "lite0": ("RGB", "NCHW", (127, 127, 127), 128),
    "scenes": ("RGB", "NCHW", (127, 127, 127), 128),
    "nsfwjs-inception": ("RGB", "NCHW", (0, 0, 0), 255),
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """A shipped network in a backend; `graph`: the file that OpenVINO reads."""

    spec: ModelSpec
    graph: str
    backend: Backend


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """For f32 on the CPU, with each backend in turn."""
    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is not installed: `make test-torch`")
    return load_settings(backend=request.param, device="cpu", precision="f32")


@pytest.fixture(params=sorted(CARDS))
def network(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Loaded]:
    spec = next(s for s in read_specs(settings.manifests) if s.id == request.param)
    try:
        graph = resolve(spec, choose_artefact(spec, "openvino", "f32"), settings)
        path = resolve(spec, choose_artefact(spec, settings.backend, "f32"), settings)
    except WeightsError as error:
        pytest.skip(str(error))
    backend = make(spec, path, settings)
    backend.load()
    yield Loaded(spec, str(graph), backend)
    backend.close()


def make(spec: ModelSpec, path: Path, settings: Settings) -> Backend:
    return backend_class(settings.backend)(spec, path, settings)


def test_scores_equal_an_independent_computation(network: Loaded) -> None:
    batch = pixels(network.spec, max(BATCHES))
    expected = independent(network.spec, network.graph, batch)
    for count in BATCHES:
        outputs = network.backend.start(batch[:count]).result()
        for (name, values), golden in zip(outputs.items(), expected, strict=True):
            assert (values.dtype, values.shape) == (np.float32, golden[:count].shape)
            close(network.spec, name, values, golden[:count])


def close(spec: ModelSpec, name: str, values: np.ndarray, golden: np.ndarray) -> None:
    """A cell is a peak or 0, as its neighbours are: of two that are all but equal either may be
    the peak, so only those count that `detections` would read."""
    if spec.detector is not None and name == spec.detector.peaks:
        least = spec.detector.least
        values, golden = (np.where(v < least, 0.0, v) for v in (values, golden))
    tolerance = 1e-3 * max(1.0, float(np.abs(golden).max()))
    np.testing.assert_allclose(values, golden, atol=tolerance)


INT8 = ("image-safety-s", "open-nsfw", "scenes")


@pytest.mark.parametrize("name", INT8)
def test_int8_says_nearly_what_f32_says(name: str) -> None:
    if not sums_int8():
        pytest.skip("this processor has no VNNI")
    told = {}
    for precision in ("f32", "int8"):
        settings = load_settings(device="cpu", precision=precision)
        spec = next(s for s in read_specs(settings.manifests) if s.id == name)
        try:
            path = resolve(spec, choose_artefact(spec, "openvino", precision), settings)
        except WeightsError as error:
            pytest.skip(str(error))
        backend = make(spec, path, settings)
        backend.load()
        assert backend.precision == precision
        shots = np.stack([whole(shot, spec) for shot in photographs(8)])
        told[precision] = backend.start(shots).result()
        backend.close()
    for label in spec.labels:
        exact, near = (told[p][label.output].reshape(8, -1)[:, label.index] for p in told)
        if label.activation == "sigmoid":
            exact, near = (1 / (1 + np.exp(-values)) for values in (exact, near))
        assert np.abs(exact - near).max() < 0.15
    if spec.embedding_output is not None:
        exact, near = (told[precision][spec.embedding_output] for precision in told)
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(near, axis=1)
        assert ((exact * near).sum(axis=1) / norms).min() > 0.97


def whole(body: bytes, spec: ModelSpec) -> np.ndarray:
    assert spec.input is not None
    size = (spec.input.width, spec.input.height)
    with Image.open(io.BytesIO(body)) as picture:
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def test_a_pass_that_nobody_read_does_not_fail_the_next(network: Loaded) -> None:
    batch = pixels(network.spec, 8)
    network.backend.start(batch)  # as when another network fails in the same batch
    with pytest.raises((RuntimeError, InferenceError)):
        network.backend.start(batch[:, :9, :9]).result()
    outputs = network.backend.start(batch[:2]).result()
    expected = independent(network.spec, network.graph, batch[:2])
    for (name, values), golden in zip(outputs.items(), expected, strict=True):
        close(network.spec, name, values, golden)


def test_the_caller_may_use_its_pixels_again_at_once(network: Loaded) -> None:
    batch = pixels(network.spec, 4)
    expected = network.backend.start(batch).result()
    running = network.backend.start(batch)
    batch[:] = 0
    for name, values in running.result().items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_two_passes_may_be_under_way(network: Loaded) -> None:
    one, other = np.split(pixels(network.spec, 4), 2)
    alone = [network.backend.start(part).result() for part in (one, other)]
    # Of two networks: one backend's second pass may end its first.
    twin = make_twin(network)
    together = [running.result() for running in (network.backend.start(one), twin.start(other))]
    twin.close()
    for expected, told in zip(alone, together, strict=True):
        assert expected.keys() == told.keys()
        for name, values in told.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-5)


def make_twin(network: Loaded) -> Backend:
    settings = load_settings(precision="f32", device="cpu")
    name = "torch" if "torch" in network.backend.device else "openvino"
    path = resolve(network.spec, choose_artefact(network.spec, name, "f32"), settings)
    backend = backend_class(name)(network.spec, path, settings)
    backend.load()
    return backend


def test_the_backend_says_what_it_runs_on(network: Loaded) -> None:
    assert network.backend.precision == "f32"
    assert network.backend.device.startswith("cpu")


def test_every_shipped_network_has_a_card_here() -> None:
    specs = read_specs(load_settings().manifests)
    assert {s.id for s in specs if s.input is not None and s.task != "clip"} == set(CARDS)


def test_a_file_that_is_no_graph_is_one_clear_error(settings: Settings) -> None:
    spec = next(s for s in read_specs(settings.manifests) if s.id == "lite0")
    path = settings.manifests / "lite0" / "model.toml"
    with pytest.raises(WeightsError, match=rf"{NAMES[settings.backend]} cannot load .*model\.toml"):
        make(spec, path, settings).load()


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW", "NTHWC"])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_a_clip_model_reads_windows_of_uint8_rgb(
    tmp_path: Path, settings: Settings, layout: str, colour: str
) -> None:
    """A network that answers the mean of every channel of every frame."""
    path = means(tmp_path, settings.backend, layout, frames=4)
    backend = make(clip(layout, colour), path, settings)
    backend.load()
    batch = np.random.default_rng(3).integers(0, 256, (3, 4, 2, 6, 3), dtype=np.uint8)
    for count in (1, 2, 3):
        (told,) = backend.start(batch[:count]).result().values()
        golden = batch[:count].mean(axis=(2, 3))
        golden = ((golden[..., ::-1] if colour == "BGR" else golden) - (10, 20, 30)) / (1, 2, 4)
        golden = golden.transpose(0, 2, 1) if layout == "NCTHW" else golden
        np.testing.assert_allclose(told, golden, rtol=1e-5)
    with pytest.raises((RuntimeError, InferenceError)):
        backend.start(batch[:, :3]).result()
    backend.close()


def means(folder: Path, backend: str, layout: str, frames: int) -> Path:
    """The file of that network."""
    sizes = {"N": -1, "C": 3, "T": frames, "H": 2, "W": 6}
    axes = [layout.index("H"), layout.index("W")]
    if backend == "torch":
        import onnx

        tell = onnx.helper.make_tensor_value_info
        given = tell("x", onnx.TensorProto.FLOAT, [sizes[a] if a != "N" else "n" for a in layout])
        answer = tell("means", onnx.TensorProto.FLOAT, None)
        node = onnx.helper.make_node("ReduceMean", ["x"], ["means"], axes=axes, keepdims=0)
        graph = onnx.helper.make_graph([node], "means", [given], [answer])
        path = folder / "model.onnx"
        opsets = [onnx.helper.make_opsetid("", 13)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), path)
        return path
    pixels = opset.parameter([sizes[axis] for axis in layout], np.float32, name="x")
    mean = opset.reduce_mean(pixels, axes)
    mean.output(0).set_names({"means"})
    path = folder / "model.xml"
    ov.save_model(ov.Model([mean], [pixels]), path, compress_to_fp16=False)
    return path


def test_a_clip_model_that_reads_another_number_of_frames_does_not_load(tmp_path: Path) -> None:
    """OpenVINO's files know their sizes. Those of torch do not: it checks what it is given."""
    path = means(tmp_path, "openvino", "NCTHW", frames=8)
    backend = make(clip("NCTHW", "RGB"), path, load_settings(precision="f32"))
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
