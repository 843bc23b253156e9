"""An ONNX graph as a torch module, step by step.

Only the operators of the models that this project runs are there (`onnx_ops`); another one is a
WeightsError that names it. What depends on constants alone is computed once, when the file is
read: dequantised weights, for one. Whole numbers (shapes) stay on the CPU, so that no pass waits
for the device to learn a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from moderation.errors import WeightsError
from moderation.models.backends.torch.onnx_ops import Operator, operator


@dataclass(frozen=True, slots=True)
class Step:
    """One node: an operator with its attributes bound. "" among the inputs: left out.
    done: values that no later step reads."""

    run: Operator
    inputs: tuple[str, ...]
    output: str
    done: tuple[str, ...] = ()


class OnnxModule(nn.Module):
    """`forward(tensor)`: the graph's only input -> its outputs by name."""

    def __init__(
        self,
        given: str,
        outputs: Sequence[str],
        steps: Sequence[Step],
        constants: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self._given = given
        self._outputs = tuple(outputs)
        steps, values = _folded(steps, constants)
        self._steps = _with_ends(steps, (*outputs, *values))
        read = {name for step in self._steps for name in step.inputs} | set(outputs)
        self._sizes = {n: v for n, v in values.items() if n in read and not _moves(v)}
        # A buffer's name may not hold a dot: they are numbered.
        self._buffers_of = {
            name: f"constant_{number}"
            for number, name in enumerate(n for n, v in values.items() if n in read and _moves(v))
        }
        for name, buffer in self._buffers_of.items():
            self.register_buffer(buffer, values[name])

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises WeightsError: no ONNX file, more than one input, or an operator not known."""
        try:
            model = onnx.load(path)
        except (OSError, DecodeError, onnx.checker.ValidationError) as error:
            first = " ".join(str(error).split())
            raise WeightsError(f"torch cannot load {path}: {first}") from error
        graph = model.graph
        stored = {one.name: _tensor(onnx.numpy_helper.to_array(one)) for one in graph.initializer}
        given = [one.name for one in graph.input if one.name not in stored]
        if len(given) != 1 or not graph.output:
            raise WeightsError(f"torch cannot load {path}: it has {len(given)} inputs, not one")
        opset = max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1
        )
        try:
            steps = [step for node in graph.node if (step := _step(node, opset, stored))]
            return cls(given[0], [one.name for one in graph.output], steps, stored)
        except NotImplementedError as error:
            raise WeightsError(f"torch cannot load {path}: {error}") from error

    def forward(self, tensor: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {self._given: tensor, **self._sizes}
        values.update((n, getattr(self, buffer)) for n, buffer in self._buffers_of.items())
        for step in self._steps:
            values[step.output] = step.run([values[n] if n else None for n in step.inputs])
            for name in step.done:
                del values[name]
        return {name: values[name] for name in self._outputs}


def _step(node: Any, opset: int, stored: dict[str, Tensor]) -> Step | None:
    """A node's step; None for a Constant, which goes to `stored`. Raises NotImplementedError."""
    attributes = {one.name: _plain(onnx.helper.get_attribute_value(one)) for one in node.attribute}
    if node.op_type == "Constant" and "value" in attributes:
        stored[node.output[0]] = attributes["value"]
        return None
    if len([name for name in node.output if name]) != 1:
        raise NotImplementedError(f"operator {node.op_type} with {len(node.output)} outputs")
    if node.domain not in ("", "ai.onnx"):
        raise NotImplementedError(f"operator {node.domain}.{node.op_type}")
    return Step(operator(node.op_type, attributes, opset), tuple(node.input), node.output[0])


def _folded(
    steps: Sequence[Step], constants: Mapping[str, Tensor]
) -> tuple[list[Step], dict[str, Tensor]]:
    """Steps that read constants alone, taken out; and their values beside the constants."""
    values, left = dict(constants), []
    for step in steps:
        if all(name in values for name in step.inputs if name):
            values[step.output] = step.run([values[n] if n else None for n in step.inputs])
        else:
            left.append(step)
    return left, values


def _with_ends(steps: Sequence[Step], kept: Sequence[str]) -> list[Step]:
    """Each value is let go of after the last step that reads it."""
    seen, ended = set(kept), []
    for step in reversed(steps):
        done = tuple(dict.fromkeys(n for n in step.inputs if n and n not in seen))
        unread = () if step.output in seen else (step.output,)
        seen.update(done)
        ended.append(Step(step.run, step.inputs, step.output, (*done, *unread)))
    return ended[::-1]


def _moves(value: Tensor) -> bool:
    return bool(value.is_floating_point())


def _tensor(values: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(values))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _tensor(onnx.numpy_helper.to_array(value))
    return value
