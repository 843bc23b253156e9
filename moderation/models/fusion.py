"""Several opinions on one label -> its score. Pure.

`weights/fusion.toml` says how, for a label and the models that it was fitted for; without it, the
mean counts. Every rule is monotone: a higher opinion never lowers the score. So what a missing
opinion could still do is known, and the cascade may leave it out where it could change nothing.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moderation.errors import SpecError
from moderation.models.spec import LABEL, REF, ModelSpec

FILE = "fusion.toml"
CLIP = 0.001
"""Opinions nearer to 0 or 1 have no more weight in a logistic rule: a single model that is quite
sure must not outweigh everything, nor may it look as if it could."""

ROUNDING = 1e-9
"""What the arithmetic of a score may lose; no threshold is that fine."""

Ref = Annotated[str, Field(pattern=REF)]
Opinions = Mapping[str, float]
"""`id@version` -> its score of a label, 0..1."""

log = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FusionRule(_Part):
    """How the opinions of exactly these models on a label become one score.

    mean; min: the lowest, what all agree on; second: the second-highest, what two agree on;
    logistic: sigmoid(bias + sum of weight * logit), one weight of 0 or more for each model.
    gated: of these a score counts at most as high as the highest of the others.
    """

    label: str = Field(pattern=LABEL)
    kind: Literal["mean", "min", "second", "logistic"]
    models: tuple[Ref, ...] = Field(min_length=2)
    gated: tuple[Ref, ...] = ()
    weights: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = ()
    bias: float = Field(default=0.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits(self) -> FusionRule:
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"the fusion of {self.label} names a model twice")
        if self.kind == "logistic":
            if len(self.weights) != len(self.models):
                raise ValueError(f"the fusion of {self.label} has one weight for each model")
        elif self.weights or self.bias:
            raise ValueError(f"weights and a bias of {self.label} belong to a logistic fusion")
        if not set(self.gated) < set(self.models):
            raise ValueError(f"the fusion of {self.label} gates some of its models, never all")
        return self


class _File(_Part):
    fusions: tuple[FusionRule, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> _File:
        seen = {(rule.label, frozenset(rule.models)) for rule in self.fusions}
        if len(seen) != len(self.fusions):
            raise ValueError("a label has two fusions of the same models")
        return self


def read_fusions(*folders: Path) -> tuple[FusionRule, ...]:
    """The rules of each folder's fusion.toml, where there is one; those of a later folder stand in
    place of earlier ones. Raises SpecError naming the file and the first fault."""
    return tuple(rule for folder in folders for rule in _read(folder / FILE))


def _read(path: Path) -> tuple[FusionRule, ...]:
    if not path.is_file():
        return ()
    try:
        return _File.model_validate(tomllib.loads(path.read_text("utf-8"))).fusions
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise SpecError(f"{path}: {where}: {first['msg']}") from error


class Fusion:
    """The scores of labels that the loaded models answer.

    specs: of all models that answer from one kind of pixels. A rule holds where the models that
    answer its label are just those that it names.
    """

    def __init__(self, specs: Iterable[ModelSpec], rules: Sequence[FusionRule] = ()) -> None:
        self._models: dict[str, tuple[str, ...]] = {}
        for spec in specs:
            for label in dict.fromkeys(answer.label for answer in spec.labels):
                self._models[label] = (*self._models.get(label, ()), spec.ref)
        self._rules = {
            rule.label: rule
            for rule in rules
            if frozenset(rule.models) == frozenset(self._models.get(rule.label, ()))
        }
        for label in {rule.label for rule in rules} - set(self._rules):
            if len(models := self._models.get(label, ())) > 1:
                log.warning("no fusion of %s fits %s: their mean counts", label, ", ".join(models))

    def score(self, label: str, said: Opinions) -> float:
        """The score by the opinions so far, at least one, 0..1. For one that is missing stands
        the mean of those that are there."""
        return self._fused(label, said, fmean(said.values()))

    def most(self, label: str, said: Opinions) -> float:
        """The highest score that further opinions could make of it."""
        return min(1.0, self._fused(label, said, 1.0) + ROUNDING)

    def _fused(self, label: str, said: Opinions, missing: float) -> float:
        models = self._models.get(label) or tuple(said)
        return fused(self._rules.get(label), {m: said.get(m, missing) for m in models})


def fused(rule: FusionRule | None, said: Opinions) -> float:
    """One score of all opinions, 0..1. None: their mean."""
    if rule is None:
        return fmean(said.values())
    opinions = _gated(rule, said)
    if rule.kind == "mean":
        return fmean(opinions)
    if rule.kind == "min":
        return min(opinions)
    if rule.kind == "second":
        return sorted(opinions)[-2]
    # fsum rounds once: a higher opinion cannot lose in the sum.
    total = math.fsum(
        [rule.bias, *(w * _logit(p) for w, p in zip(rule.weights, opinions, strict=True))]
    )
    return _sigmoid(total)


def _gated(rule: FusionRule, said: Opinions) -> list[float]:
    free = max(said[model] for model in rule.models if model not in rule.gated)
    return [min(said[m], free) if m in rule.gated else said[m] for m in rule.models]


def _logit(score: float) -> float:
    within = min(1 - CLIP, max(CLIP, score))
    return math.log(within / (1 - within))


def _sigmoid(value: float) -> float:
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)
