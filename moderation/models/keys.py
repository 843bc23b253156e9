"""What the models read, known without loading one: for those who read files."""

from __future__ import annotations

from moderation.models.chosen import chosen_specs
from moderation.models.spec import windows_of
from moderation.settings import Settings
from moderation.types import InputKey, Windows


def input_keys(settings: Settings) -> tuple[InputKey, ...]:
    """The keys of a `Scorer` with these settings, from the manifests. Raises SpecError."""
    if settings.backend == "fake":
        from moderation.models.backends.fake import KEY

        return (KEY,)
    specs = chosen_specs(settings)
    pictures = [spec.input.key for spec in specs if spec.input is not None and spec.clip is None]
    return tuple(dict.fromkeys(pictures))


def input_windows(settings: Settings) -> Windows:
    """The windows of a `Scorer` with these settings, from the manifests. Raises SpecError."""
    if settings.backend == "fake":
        from moderation.models.backends.fake import windows

        return windows()
    return windows_of(chosen_specs(settings))
