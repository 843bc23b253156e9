"""ONNX operators in torch: https://onnx.ai/onnx/operators, as far as the shipped models need.

Each maker takes the node's attributes and the operator set, and gives a function of the node's
inputs (None: left out). Makers raise NotImplementedError for an attribute that would be ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Operator = Callable[[Sequence[Any]], Tensor]
Attributes = Mapping[str, Any]
Maker = Callable[[Attributes, int], Operator]

FLOATS = (1, 10, 11, 16)  # TensorProto.DataType: FLOAT, FLOAT16, DOUBLE, BFLOAT16
WHOLES = {2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64}


def operator(name: str, attributes: Attributes, opset: int) -> Operator:
    """Raises NotImplementedError naming what is not there."""
    if name not in MAKERS:
        raise NotImplementedError(f"operator {name} is not there; {', '.join(sorted(MAKERS))} are")
    return MAKERS[name](attributes, opset)


def _plain(function: Callable[..., Tensor]) -> Maker:
    """An operator without attributes: its inputs are the function's."""

    def make(attributes: Attributes, opset: int) -> Operator:
        _only(attributes, ())
        return lambda inputs: function(*inputs)

    return make


def _only(attributes: Attributes, known: Sequence[str]) -> None:
    for name in attributes:
        if name not in known:
            raise NotImplementedError(f"attribute {name}")


def _divide(one: Tensor, other: Tensor) -> Tensor:
    return one / other if one.is_floating_point() else torch.div(one, other, rounding_mode="trunc")


def _window(attributes: Attributes) -> dict[str, Any]:
    """Strides, dilations and pads: (left, right, top, bottom) as torch's `pad` reads them."""
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NotImplementedError(f"auto_pad {attributes['auto_pad']}")
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    for name in ("strides", "dilations", "pads"):
        if len(attributes.get(name, [1, 1])) not in (2, 4):
            raise NotImplementedError(f"{name} of another number of dimensions than two")
    top, left, bottom, right = pads
    return {
        "stride": list(attributes.get("strides", [1, 1])),
        "dilation": list(attributes.get("dilations", [1, 1])),
        "pads": (left, right, top, bottom),
    }


def _even(pads: tuple[int, int, int, int]) -> tuple[int, int] | None:
    left, right, top, bottom = pads
    return (top, left) if (top, left) == (bottom, right) else None


def _convolution(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"))
    window = _window(attributes)
    pads = window.pop("pads")
    even = _even(pads)
    options = {**window, "groups": attributes.get("group", 1), "padding": even or 0}

    def run(inputs: Sequence[Any]) -> Tensor:
        maps, weights, *bias = inputs
        padded = maps if even is not None else functional.pad(maps, pads)
        return functional.conv2d(padded, weights, *bias, **options)

    return run


def _largest(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("auto_pad", "dilations", "kernel_shape", "pads", "strides", "ceil_mode"))
    window = _window(attributes)
    pads, kernel = window.pop("pads"), list(attributes["kernel_shape"])
    if attributes.get("ceil_mode", 0):
        raise NotImplementedError("ceil_mode 1")

    def run(inputs: Sequence[Any]) -> Tensor:
        padded = functional.pad(inputs[0], pads, value=-math.inf) if any(pads) else inputs[0]
        return functional.max_pool2d(padded, kernel, **window)

    return run


def _average(attributes: Attributes, opset: int) -> Operator:
    known = ("auto_pad", "kernel_shape", "pads", "strides", "ceil_mode", "count_include_pad")
    _only(attributes, known)
    window = _window(attributes)
    even, kernel = _even(window["pads"]), list(attributes["kernel_shape"])
    counted = bool(attributes.get("count_include_pad", 0))
    if attributes.get("ceil_mode", 0) or even is None:
        raise NotImplementedError("AveragePool with ceil_mode or uneven pads")
    return lambda inputs: functional.avg_pool2d(
        inputs[0], kernel, window["stride"], even, count_include_pad=counted
    )


def _global_average(maps: Tensor) -> Tensor:
    return maps.mean(dim=tuple(range(2, maps.ndim)), keepdim=True)


def _batch_normalisation(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("epsilon", "momentum", "training_mode"))
    if attributes.get("training_mode", 0):
        raise NotImplementedError("BatchNormalization in training mode")
    epsilon = attributes.get("epsilon", 1e-5)

    def run(inputs: Sequence[Any]) -> Tensor:
        maps, scale, offset, mean, variance = inputs
        return functional.batch_norm(maps, mean, variance, scale, offset, eps=epsilon)

    return run


def _gemm(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("alpha", "beta", "transA", "transB"))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)

    def run(inputs: Sequence[Any]) -> Tensor:
        one, other, *added = inputs
        one = one.T if attributes.get("transA", 0) else one
        other = other.T if attributes.get("transB", 0) else other
        product = one @ other * alpha if alpha != 1.0 else one @ other
        return product + added[0] * beta if added and added[0] is not None else product

    return run


