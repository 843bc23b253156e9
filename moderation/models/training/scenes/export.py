"""A trained network -> OpenVINO IR and safetensors, and how far they are from torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from moderation.models.nets.scenes import OUTPUTS, Served
from moderation.models.training.convert import to_openvino

INPUT = "pixels"


class _Tuple(nn.Module):  # type: ignore[misc]  # torch is Any without torch
    """Outputs in a fixed order, as a traced graph has them."""

    def __init__(self, served: Served, names: tuple[str, ...]) -> None:
        super().__init__()
        self.served, self.names = served, names

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.served(pixels)
        return tuple(found[name] for name in self.names)


def openvino_model(served: Served, side: int, names: tuple[str, ...] = OUTPUTS) -> Any:
    """The graph with a free batch size and named outputs; pixels (n, 3, side, side), scaled."""
    return to_openvino(_Tuple(served, names), side, names, INPUT)


def write(served: Served, side: int, folder: Path) -> dict[str, float]:
    """model.xml and model.bin (FP16), model.safetensors (FP16); returns the largest difference of
    any served output from torch f32, of each file computed in f32, and of the graph before it is
    compressed."""
    import openvino as ov

    folder.mkdir(parents=True, exist_ok=True)
    model = openvino_model(served, side)
    generator = np.random.default_rng(0)
    pixels = generator.uniform(-1, 1, (2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        exact = {k: v.numpy() for k, v in served(torch.from_numpy(pixels)).items()}
    found = {"f32": _difference(model, pixels, exact)}
    ov.save_model(model, folder / "model.xml", compress_to_fp16=True)
    found["f16 file"] = _difference(ov.Core().read_model(folder / "model.xml"), pixels, exact)
    save_file(
        {
            name: (value.half() if value.dtype.is_floating_point else value).contiguous()
            for name, value in served.state_dict().items()
        },
        folder / "model.safetensors",
    )
    return found


def _difference(model: Any, pixels: Any, exact: Mapping[str, Any]) -> float:
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([pixels])
    return max(
        float(np.abs(found[output] - exact[output.get_any_name()]).max())
        for output in compiled.outputs
    )
