"""What thresholds do on left-out scores: recall of each label and source, and the share of ordinary
pictures that is shown to a person or blocked, all labels together.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.errors import ConfigError
from moderation.models.training.calibration import Calibrator, calibrate, fit
from moderation.models.training.leftout import LabelScores, LeftOut, Measured
from moderation.models.training.metrics import Interval, wilson
from moderation.models.training.thresholds import (
    Costs,
    Limits,
    Ordinary,
    Positives,
    choose,
    expected_cost,
    hits,
    reached,
    source_weights,
    told,
)
from moderation.policy import Policy

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
STEPS = 40
"""How finely a budget is made smaller, and how often a block is raised at most."""
KEPT = 0.99
"""The part of the limit that may be filled: what one picture more would break is not kept."""
MARGIN = 0.1
"""By how much a block is raised at once, in logits."""


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """Scores of a clip model: clips that show the label, and clips that do not."""

    positives: Positives
    negatives: Ordinary


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Everything that thresholds are judged by, as probabilities that serving would answer.

    `clips`: by label; they are no pictures, and count in no share of ordinary pictures.
    """

    positives: tuple[Positives, ...]
    ordinary: Ordinary
    clips: Mapping[str, Clips] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """hits of count, with the Wilson 95 % interval."""

    hits: int
    count: int
    share: float
    interval: Interval

    @classmethod
    def of(cls, hit: Flags) -> Share:
        hits_, count = int(hit.sum()), len(hit)
        return cls(hits_, count, hits_ / max(count, 1), wilson(hits_, count))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.4f} ({low:.4f}-{high:.4f})"


