"""A torch module -> an OpenVINO graph with names and a free batch size."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any


def to_openvino(module: Any, side: int, outputs: Sequence[str], source: str = "pixels") -> Any:
    """Trace a module that reads (n, 3, side, side) f32 and answers a tensor or a tuple."""
    import openvino as ov
    import torch

    example = torch.zeros(1, 3, side, side)
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO traces, which torch calls deprecated; shapes are constants on purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = ov.convert_model(module.eval(), example_input=example)
    model.reshape([-1, 3, side, side])
    model.inputs[0].get_tensor().set_names({source})
    for output, name in zip(model.outputs, outputs, strict=True):
        output.get_tensor().set_names({name})
    return model
