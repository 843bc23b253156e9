"""Which backend runs a model, from which file: backend name -> lazy "module:Class", so that nothing
is imported until it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from moderation.errors import ConfigError
from moderation.models.backends.base import Backend
from moderation.models.spec import Artefact, ModelSpec
from moderation.settings import Settings

Factory = Callable[[ModelSpec, Path, Settings], Backend]

BACKENDS = {
    "openvino": "moderation.models.backends.openvino:OpenVinoBackend",
    "torch": "moderation.models.backends.torch.backend:TorchBackend",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs a model: a backend's name, the weight file, and the settings that it is given."""

    backend: str
    artefact: Artefact
    settings: Settings


def plan(spec: ModelSpec, settings: Settings) -> Plan:
    """What the settings ask for.

    Under torch, a model that has no weights for it at all runs through OpenVINO on the CPU, in
    f32, and is shown so (`doctor`, `/v1/models`): a label that is answered slowly beats one that
    nobody answers. For the same reason a model without INT8 weights runs in f32 under int8. Raises
    ConfigError: there are weights for the backend, not in this precision.
    """
    if settings.backend == "torch" and not any(map(_for_torch, spec.artefacts)):
        settings = settings.model_copy(
            update={"backend": "openvino", "device": "cpu", "precision": "f32"}
        )
    own = [a for a in spec.artefacts if a.backend == settings.backend]
    if settings.precision == "int8" and not any("int8" in a.precisions for a in own):
        settings = settings.model_copy(update={"precision": "f32"})
    artefact = choose_artefact(spec, settings.backend, settings.precision)
    return Plan(settings.backend, artefact, settings)


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
    """The weight file of a model for a backend; torch also reads ONNX files, where there is none
    of its own. Raises ConfigError naming what there is."""
    own = [artefact for artefact in spec.artefacts if artefact.backend == backend]
    if backend == "torch":
        own = own or [artefact for artefact in spec.artefacts if _for_torch(artefact)]
    for artefact in own:
        if precision == "auto" or precision in artefact.precisions:
            return artefact
    known = ", ".join(f"{a.backend} {'/'.join(a.precisions)}" for a in spec.artefacts)
    raise ConfigError(f"{spec.ref} has no {precision} weights for {backend}; it has: {known}")


def _for_torch(artefact: Artefact) -> bool:
    return artefact.backend == "torch" or (
        artefact.backend == "openvino" and artefact.file.endswith(".onnx")
    )