def _softmax(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("axis",))
    if opset >= 13:
        return lambda inputs: inputs[0].softmax(attributes.get("axis", -1))
    axis = attributes.get("axis", 1)

    def run(inputs: Sequence[Any]) -> Tensor:  # before set 13: over all axes from this one on
        return inputs[0].flatten(axis).softmax(-1).reshape(inputs[0].shape)

    return run


def _clip(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("min", "max"))
    low, high = attributes.get("min"), attributes.get("max")

    def run(inputs: Sequence[Any]) -> Tensor:
        values, *ends = inputs
        least, most = [*ends, None, None][:2]
        # Tensors of no dimension: clamp takes them as they are, on whatever device they lie.
        if least is not None or most is not None:
            return torch.clamp(values, least, most)
        return torch.clamp(values, low, high)

    return run if opset >= 11 or attributes else lambda inputs: inputs[0]


def _reduction(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Maker:
    def make(attributes: Attributes, opset: int) -> Operator:
        _only(attributes, ("axes", "keepdims", "noop_with_empty_axes"))
        keep = bool(attributes.get("keepdims", 1))

        def run(inputs: Sequence[Any]) -> Tensor:
            values, *given = inputs
            axes = given[0].tolist() if given and given[0] is not None else attributes.get("axes")
            if not axes and attributes.get("noop_with_empty_axes", 0):
                return values
            return reduce(values, list(axes or range(values.ndim)), keep)

        return run

    return make


def _reshape(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("allowzero",))
    zero = bool(attributes.get("allowzero", 0))

    def run(inputs: Sequence[Any]) -> Tensor:
        values, wanted = inputs
        sizes = wanted.tolist()
        if not zero:  # 0: as it was
            sizes = [values.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return values.reshape(sizes)

    return run


def _flatten(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("axis",))
    axis = attributes.get("axis", 1)
    return lambda inputs: inputs[0].reshape(math.prod(inputs[0].shape[:axis]), -1)


def _shape(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("start", "end"))
    part = slice(attributes.get("start", 0), attributes.get("end"))
    return lambda inputs: torch.tensor(inputs[0].shape[part], dtype=torch.int64)


def _expand(values: Tensor, wanted: Tensor) -> Tensor:
    sizes = torch.broadcast_shapes(values.shape, torch.Size(wanted.tolist()))
    return values.expand(sizes)


def _cast(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("to", "saturate"))
    to = attributes["to"]
    if to in WHOLES:
        return lambda inputs: inputs[0].to(WHOLES[to])
    if to not in FLOATS:
        raise NotImplementedError(f"Cast to type {to}")
    # Which float a network computes in is the setting's affair: whole numbers become f32, and
    # constants among them move to the network's own format with it.
    return lambda inputs: (
        inputs[0] if inputs[0].is_floating_point() else inputs[0].to(torch.float32)
    )


def _transpose(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("perm",))
    order = attributes.get("perm")
    return lambda inputs: inputs[0].permute(order or list(range(inputs[0].ndim))[::-1])


def _concatenation(attributes: Attributes, opset: int) -> Operator:
    _only(attributes, ("axis",))
    return lambda inputs: torch.cat(list(inputs), attributes["axis"])


MAKERS: dict[str, Maker] = {
    "Add": _plain(torch.add),
    "AveragePool": _average,
    "BatchNormalization": _batch_normalisation,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concatenation,
    "Conv": _convolution,
    "Div": _plain(_divide),
    "Erf": _plain(torch.erf),
    "Expand": _plain(_expand),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(_global_average),
    "Identity": _plain(lambda value: value),
    "MatMul": _plain(torch.matmul),
    "MaxPool": _largest,
    "Mul": _plain(torch.mul),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Softmax": _softmax,
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
}