@dataclass(frozen=True, slots=True)
class Found:
    """What a label's thresholds find of one source ("all": of every source)."""

    source: str
    review: Share
    block: Share


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label. `found`: recall at review or worse, and at block; the first entry is "all".
    recall, recall_block: the same with every source weighing at most 200 pictures. false:
    ordinary pictures (for clips, the others) that reach the thresholds."""

    label: str
    what: str
    review_at: float | None
    block_at: float | None
    evidence: bool
    recall: float | None
    recall_block: float | None
    found: tuple[Found, ...]
    false: Found | None


@dataclass(frozen=True, slots=True)
class LimitsReport:
    """Thresholds of one policy and what they do. `joint`: ordinary pictures that any label shows
    or blocks: of all, of each source, and, where thresholds were chosen, of pictures and whole
    sources that the choice did not see."""

    policy: str
    costs: Costs
    cost: float
    rows: tuple[LabelRow, ...]
    joint: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def gather(measured: Sequence[Measured], extra: LeftOut | None = None) -> Material:
    """Left-out scores of all models as probabilities; `extra`: ordinary pictures scored by models
    that were not trained here.

    A score is calibrated as its model's file says, else by what fits it here. Raises ConfigError
    when two models answer one label from pictures.
    """
    positives: dict[str, Positives] = {}
    ordinary: list[tuple[LabelScores, F64]] = []
    clips: dict[str, Clips] = {}
    for model in measured:
        for label in model.labels:
            scores = model.left_out.of(label)
            scores = scores.where(~scores.twins)
            chance = calibrator_of(model.left_out, scores)(scores.logits)
            if model.clips:
                clips[label] = _clips(scores, chance)
                continue
            if label in positives:
                raise ConfigError(f"two models have left-out scores of {label}: name one")
            if scores.truth.any():
                positives[label] = _positives(scores, chance)
            ordinary.append((scores.where(scores.ordinary), chance[scores.ordinary]))
    for label in () if extra is None else extra.labels:
        if extra is not None and label not in positives:
            scores = extra.of(label)
            chance = calibrator_of(extra, scores)(scores.logits)
            ordinary.append((scores.where(scores.ordinary), chance[scores.ordinary]))
    return Material(tuple(positives.values()), _ordinary(ordinary), clips)


def calibrator_of(left_out: LeftOut, scores: LabelScores) -> Calibrator:
    """What serving applies; without a word of it, the better one of what fits."""
    table = left_out.calibration.get(scores.label)
    if table is not None:
        return Calibrator(table)
    report = calibrate(scores, rounds=1)
    return fit("platt", scores.logits, scores.truth) if report is None else report.calibrator


def limits_of(policy: Policy) -> tuple[Limits, ...]:
    """The thresholds of a policy's rules."""
    return tuple(
        Limits(rule.label, rule.review_at, rule.block_at, rule.block_needs == "evidence")
        for rule in policy.rules
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Thresholds of least cost that keep the limits on pictures that they were not chosen on.

    `budget`: the share of ordinary pictures that the choice might show, which is less than the
    limit; `margin`: how far, in logits, blocks lie above what the choice said.
    """

    limits: tuple[Limits, ...]
    budget: float
    margin: float


def choose_kept(material: Material, rules: Sequence[Limits], costs: Costs) -> Choice:
    """Thresholds that fill a limit on the pictures at hand break it on others: the budget shrinks,
    and blocks rise, until the limits hold on fifths and on whole sources that the choice did not
    see."""
    groupings = (fifths(material.ordinary), material.ordinary.sources)

    def unseen(budget: float, margin: float) -> list[Found]:
        tight = replace(costs, max_review=budget)
        return [_unseen("", material, rules, tight, margin, groups) for groups in groupings]

    def shown(budget: float) -> float:
        return max(found.review.share for found in unseen(budget, 0.0))

    def blocked(margin: float) -> float:
        return max(found.block.share for found in unseen(budget, margin))

    budgets = [costs.max_review * step / STEPS for step in range(STEPS, 0, -1)]
    budget = next((one for one in budgets if shown(one) <= KEPT * costs.max_review), budgets[-1])
    margins = [MARGIN * step for step in range(STEPS + 1)]
    margin = next((one for one in margins if blocked(one) <= costs.max_block), margins[-1])
    tight = replace(costs, max_review=budget)
    return Choice(choose_limits(material, rules, tight, margin), budget, margin)


def fifths(ordinary: Ordinary) -> NDArray[np.str_]:
    """Fold (m,) of each ordinary picture, by its name."""
    return np.asarray([str(zlib.crc32(file.encode()) % 5) for file in ordinary.files.tolist()])


def choose_limits(
    material: Material, rules: Sequence[Limits], costs: Costs, margin: float = 0.0
) -> tuple[Limits, ...]:
    """Thresholds of least cost, blocks `margin` (in logits) above it. Where a clip model answers a
    label, a block is its word, so its clips choose `block_at`: single pictures cannot show it."""
    pictures = [
        replace(rule, block_at=None) if rule.label in material.clips else rule for rule in rules
    ]
    known = {of.label for of in material.positives}
    found = []
    for rule, chosen in zip(
        rules, choose(material.positives, material.ordinary, pictures, costs), strict=True
    ):
        clips = material.clips.get(rule.label)
        if clips is None or rule.block_at is None:
            above = margin if rule.label in known else 0.0
            found.append(replace(chosen, block_at=raised(chosen.block_at, above)))
            continue
        (by_clips,) = choose([clips.positives], clips.negatives, [rule], costs)
        block_at = max(by_clips.block_at or 1.0, chosen.review_at or 0.0)
        found.append(replace(chosen, block_at=raised(block_at, margin)))
    return tuple(found)


def raised(threshold: float | None, margin: float) -> float | None:
    """A threshold that many logits higher; what is never reached, or has no margin, stays."""
    if threshold is None or margin == 0 or not 0 < threshold < 1:
        return threshold
    raised_to = told(1 / (1 + math.exp(-(math.log(threshold / (1 - threshold)) + margin))))
    return max(threshold, raised_to)  # never below it by rounding


def judge_limits(
    material: Material,
    limits: Sequence[Limits],
    policy: str,
    costs: Costs,
    choice: Choice | None = None,
) -> LimitsReport:
    """What `limits` do. `choice`: how they were chosen on this material, so that the report can
    choose them again without the pictures that it then counts."""
    known = {of.label: of for of in material.positives}
    rows = [_picture_row(rule, known.get(rule.label), material.ordinary) for rule in limits]
    rows += [
        _clip_row(rule, material.clips[rule.label])
        for rule in limits
        if rule.label in material.clips
    ]
    ordinary = material.ordinary
    review, block = (reached(ordinary, limits, block=told) for told in (False, True))
    joint = [Found("ordinary pictures", Share.of(review), Share.of(block))]
    for source in np.unique(ordinary.sources).tolist():
        mine = ordinary.sources == source
        joint.append(Found(source, Share.of(review[mine]), Share.of(block[mine])))
    if choice is not None:
        tight = replace(costs, max_review=choice.budget)
        joint += [
            _unseen(
                f"not seen by the choice: {name}", material, limits, tight, choice.margin, groups
            )
            for name, groups in (("fifths", fifths(ordinary)), ("whole sources", ordinary.sources))
        ]
    recalls = [
        (row.recall or 0.0, row.recall_block or 0.0) for row in rows if row.what == "pictures"
    ]
    measured = [pair for pair, row in zip(recalls, rows, strict=False) if row.recall is not None]
    cost = expected_cost(measured, joint[0].review.share, joint[0].block.share, costs)
    return LimitsReport(policy, costs, cost, tuple(rows), tuple(joint))


def _unseen(
    name: str,
    material: Material,
    rules: Sequence[Limits],
    costs: Costs,
    margin: float,
    groups: NDArray[np.str_],
) -> Found:
    """Every group of ordinary pictures judged by thresholds chosen on the others."""
    ordinary = material.ordinary
    review, block = (np.zeros(len(ordinary), bool) for _ in range(2))
    for group in np.unique(groups):
        here = groups == group
        without = replace(material, ordinary=ordinary.where(~here))
        limits = choose_limits(without, rules, costs, margin)
        part = ordinary.where(here)
        review[here] = reached(part, limits, block=False)
        block[here] = reached(part, limits, block=True)
    return Found(name, Share.of(review), Share.of(block))


def _picture_row(rule: Limits, of: Positives | None, ordinary: Ordinary) -> LabelRow:
    scores = ordinary.scores.get(rule.label)
    false = None
    if scores is not None:
        keep = np.isfinite(scores)
        boxed = ordinary.boxed.get(rule.label)
        part = None if boxed is None else boxed[keep]
        false = _found("ordinary", scores[keep], part, rule)
    return _row(rule, "pictures", of, false)


def _clip_row(rule: Limits, clips: Clips) -> LabelRow:
    scores = clips.negatives.scores[rule.label]
    return _row(rule, "clips", clips.positives, _found("other clips", scores, None, rule))


def _row(rule: Limits, what: str, of: Positives | None, false: Found | None) -> LabelRow:
    recall = recall_block = None
    found: list[Found] = []
    if of is not None:
        weight = source_weights(of.sources)
        recall, recall_block = (
            float(np.average(hits(of.scores, of.boxed, rule, block=block), weights=weight))
            for block in (False, True)
        )
        found.append(_found("all", of.scores, of.boxed, rule))
        for source in np.unique(of.sources).tolist():
            mine = of.sources == source
            boxed = None if of.boxed is None else of.boxed[mine]
            found.append(_found(source, of.scores[mine], boxed, rule))
    return LabelRow(
        label=rule.label,
        what=what,
        review_at=rule.review_at,
        block_at=rule.block_at,
        evidence=rule.evidence,
        recall=recall,
        recall_block=recall_block,
        found=tuple(found),
        false=false,
    )


def _found(source: str, scores: F64, boxed: Flags | None, rule: Limits) -> Found:
    return Found(
        source,
        Share.of(hits(scores, boxed, rule, block=False)),
        Share.of(hits(scores, boxed, rule, block=True)),
    )


def _positives(scores: LabelScores, chance: F64) -> Positives:
    boxed = None if scores.boxed is None else scores.boxed[scores.truth] != 0
    return Positives(scores.label, chance[scores.truth], scores.sources[scores.truth], boxed)


def _clips(scores: LabelScores, chance: F64) -> Clips:
    other = scores.where(~scores.truth)
    negatives = Ordinary(other.files, other.sources, {scores.label: chance[~scores.truth]}, {})
    return Clips(_positives(scores, chance), negatives)


def _ordinary(parts: Sequence[tuple[LabelScores, F64]]) -> Ordinary:
    """The ordinary pictures that all labels scored, each file once, in the order of their names."""
    source_of = {
        file: source
        for scores, _ in parts
        for file, source in zip(scores.files.tolist(), scores.sources.tolist(), strict=True)
    }
    files = np.asarray(sorted(source_of), np.str_)
    found: dict[str, F64] = {}
    boxed: dict[str, Flags] = {}
    for scores, chance in parts:
        place = np.searchsorted(files, scores.files)
        found[scores.label] = np.full(len(files), -np.inf)
        found[scores.label][place] = chance
        if scores.boxed is not None:
            boxed[scores.label] = np.ones(len(files), bool)
            boxed[scores.label][place] = scores.boxed != 0
    sources = np.asarray([source_of[file] for file in files.tolist()], np.str_)
    # What one label never scored would count as quiet there, and the share of all as too small.
    every = np.logical_and.reduce([np.isfinite(of) for of in found.values()])
    return Ordinary(files, sources, found, boxed).where(every)
