"""Writes ONNX files: as much of the format as a converted classifier needs.

The same graph always gives the same bytes, so that a file made on another machine can be pinned by
its sha256. Field numbers are those of onnx.proto3 (IR version 8, operator set 13).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 13
PRODUCER = "moderation"
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int64": 7}
"""numpy dtype -> TensorProto.DataType."""

FLOAT, INT, INTS = 1, 2, 7  # AttributeProto.AttributeType

Attribute = int | float | Sequence[int]
Shape = Sequence[int | str]
"""Numbers, or names of dimensions that may take any size."""


@dataclass(slots=True)
class OnnxGraph:
    """A graph that grows node by node; every value has the name of the node that gives it."""

    name: str
    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    _nodes: list[bytes] = field(default_factory=list)
    _constants: list[bytes] = field(default_factory=list)

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """A stored tensor of float32, uint8 or int64. Returns its name."""
        raw = np.ascontiguousarray(values)
        self._constants.append(
            b"".join(_int(1, size) for size in raw.shape)
            + _int(2, ELEMENT_TYPES[raw.dtype.name])
            + _bytes(8, name.encode())
            + _bytes(9, raw.astype(raw.dtype.newbyteorder("<")).tobytes())
        )
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> str:
        """An operator with one output, which has the node's name. Returns it."""
        self._nodes.append(
            b"".join(_bytes(1, one.encode()) for one in inputs)
            + _bytes(2, name.encode())
            + _bytes(3, name.encode())
            + _bytes(4, operator.encode())
            + b"".join(_bytes(5, _attribute(*one)) for one in (attributes or {}).items())
        )
        return name

    def to_bytes(self) -> bytes:
        """The file."""
        graph = (
            b"".join(_bytes(1, node) for node in self._nodes)
            + _bytes(2, self.name.encode())
            + b"".join(_bytes(5, tensor) for tensor in self._constants)
            + b"".join(_bytes(11, _value(*one)) for one in self.inputs.items())
            + b"".join(_bytes(12, _value(*one)) for one in self.outputs.items())
        )
        opset = _bytes(1, b"") + _int(2, OPSET)
        return (
            _int(1, IR_VERSION) + _bytes(2, PRODUCER.encode()) + _bytes(7, graph) + _bytes(8, opset)
        )


def _attribute(name: str, value: Attribute) -> bytes:
    head = _bytes(1, name.encode())
    if isinstance(value, float):
        return head + _key(2, 5) + struct.pack("<f", value) + _int(20, FLOAT)
    if isinstance(value, int):
        return head + _int(3, value) + _int(20, INT)
    return head + b"".join(_int(8, one) for one in value) + _int(20, INTS)


def _value(name: str, shape: Shape) -> bytes:
    """ValueInfoProto of a float32 tensor."""
    sizes = b"".join(
        _bytes(1, _int(1, size) if isinstance(size, int) else _bytes(2, size.encode()))
        for size in shape
    )
    tensor = _int(1, ELEMENT_TYPES["float32"]) + _bytes(2, sizes)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _int(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _bytes(number: int, payload: bytes) -> bytes:
    return _key(number, 2) + _varint(len(payload)) + payload


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    rest = value & 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
