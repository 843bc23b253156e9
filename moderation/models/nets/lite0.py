"""EfficientNet-Lite0 without its classifier, BatchNorm folded into the convolutions.

Pixels are (n, 3, height, width), (RGB - 127) / 128, with sides that are multiples of 32. Every
stride-2 convolution pads below and to the right more than above and to the left, as TensorFlow's
SAME does for even sides: other sides would pad differently there, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STEM = 32
HEAD = 1280
MULTIPLE = 32
BATCH_NORM_EPSILON = 1e-3

STAGES = (
    # repeats, kernel, stride of the first, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

STRIDE_8_BLOCK, STRIDE_16_BLOCK, STRIDE_32_BLOCK = 4, 10, 15
"""The last blocks of 40, 112 and 320 channels."""


class Maps(NamedTuple):
    """What the network sees, from fine to coarse; h and w are those of the picture."""

    s8: Tensor
    """(n, 40, h/8, w/8), after block 4."""
    s16: Tensor
    """(n, 112, h/16, w/16), after block 10."""
    s32: Tensor
    """(n, 320, h/32, w/32), after block 15."""
    head: Tensor
    """(n, 1280, h/32, w/32), each number 0..6."""


class Conv(nn.Conv2d):
    """A convolution with bias that pads as TensorFlow's SAME, for even sides at stride 2."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        total = kernel - stride if stride > 1 else kernel - 1
        before, after = total // 2, total - total // 2
        even = before == after
        super().__init__(
            inputs, outputs, kernel, stride, padding=before if even else 0, groups=groups
        )
        self.edges = None if even else (before, after, before, after)

    def forward(self, maps: Tensor) -> Tensor:
        padded = maps if self.edges is None else functional.pad(maps, self.edges)
        return super().forward(padded)


class Block(nn.Module):
    """Inverted residual: expand (unless the factor is 1), depthwise, project; the input is added
    where its shape is the output's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = inputs * factor
        self.expand = Conv(inputs, inner, 1) if factor != 1 else None
        self.depthwise = Conv(inner, inner, kernel, stride, groups=inner)
        self.project = Conv(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        inner = maps if self.expand is None else functional.relu6(self.expand(maps))
        out = self.project(functional.relu6(self.depthwise(inner)))
        return out + maps if self.residual else out


class Lite0(nn.Module):
    """`stem`, `blocks[0..15]`, `head`; `forward` gives the embedding (n, 1280).

    Parts may be run one by one: `stem(x)` and `head(x)` have their ReLU6 inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, STEM, 3, 2), nn.ReLU6())
        self.blocks = nn.ModuleList(_blocks())
        self.head = nn.Sequential(Conv(STAGES[-1][-1], HEAD, 1), nn.ReLU6())

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """`embedding`: the mean of the last map over space. Raises ValueError for bad sides."""
        return {"embedding": self.maps(pixels).head.mean(dim=(2, 3))}

    def maps(self, pixels: Tensor) -> Maps:
        """The maps of all strides. Raises ValueError for sides that are no multiples of 32."""
        height, width = pixels.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(f"{width}x{height}: sides have to be multiples of {MULTIPLE}")
        kept: dict[int, Tensor] = {}
        out = self.stem(pixels)
        for index, block in enumerate(self.blocks):
            out = block(out)
            if index in (STRIDE_8_BLOCK, STRIDE_16_BLOCK, STRIDE_32_BLOCK):
                kept[index] = out
        return Maps(
            kept[STRIDE_8_BLOCK], kept[STRIDE_16_BLOCK], kept[STRIDE_32_BLOCK], self.head(out)
        )


def _blocks() -> list[Block]:
    made, inputs = [], STEM
    for repeats, kernel, stride, factor, outputs in STAGES:
        for index in range(repeats):
            made.append(Block(inputs, outputs, kernel, stride if index == 0 else 1, factor))
            inputs = outputs
    return made


def from_published(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of `Lite0` (f32) from that of efficientnet-lite-pytorch's network, BatchNorm
    folded in. Its classifier is left out. Raises KeyError for a state that is not Lite0's."""
    folded = _folded(state, "_conv_stem", "_bn0", "stem.0")
    index = 0
    for repeats, _, _, factor, _ in STAGES:
        for _ in range(repeats):
            theirs, ours = f"_blocks.{index}", f"blocks.{index}"
            if factor != 1:
                folded |= _folded(
                    state, f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}.expand"
                )
            folded |= _folded(
                state, f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}.depthwise"
            )
            folded |= _folded(state, f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}.project")
            index += 1
    return folded | _folded(state, "_conv_head", "_bn1", "head.0")


def _folded(state: Mapping[str, Any], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    # In the order in which torch itself folds: the last bit is the same too.
    rsqrt = torch.rsqrt(state[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    weight = state[f"{conv}.weight"] * (state[f"{norm}.weight"] * rsqrt).reshape(-1, 1, 1, 1)
    bias = -state[f"{norm}.running_mean"] * rsqrt * state[f"{norm}.weight"] + state[f"{norm}.bias"]
    return {f"{name}.weight": weight, f"{name}.bias": bias}
