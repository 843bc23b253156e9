"""The network of `fights`: a window of frames -> one logit, as one OpenVINO graph.

MoveNet's trunk reads every frame. Its map says what is in each cell of stride 32; how a cell's
values change from frame to frame says what happens there. Mean and mean absolute differences of
each cell are averaged over the cells by weights that are fixed for the window: the probability of a
person in the cell, how much its pixels change, and all alike. A linear head reads the averages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from moderation.errors import WeightsError
from moderation.models.training.fights.recipe import Recipe
from moderation.models.training.heads import Head

STRIDE = 32
HEAT_STRIDE = 4
SOMEBODY = 1e-4
"""Added to the probability of a person: where nobody is, all cells count alike."""
STILL = 0.05
"""Added to a cell's mean change in grey levels, or to its square, for the same reason."""
FRAMES, HEAT, MAP, FEATURES = "frames", "movenet/heat", "movenet/map", "features"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network reads: (n, frames, 3, height, width) f32 RGB 0..255."""

    frames: int
    height: int
    width: int

    @property
    def cells(self) -> int:
        return self.height // STRIDE * (self.width // STRIDE)


def window_network(trunk: ov.Model, recipe: Recipe) -> ov.Model:
    """`pixels` (n, frames, 3, height, width) -> `features` (n, d), over a copy of the trunk, whose
    outputs are `heat` and `map`. d: pools x (1 + steps) x the map's channels."""
    shape = Shape(recipe.frames, recipe.height, recipe.width)
    trunk = trunk.clone()
    pixels = ops.parameter([-1, shape.frames, 3, shape.height, shape.width], np.float32)
    pixels.set_friendly_name("pixels")
    pixels.output(0).set_names({"pixels"})
    single = ops.reshape(pixels, _ints(-1, 3, shape.height, shape.width), special_zero=False)
    single.set_friendly_name(FRAMES)
    for place in trunk.inputs[0].get_node().output(0).get_target_inputs():
        place.replace_source_output(single.output(0))
    made = {}
    for name, called in (("heat", HEAT), ("map", MAP)):
        node = trunk.output(name).get_node().input_value(0).get_node()
        node.set_friendly_name(called)
        made[called] = node
    features = _features(pixels, made[HEAT], made[MAP], shape, recipe)
    features.set_friendly_name(FEATURES)
    result = ops.result(features)
    result.output(0).set_names({"features"})
    return ov.Model([result], [pixels], "fights")


def with_head(network: ov.Model, head: Head) -> ov.Model:
    """The network with `scores` (n, 1), the head's logit, as its only output."""
    network = network.clone()
    features = _named(network, FEATURES)
    weight = ops.constant(head.weight.reshape(-1, 1))
    logit = ops.add(ops.matmul(features, weight, False, False), np.float32(head.bias))
    logit.set_friendly_name("scores")
    result = ops.result(logit)
    result.output(0).set_names({"scores"})
    return ov.Model([result], network.get_parameters(), "fights")


