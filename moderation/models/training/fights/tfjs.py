"""A TensorFlow.js graph model (JSON and one binary) -> an OpenVINO graph, without TensorFlow.

Only the operations that MoveNet's convolutional part consists of, and only the forms of them that
it uses: anything else raises. The graph is turned from NHWC to NCHW on the way.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from moderation.errors import WeightsError

ELEMENTS = {"float32": np.float32, "float16": np.float16, "int32": np.int32}


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Operations by name as the JSON has them, and every constant at the type it is used as."""

    nodes: Mapping[str, Mapping[str, Any]]
    constants: Mapping[str, NDArray[Any]]


def read_graph(topology: Path, binary: Path) -> Graph:
    """Raises WeightsError where the binary is not what the manifest of the JSON says."""
    told = json.loads(topology.read_text("utf-8"))
    content = binary.read_bytes()
    constants: dict[str, NDArray[Any]] = {}
    at = 0
    for entry in (one for group in told["weightsManifest"] for one in group["weights"]):
        stored = ELEMENTS[entry.get("quantization", {}).get("dtype", entry["dtype"])]
        count = math.prod(entry["shape"])
        end = at + count * np.dtype(stored).itemsize
        if end > len(content):
            raise WeightsError(f"{binary} ends before {entry['name']}")
        values = np.frombuffer(content[at:end], stored).reshape(entry["shape"])
        constants[entry["name"]] = values.astype(ELEMENTS[entry["dtype"]])
        at = end
    if at != len(content):
        raise WeightsError(f"{binary} has {len(content) - at} bytes too many")
    return Graph({node["name"]: node for node in told["modelTopology"]["node"]}, constants)


def build(graph: Graph, outputs: Mapping[str, str]) -> ov.Model:
    """What `outputs` (node -> name of the output) need, as a network reading `pixels`: f32 NCHW
    RGB 0..255 of any size in multiples of 32. Raises WeightsError for what it does not know."""
    pixels = ops.parameter([-1, 3, -1, -1], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    made: dict[str, Any] = {}
    for name in _needed(graph, outputs):
        node = graph.nodes[name]
        if node["op"] == "Placeholder":
            made[name] = pixels
        elif name not in graph.constants:
            inputs = [made.get(one) for one in node["input"]]
            made[name] = _operation(graph, node, inputs)
    results = []
    for name, called in outputs.items():
        result = ops.result(made[name])
        result.output(0).set_names({called})
        results.append(result)
    return ov.Model(results, [pixels], "movenet")


def _needed(graph: Graph, outputs: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Every node that they depend on, each after what it reads. The size of a map to resize to
    is left out: all of them double."""
    order: dict[str, None] = {}
    waiting = [(name, False) for name in reversed(list(outputs))]
    while waiting:
        name, ready = waiting.pop()
        if ready:
            order[name] = None
        elif name not in order:
            node = graph.nodes[name]
            reads = node.get("input", [])
            reads = reads[:1] if node["op"] == "ResizeBilinear" else reads
            waiting += [(name, True), *((one, False) for one in reversed(reads))]
    return list(order)


def _operation(graph: Graph, node: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    known: Mapping[str, Callable[[], Any]] = {
        "Cast": lambda: inputs[0],
        "Sub": lambda: ops.subtract(*_operands(graph, node, inputs)),
        "Mul": lambda: ops.multiply(*_operands(graph, node, inputs)),
        "AddV2": lambda: ops.add(*inputs),
        "Sigmoid": lambda: ops.sigmoid(inputs[0]),
        "ResizeBilinear": lambda: _doubled(node, inputs[0]),
        "_FusedConv2D": lambda: _convolution(graph, node, inputs[0]),
        "FusedDepthwiseConv2dNative": lambda: _convolution(graph, node, inputs[0]),
        "DepthwiseConv2dNative": lambda: _convolution(graph, node, inputs[0]),
    }
    if node["op"] not in known:
        raise WeightsError(f"{node['name']}: no translation of {node['op']}")
    return known[node["op"]]()


def _operands(graph: Graph, node: Mapping[str, Any], inputs: Sequence[Any]) -> list[Any]:
    """Both sides of an elementwise operation; a constant's channels go where NCHW has them."""
    sides = []
    for name, made in zip(node["input"], inputs, strict=True):
        if made is not None:
            sides.append(made)
            continue
        value = np.asarray(graph.constants[name], np.float32)
        sides.append(ops.constant(value.reshape(-1, 1, 1) if value.size > 1 else value.reshape(())))
    return sides


def _convolution(graph: Graph, node: Mapping[str, Any], read: Any) -> Any:
    """A convolution with its bias and activation. Kernels (h, w, in, out or multiplier)."""
    attributes = node["attr"]
    kernel = np.asarray(graph.constants[node["input"][1]], np.float32)
    steps = [int(step) for step in attributes["strides"]["list"]["i"]][1:3]
    padding = _text(attributes["padding"]["s"])
    pad = {"SAME": "SAME_UPPER", "VALID": "VALID"}[padding]
    if any(int(one) != 1 for one in attributes.get("dilations", {}).get("list", {}).get("i", [])):
        raise WeightsError(f"{node['name']}: a dilated convolution")
    if "epthwise" in node["op"]:
        if kernel.shape[3] != 1:
            raise WeightsError(f"{node['name']}: more than one filter a channel")
        weights = kernel.transpose(2, 3, 0, 1)[:, None]
        found = ops.group_convolution(
            read, ops.constant(weights), steps, [0, 0], [0, 0], [1, 1], auto_pad=pad
        )
    else:
        weights = kernel.transpose(3, 2, 0, 1)
        found = ops.convolution(
            read, ops.constant(weights), steps, [0, 0], [0, 0], [1, 1], auto_pad=pad
        )
    for fused in map(_text, attributes.get("fused_ops", {"list": {"s": []}})["list"]["s"]):
        if fused == "BiasAdd":
            bias = np.asarray(graph.constants[node["input"][2]], np.float32)
            found = ops.add(found, ops.constant(bias.reshape(1, -1, 1, 1)))
        elif fused == "Relu6":
            found = ops.clamp(found, 0.0, 6.0)
        elif fused == "Relu":
            found = ops.relu(found)
        else:
            raise WeightsError(f"{node['name']}: no translation of {fused}")
    return found


def _doubled(node: Mapping[str, Any], read: Any) -> Any:
    """Bilinear, twice the size, as `UpSampling2D` does it."""
    if not node["attr"]["half_pixel_centers"]["b"] or node["attr"]["align_corners"]["b"]:
        raise WeightsError(f"{node['name']}: only half-pixel centres are translated")
    return ops.interpolate(
        read,
        ops.constant(np.array([2.0, 2.0], np.float32)),
        "linear_onnx",
        "scales",
        coordinate_transformation_mode="half_pixel",
        axes=ops.constant(np.array([2, 3], np.int32)),
    )


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
