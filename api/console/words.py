"""What pages say, by language. Templates hold the English words; `translations/` has the others,
and words for what is a name elsewhere (labels, roles, states)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import yaml

LANGUAGES: Final = ("en", "zh")


def translate(language: str, words: str) -> str:
    """The words in a language; as they are where there are no others."""
    return translations(language).get(words, words)


@cache
def translations(language: str) -> Mapping[str, str]:
    """All that a language of LANGUAGES has words for."""
    path = files("api.console").joinpath("translations", f"{language}.yaml")
    found: Mapping[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found
