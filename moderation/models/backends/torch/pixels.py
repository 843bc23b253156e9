"""uint8 pixels as they come from a decoder child -> what a network reads, on its device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moderation.models.spec import ModelSpec


class Prepare(nn.Module):
    """uint8 RGB (n, height, width, 3), or (n, frames, height, width, 3) for a clip model ->
    the manifest's colour order, mean, scale and layout, in `dtype`.

    An NCHW answer is the NHWC memory seen from another side: "channels last", which is what
    convolutions in half precision want, and costs no copy.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype) -> None:
        super().__init__()
        if spec.input is None:
            raise ValueError(f"{spec.ref} reads no pixels")
        given = "NHWC" if spec.window is None else "NTHWC"
        told = spec.input
        frames = () if spec.window is None else (spec.window.frames,)
        self.shape: tuple[int, ...] = (*frames, told.height, told.width, 3)
        self._order = [given.index(axis) for axis in told.layout]
        self._reverse = told.colour == "BGR"
        self._dtype = dtype
        self.register_buffer("mean", torch.tensor(told.mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(told.scale, dtype=torch.float32))

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32)
        if self._reverse:
            values = values.flip(-1)
        values = (values - self.mean) / self.scale
        return values.to(self._dtype).permute(self._order)
