"""A weight file -> a network that answers named outputs.

Two kinds of file: safetensors of an architecture that the manifest names (`Artefact.network`), and
ONNX. Neither runs code of its own when it is read.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from moderation.errors import WeightsError
from moderation.models.backends.torch.onnx_module import OnnxModule
from moderation.models.nets import network_class
from moderation.models.spec import ModelSpec


def load_network(spec: ModelSpec, path: Path) -> nn.Module:
    """In f32, on the CPU; `forward(tensor)` answers {output name: (n, …)}. Raises WeightsError."""
    if path.suffix == ".onnx":
        return OnnxModule.read(path)
    named = next((a.network for a in spec.artefacts if a.file == path.name), None)
    if named is None:
        raise WeightsError(f"torch cannot load {path}: the manifest names no network for it")
    network: nn.Module = network_class(named)()
    try:
        # Stored as f16, most of them; copied into the f32 that the architecture has.
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split())[:300]
        raise WeightsError(f"torch cannot load {path}: {first}") from error
    return network
