"""TensorFlow.js graphs: the operations that MoveNet is made of, against numpy."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from moderation.errors import WeightsError
from moderation.models.training.fights.convert_movenet import convert
from moderation.models.training.fights.tfjs import build, read_graph


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def conv(name: str, op: str, inputs: list[str], fused: list[str], step: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "op": op,
        "input": inputs,
        "attr": {
            "padding": {"s": coded("SAME")},
            "strides": {"list": {"i": ["1", str(step), str(step), "1"]}},
            "fused_ops": {"list": {"s": [coded(one) for one in fused]}},
        },
    }


def stored(
    folder: Path, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]
) -> tuple[Path, Path]:
    manifest = [
        {
            "name": name,
            "shape": list(values.shape),
            "dtype": "float32",
            "quantization": {"dtype": "float16"},
        }
        for name, values in weights.items()
    ]
    nodes = [*nodes, *({"name": name, "op": "Const", "attr": {}} for name in weights)]
    told = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": manifest}]}
    (folder / "m.json").write_text(json.dumps(told), "utf-8")
    content = b"".join(values.astype(np.float16).tobytes() for values in weights.values())
    (folder / "m.bin").write_bytes(content)
    return folder / "m.json", folder / "m.bin"


WEIGHTS = {
    "mean": np.array([10.0, 20.0, 30.0]),
    "scale": np.array(0.5),
    "kernel": np.arange(12.0).reshape(1, 1, 3, 4) / 8,
    "bias": np.array([1.0, -9.0, 0.5, 200.0]),
    "depth": np.ones((3, 3, 4, 1)),
}
NODES: list[dict[str, Any]] = [
    {"name": "input", "op": "Placeholder", "attr": {}},
    {"name": "float", "op": "Cast", "input": ["input"], "attr": {}},
    {"name": "sub", "op": "Sub", "input": ["float", "mean"], "attr": {}},
    {"name": "mul", "op": "Mul", "input": ["sub", "scale"], "attr": {}},
    conv("conv", "_FusedConv2D", ["mul", "kernel", "bias"], ["BiasAdd", "Relu6"]),
    conv("deep", "DepthwiseConv2dNative", ["conv", "depth"], [], step=2),
    {
        "name": "up",
        "op": "ResizeBilinear",
        "input": ["deep", "size"],
        "attr": {"half_pixel_centers": {"b": True}, "align_corners": {"b": False}},
    },
    {"name": "sum", "op": "AddV2", "input": ["conv", "up"], "attr": {}},
]


def test_each_operation_gives_what_numpy_gives(tmp_path: Path) -> None:
    model = build(read_graph(*stored(tmp_path, NODES, WEIGHTS)), {"conv": "conv", "deep": "deep"})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8)).astype(np.float32)
    found = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([pixels])
    scaled = (pixels - np.array([10, 20, 30], np.float32)[:, None, None]) * 0.5
    first = np.einsum("nihw,io->nohw", scaled, WEIGHTS["kernel"][0, 0])
    first = np.clip(first + WEIGHTS["bias"][:, None, None], 0, 6)
    np.testing.assert_allclose(found["conv"], first, atol=1e-3)
    # SAME at stride 2 on an even side pads at its end alone.
    padded = np.pad(first, ((0, 0), (0, 0), (0, 1), (0, 1)))
    second = sum(padded[:, :, y : y + 6 : 2, x : x + 8 : 2] for y in range(3) for x in range(3))
    np.testing.assert_allclose(found["deep"], second, atol=1e-3)


def test_maps_are_doubled_between_pixel_centres(tmp_path: Path) -> None:
    nodes = [NODES[0], {**NODES[6], "input": ["input", "size"]}]
    model = build(read_graph(*stored(tmp_path, nodes, {})), {"up": "up"})
    ramp = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4).repeat(3, axis=1)
    found = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([ramp])["up"]
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    np.testing.assert_allclose(found[0, 0], [expected] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "x", "op": "MaxPool", "input": ["input"], "attr": {}}, "MaxPool"),
        (conv("x", "_FusedConv2D", ["input", "kernel", "bias"], ["Elu"]), "Elu"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, node: dict[str, Any], message: str) -> None:
    graph = read_graph(*stored(tmp_path, [NODES[0], node], WEIGHTS))
    with pytest.raises(WeightsError, match=message):
        build(graph, {"x": "x"})


@pytest.mark.parametrize("change", [-2, 2])
def test_a_binary_of_another_length_is_refused(tmp_path: Path, change: int) -> None:
    topology, binary = stored(tmp_path, NODES, WEIGHTS)
    content = binary.read_bytes()
    binary.write_bytes(content[:change] if change < 0 else content + b"\0" * change)
    with pytest.raises(WeightsError, match=r"ends before|too many"):
        read_graph(topology, binary)


def test_other_files_than_the_pinned_are_not_converted(tmp_path: Path) -> None:
    for name in ("movenet-multipose.json", "movenet-multipose.bin"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(WeightsError, match="pinned"):
        convert(tmp_path, tmp_path / "out")
