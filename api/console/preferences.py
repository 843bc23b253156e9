"""How a person wants to see things. What protects them is on unless they turn it off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Preferences(BaseModel):
    """veil: media are blurred and grey until they are held. grey: also while they are.
    softness: blur in CSS pixels while they are held. size: of media, in percent of the page's
    width. views: filters of the queue, by name. break_min: minutes of work after which a break is
    proposed; 0: never."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    veil: bool = True
    grey: bool = True
    softness: int = Field(default=0, ge=0, le=20)
    size: int = Field(default=60, ge=20, le=100)
    break_min: int = Field(default=45, ge=0, le=240)
    language: Literal["", "en", "zh"] = ""
    views: tuple[tuple[str, str], ...] = ()
    theme: Literal["", "light", "dark"] = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """From what is stored; what cannot be read is as for somebody new."""
        try:
            return cls.model_validate(dict(kept))
        except ValidationError:
            return cls()
