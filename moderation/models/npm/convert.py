"""A bundled Keras classifier -> an ONNX file, by numpy alone.

The weights stay bytes in the file: BatchNormalization is folded into the scale and the offset that
the graph applies to each output channel of a convolution. The file has nothing but a function of
the bundle in it, so that its sha256 can be pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.errors import WeightsError
from moderation.models.npm.bundle import Bundle, Weight, read_bundle
from moderation.models.npm.onnx import OnnxGraph

INPUT = "pixels"
PROBABILITIES = "probabilities"
ANSWERS = "answers"

Layer = Mapping[str, Any]


def convert_nsfwjs(members: Mapping[str, bytes]) -> bytes:
    """The files of one model of nsfwjs -> an ONNX file, the same bytes on every machine.

    It reads `pixels` (n, 3, height, width), RGB in 0..1, and answers `probabilities` (n, 5):
    Drawing, Hentai, Neutral, Porn, Sexy; and `answers` (n, 2): explicit, which is Porn and Hentai
    together, and sexy. Raises WeightsError: it is another kind of network than expected.
    """
    try:
        return to_onnx(read_bundle(members), [(1, 3), (4,)])
    except (LookupError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the package has no network that can be converted: {type(error).__name__}: {error}",
            code="weights_pull",
        ) from error


def to_onnx(bundle: Bundle, answers: Sequence[Sequence[int]]) -> bytes:
    """answers: which classes each column of the output `answers` is the sum of.

    Raises ValueError or LookupError for a layer or an option that is not known here.
    """
    return _Converter(bundle).run(answers)


CONVERTERS: Mapping[str, Callable[[Mapping[str, bytes]], bytes]] = {"nsfwjs": convert_nsfwjs}
"""By `convert` of the manifest: file name -> bytes of a folder, to the weight file."""


class _Converter:
    """Keras layers, channels last -> ONNX nodes, channels first."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._graph = OnnxGraph("classifier")
        self._values: dict[str, str] = {}
        """layer -> the value that it gives."""
        self._folded = {
            _sources(layer)[0]: layer
            for layer in bundle.layers
            if layer["class_name"] == "BatchNormalization"
        }
        """layer -> the normalisation that follows it."""

    def run(self, answers: Sequence[Sequence[int]]) -> bytes:
        convert: dict[str, Callable[[Layer, list[str]], str]] = {
            "InputLayer": self._input,
            "Conv2D": self._convolution,
            "BatchNormalization": self._normalised,
            "Activation": self._activation,
            "MaxPooling2D": self._pooling,
            "AveragePooling2D": self._pooling,
            "Concatenate": self._concatenation,
            "Flatten": self._flatten,
            "Dropout": lambda _, sources: sources[0],
            "Dense": self._dense,
        }
        for layer in self._bundle.layers:
            sources = [self._values[name] for name in _sources(layer)]
            self._values[layer["name"]] = convert[layer["class_name"]](layer, sources)
        return self._finish(answers)

    def _finish(self, answers: Sequence[Sequence[int]]) -> bytes:
        graph = self._graph
        classes = self._weight(f"{self._bundle.output}/kernel").levels.shape[-1]
        chosen = np.zeros((classes, len(answers)), np.float32)
        for column, members in enumerate(answers):
            chosen[list(members), column] = 1.0
        scores = graph.node("Identity", [self._values[self._bundle.output]], PROBABILITIES)
        graph.node("MatMul", [scores, graph.constant("columns", chosen)], ANSWERS)
        graph.outputs[PROBABILITIES] = ("n", classes)
        graph.outputs[ANSWERS] = ("n", len(answers))
        return graph.to_bytes()

    def _weight(self, name: str) -> Weight:
        return self._bundle.weights[name]

    def _input(self, layer: Layer, sources: list[str]) -> str:
        _, height, width, channels = layer["config"]["batch_input_shape"]
        self._graph.inputs[INPUT] = ("n", channels, height, width)
        return INPUT

    def _convolution(self, layer: Layer, sources: list[str]) -> str:
        told, name = layer["config"], layer["name"]
        _expect(told, use_bias=False, activation="linear", dilation_rate=[1, 1])
        gain, offset = self._normalisation(name)
        kernel = self._weight(f"{name}/kernel")
        stored = Weight(kernel.levels.transpose(3, 2, 0, 1), kernel.scale, kernel.least)
        weights = self._dequantised(name, stored, gain.reshape(-1, 1, 1, 1))
        bias = self._graph.constant(f"{name}/bias", offset.astype(np.float32))
        return self._graph.node(
            "Conv", [*sources, weights, bias], name, _window(told, "kernel_size")
        )

    def _normalisation(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What follows a convolution, as a factor and an offset of each channel."""
        layer = self._folded[name]
        _expect(layer["config"], axis=3, center=True, scale=False)
        own = layer["name"]
        variance = self._weight(f"{own}/moving_variance").values
        gain = 1.0 / np.sqrt(variance + layer["config"]["epsilon"])
        mean = self._weight(f"{own}/moving_mean").values
        return gain, self._weight(f"{own}/beta").values - mean * gain

    def _normalised(self, layer: Layer, sources: list[str]) -> str:
        (source,) = _sources(layer)
        if f"{source}/kernel" not in self._bundle.weights:
            raise ValueError(f"{layer['name']} follows no convolution")
        return sources[0]

    def _dequantised(self, name: str, weight: Weight, gain: NDArray[np.float64]) -> str:
        """The values of a stored tensor, times `gain`, which fits to its shape."""
        graph = self._graph
        scale = graph.constant(f"{name}/scale", (weight.scale * gain).astype(np.float32))
        least = graph.constant(f"{name}/least", (weight.least * gain).astype(np.float32))
        levels = graph.constant(f"{name}/levels", weight.levels)
        as_float = graph.node("Cast", [levels], f"{name}/float", {"to": 1})
        scaled = graph.node("Mul", [as_float, scale], f"{name}/scaled")
        return graph.node("Add", [scaled, least], f"{name}/weights")

    def _activation(self, layer: Layer, sources: list[str]) -> str:
        _expect(layer["config"], activation="relu")
        return self._graph.node("Relu", sources, layer["name"])

    def _pooling(self, layer: Layer, sources: list[str]) -> str:
        told = layer["config"]
        kind = "MaxPool" if layer["class_name"] == "MaxPooling2D" else "AveragePool"
        # Padding counts in neither: an average is one over the pixels that are there.
        return self._graph.node(kind, sources, layer["name"], _window(told, "pool_size"))

    def _concatenation(self, layer: Layer, sources: list[str]) -> str:
        _expect(layer["config"], axis=3)
        return self._graph.node("Concat", sources, layer["name"], {"axis": 1})

    def _flatten(self, layer: Layer, sources: list[str]) -> str:
        # Only a map of one pixel has the same order in both layouts. The mean keeps such a map as
        # it is, and of a larger one leaves too few numbers for the layer that follows.
        mean = self._graph.node("GlobalAveragePool", sources, f"{layer['name']}/mean")
        return self._graph.node("Flatten", [mean], layer["name"], {"axis": 1})

    def _dense(self, layer: Layer, sources: list[str]) -> str:
        told, name = layer["config"], layer["name"]
        _expect(told, use_bias=True)
        weights = self._dequantised(name, self._weight(f"{name}/kernel"), np.ones((1, 1)))
        bias = self._weight(f"{name}/bias").values.astype(np.float32)
        stored = self._graph.constant(f"{name}/bias", bias)
        value = self._graph.node("Gemm", [*sources, weights, stored], f"{name}/sum")
        if told["activation"] == "softmax":
            return self._graph.node("Softmax", [value], name, {"axis": 1})
        _expect(told, activation="relu")
        return self._graph.node("Relu", [value], name)


def _sources(layer: Layer) -> list[str]:
    """The layers that a layer reads. Raises ValueError where it is used twice."""
    if len(layer["inbound_nodes"]) > 1:
        raise ValueError(f"{layer['name']} is used twice")
    return [source[0] for node in layer["inbound_nodes"] for source in node]


def _expect(told: Mapping[str, Any], **wanted: object) -> None:
    """Raises ValueError for an option that would need another conversion."""
    for option, value in wanted.items():
        if told[option] != value:
            raise ValueError(f"{told['name']}: {option} is {told[option]!r}")


def _window(told: Mapping[str, Any], size: str) -> dict[str, list[int]]:
    """Kernel, strides and padding of a convolution or pooling. Raises ValueError."""
    kernel, strides = list(told[size]), list(told["strides"])
    _expect(told, data_format="channels_last")
    pads = [0, 0]
    if told["padding"] == "same":
        if strides != [1, 1] or any(side % 2 == 0 for side in kernel):
            raise ValueError(f"{told['name']}: uneven padding")
        pads = [side // 2 for side in kernel]
    else:
        _expect(told, padding="valid")
    return {"kernel_shape": kernel, "strides": strides, "pads": [*pads, *pads]}
