"""The contract between the scorer and a runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float32]]


class Pending(Protocol):
    """A forward pass under way."""

    def result(self) -> Outputs:
        """Wait for the pass: output name -> array whose first axis is the batch."""


class Backend(Protocol):
    """One network on one device. Called from one thread.

    `start` begins a pass without waiting, so that several networks share the cores.
    Pixels are uint8 RGB, (n, height, width, 3), or (n, frames, height, width, 3) for a clip
    model, as the manifest's [input] and [window] ask; colour order, layout, mean and scale are
    the backend's affair.
    """

    device: str
    precision: str

    def load(self) -> None:
        """Read and compile the weights. Raises WeightsError."""

    def start(self, pixels: Pixels) -> Pending: ...

    def quicker(self) -> str | None:
        """A precision that costs much less here than the loaded one, and is nearly as good;
        None where there is none."""

    def close(self) -> None: ...
