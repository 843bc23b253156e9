"""Which models there are, and which of them the settings switch on."""

from __future__ import annotations

from moderation.errors import ConfigError
from moderation.models.spec import ModelSpec, read_specs
from moderation.settings import Settings


def known_specs(settings: Settings) -> tuple[ModelSpec, ...]:
    """The manifests that ship, and those of the user's own folder. Raises SpecError."""
    own = [] if settings.models_dir is None else [settings.models_dir]
    return read_specs(settings.manifests, *own)


def chosen_specs(settings: Settings) -> tuple[ModelSpec, ...]:
    """Those that are on: by their manifest, unless the settings say otherwise.

    Raises SpecError; ConfigError for a setting that names no model, or both at once.
    """
    known = known_specs(settings)
    on, off = set(settings.models_on), set(settings.models_off)
    if both := on & off:
        raise ConfigError(f"MODERATION_MODELS_ON and _OFF both name {', '.join(sorted(both))}")
    if strange := (on | off) - {spec.id for spec in known}:
        names = ", ".join(sorted(spec.id for spec in known))
        raise ConfigError(f"no model {', '.join(sorted(strange))}; there are: {names}")
    return tuple(spec for spec in known if spec.id not in off and (spec.default or spec.id in on))
