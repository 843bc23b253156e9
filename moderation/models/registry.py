"""Backend name -> lazy "module:Class": nothing is imported until it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from moderation.errors import ConfigError
from moderation.models.backends.base import Backend
from moderation.models.spec import Artefact, ModelSpec
from moderation.settings import Settings

Factory = Callable[[ModelSpec, Path, Settings], Backend]

BACKENDS = {"openvino": "moderation.models.backends.openvino:OpenVinoBackend"}


def backend_class(name: str) -> Factory:
    """The class behind a backend's name. Raises ConfigError: unknown, or not installed."""
    if name not in BACKENDS:
        raise ConfigError(f"no backend {name!r}; there are: {', '.join(sorted(BACKENDS))}")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        return cast(Factory, getattr(import_module(module), attribute))
    except ImportError as error:
        raise ConfigError(f"backend {name!r} is not installed: {error}") from error


def choose_artefact(spec: ModelSpec, backend: str, precision: str) -> Artefact:
    """The weight file of a model for a backend. Raises ConfigError naming what there is."""
    for artefact in spec.artefacts:
        if artefact.backend == backend and (
            precision == "auto" or precision in artefact.precisions
        ):
            return artefact
    known = ", ".join(f"{a.backend} {'/'.join(a.precisions)}" for a in spec.artefacts)
    raise ConfigError(f"{spec.ref} has no {precision} weights for {backend}; it has: {known}")
