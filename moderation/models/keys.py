"""Which sizes of pixels the models read, known without loading one: for those who read files."""

from __future__ import annotations

from moderation.models.spec import read_specs
from moderation.settings import Settings
from moderation.types import InputKey


def input_keys(settings: Settings) -> tuple[InputKey, ...]:
    """The keys of a `Scorer` with these settings, from the manifests. Raises SpecError."""
    if settings.backend == "fake":
        from moderation.models.backends.fake import KEY

        return (KEY,)
    specs = [spec for spec in read_specs(settings.manifests) if spec.default]
    return tuple(dict.fromkeys(spec.input.key for spec in specs if spec.input is not None))
