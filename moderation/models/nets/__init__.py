"""Architectures in plain torch, for the torch backend and for training.

The modules here import torch: nothing that serves on the CPU may import them. A manifest names an
architecture by its word in NETWORKS (`Artefact.network`). Its class takes no arguments; its
`forward` takes what the manifest's [input] describes and answers {output name: (n, …)}; its state
dict is what the safetensors file holds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from moderation.errors import SpecError

NETWORKS = {
    "lite0": "moderation.models.nets.lite0:Lite0",
    "scenes": "moderation.models.nets.scenes:Network",
}
"""Word in a manifest -> "module:Class". A list, so that no manifest can name any code it likes."""


def network_class(name: str) -> Any:
    """The class of an architecture. Raises SpecError for a word that is not in the list."""
    if name not in NETWORKS:
        raise SpecError(f"no network {name!r}; there are: {', '.join(sorted(NETWORKS))}")
    module, _, attribute = NETWORKS[name].partition(":")
    return getattr(import_module(module), attribute)