def trunk_of(path: Path) -> ov.Model:
    """MoveNet's trunk as `convert_movenet` made it, or cut out of a network that holds it."""
    model = ov.Core().read_model(path)
    if {"heat", "map"} <= {output.get_any_name() for output in model.outputs}:
        return model
    pixels = ops.parameter([-1, 3, -1, -1], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    for place in _named(model, FRAMES).output(0).get_target_inputs():
        place.replace_source_output(pixels.output(0))
    results = []
    for called, name in ((HEAT, "heat"), (MAP, "map")):
        result = ops.result(_named(model, called))
        result.output(0).set_names({name})
        results.append(result)
    return ov.Model(results, [pixels], "movenet")


def digest_of(trunk: ov.Model) -> str:
    """sha256 of the trunk's weights, the same whatever file it was read from."""
    found = hashlib.sha256()
    for node in trunk.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f16:
            found.update(np.ascontiguousarray(node.data).tobytes())
    return found.hexdigest()


def _features(pixels: Any, heat: Any, values: Any, shape: Shape, recipe: Recipe) -> Any:
    """(n, d): for each pool, the averages of the mean and of each step's mean differences."""
    channels = values.get_output_partial_shape(0)[1].get_length()
    cells = ops.reshape(values, _ints(-1, shape.frames, channels, shape.cells), special_zero=False)
    over_time = [ops.reduce_mean(cells, _ints(1), keep_dims=False)]
    over_time += [_change(cells, step, shape.frames) for step in recipe.steps]
    told = ops.concat([ops.unsqueeze(one, _ints(1)) for one in over_time], axis=1)
    pools = {
        "all": lambda: ops.constant(np.full((1, 1, shape.cells), 1 / shape.cells, np.float32)),
        "person": lambda: _person(heat, shape),
        "motion": lambda: _motion(pixels, shape),
        "both": lambda: _both(pixels, heat, shape),
    }
    parts = []
    for name in recipe.pools:
        # (n, stats, channels, cells) x (n, 1, cells, 1): the cells' average by the pool's weights.
        weights = ops.unsqueeze(
            ops.reshape(pools[name](), _ints(-1, 1, shape.cells), False), _ints(3)
        )
        average = ops.matmul(told, weights, False, False)
        parts.append(ops.reshape(average, _ints(-1, len(over_time) * channels), False))
    return ops.concat(parts, axis=1)


def _change(series: Any, step: int, frames: int) -> Any:
    """Mean absolute difference of what is `step` frames apart; series (n, frames, …)."""
    later = ops.slice(series, _ints(step), _ints(frames), _ints(1), _ints(1))
    sooner = ops.slice(series, _ints(0), _ints(frames - step), _ints(1), _ints(1))
    return ops.reduce_mean(ops.abs(ops.subtract(later, sooner)), _ints(1), keep_dims=False)


def _person(heat: Any, shape: Shape) -> Any:
    """(n, cells), sum 1: the mean probability of a person's centre over a cell and the window."""
    return _shares(_people(heat, shape))


def _motion(pixels: Any, shape: Shape) -> Any:
    """(n, cells), sum 1: the square of how much a cell's grey levels change from frame to frame."""
    moved = _moved(pixels, shape)
    return _shares(ops.add(ops.multiply(moved, moved), np.float32(STILL)))


def _both(pixels: Any, heat: Any, shape: Shape) -> Any:
    """(n, cells), sum 1: the probability of a person, times how much the cell changes."""
    moved = ops.add(_moved(pixels, shape), np.float32(STILL))
    return _shares(ops.multiply(_people(heat, shape), moved))


def _people(heat: Any, shape: Shape) -> Any:
    pooled = _pooled(heat, STRIDE // HEAT_STRIDE)
    series = ops.reshape(pooled, _ints(-1, shape.frames, shape.cells), special_zero=False)
    return ops.add(ops.reduce_mean(series, _ints(1), keep_dims=False), np.float32(SOMEBODY))


def _moved(pixels: Any, shape: Shape) -> Any:
    grey = ops.reduce_mean(pixels, _ints(2), keep_dims=False)
    change = ops.unsqueeze(_change(grey, 1, shape.frames), _ints(1))
    return ops.reshape(_pooled(change, STRIDE), _ints(-1, shape.cells), special_zero=False)


def _pooled(maps: Any, side: int) -> Any:
    return ops.avg_pool(maps, [side, side], [0, 0], [0, 0], [side, side], exclude_pad=True)


def _shares(weights: Any) -> Any:
    return ops.divide(weights, ops.reduce_sum(weights, _ints(1), keep_dims=True))


def _named(model: ov.Model, name: str) -> Any:
    """Raises WeightsError where the network has no such node."""
    for node in model.get_ops():
        if node.get_friendly_name() == name:
            return node
    raise WeightsError(f"the network has no node {name!r}")


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))
