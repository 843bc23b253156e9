"""Scores + policy -> decision and reasons. Pure: no clock, no disk beyond `load_policies`.

A policy is a YAML file with versioned rules. The worst rule wins. Small objects (a cigarette,
a gun) do not block on a classifier alone: `block_needs: evidence` asks for a detector's box, or
for several frames of a video that agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from moderation.errors import ModerationError, PolicyError
from moderation.types import Coverage, Decision, LabelScore, MediaScores, Problem, Reason, worst

SHIPPED = Path(__file__).resolve().parent / "policies"
LABEL = r"^[a-z_]+\.[a-z_]+$"


class Rule(BaseModel):
    """Thresholds of one label: `score >= review_at` asks a person, `>= block_at` blocks.

    None: never. For video, `min_frames` of `window` consecutive sampled frames must reach the
    threshold; a lone frame at `block_at` asks a person. Pictures are judged by one frame.
    `block_needs`: "evidence" blocks only with a box that scores `evidence_at` or more, or, in a
    video, where `evidence_frames` of the `window` reach `block_at`, each a picture of its own;
    None: only with a box. `optional`: skipped where no
    loaded model answers the label; any other rule without an answer follows `on_failure`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(pattern=LABEL)
    review_at: float | None = Field(default=None, ge=0, le=1)
    block_at: float | None = Field(default=None, ge=0, le=1)
    block_needs: Literal["score", "evidence"] = "score"
    evidence_at: float = Field(default=0.3, ge=0, le=1)
    evidence_frames: int | None = Field(default=3, ge=2)
    min_frames: int = Field(default=1, ge=1)
    window: int = Field(default=1, ge=1)
    optional: bool = False

    @property
    def evidence(self) -> str:
        """What blocking needs beside the score, in words; empty: nothing."""
        if self.block_needs == "score":
            return ""
        if self.evidence_frames is None or self.evidence_frames > self.window:
            return "a box"
        return f"a box or {self.evidence_frames} frames"

    @model_validator(mode="after")
    def _ordered(self) -> Rule:
        if self.review_at is None and self.block_at is None:
            raise ValueError(f"the rule of {self.label} has no threshold")
        if None not in (self.review_at, self.block_at) and self.review_at > self.block_at:  # type: ignore[operator]
            raise ValueError(f"{self.label}: review_at is above block_at")
        if self.min_frames > self.window:
            raise ValueError(f"{self.label}: min_frames is above window")
        return self


class Policy(BaseModel):
    """A named, versioned set of rules. `ref` is `id@version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: int = Field(ge=1)
    summary: str = ""
    mode: Literal["live", "shadow"] = "live"
    on_failure: Decision = Decision.REVIEW
    rules: tuple[Rule, ...] = Field(min_length=1)

    @property
    def ref(self) -> str:
        return f"{self.id}@{self.version}"

    @model_validator(mode="after")
    def _one_rule_a_label(self) -> Policy:
        labels = [rule.label for rule in self.rules]
        if len(set(labels)) != len(labels):
            raise ValueError("a label has two rules")
        return self


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy says of one medium."""

    decision: Decision
    reasons: tuple[Reason, ...]


def parse_policy(text: str, *, name: str = "policy") -> Policy:
    """Raises PolicyError, in one line."""
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise PolicyError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "policy"
        raise PolicyError(f"{name}: {where}: {first['msg']}") from error


def load_policies(extra: Path | None = None) -> dict[str, Policy]:
    """Shipped policies by id, overlaid with the `*.yaml` of `extra`. Raises PolicyError."""
    found: dict[str, Policy] = {}
    for folder in (SHIPPED, *([extra] if extra else [])):
        # A folder that is not there would silently leave the shipped policies in force.
        if not folder.is_dir():
            raise PolicyError(f"there is no policy folder {folder}")
        for path in sorted(folder.glob("*.yaml")):
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise PolicyError(f"{path}: cannot be read: {error}") from error
            policy = parse_policy(text, name=str(path))
            found[policy.id] = policy
    return found


def choose_policy(policies: Mapping[str, Policy], name: str) -> Policy:
    """A policy by `id` or `id@version`. Raises PolicyError naming those that exist."""
    ident, _, version = name.partition("@")
    policy = policies.get(ident)
    if policy is None or (version and version != str(policy.version)):
        known = ", ".join(sorted(p.ref for p in policies.values()))
        raise PolicyError(f"no policy {name!r}; there are: {known}", code="policy_unknown")
    return policy


def summarise(media: MediaScores) -> dict[str, LabelScore]:
    """Each label's worst score over all views, with frames and boxes that show it.

    Never the mean: one bad tile or frame of many must not be diluted.
    """
    peaks: dict[str, LabelScore] = {}
    for view, scored in zip(media.views, media.scores, strict=True):
        for label, score in scored.scores.items():
            best = peaks.get(label)
            if best is not None and best.score >= score:
                continue
            peaks[label] = LabelScore(
                label=label,
                score=score,
                model=scored.models[label],
                sublabel=scored.sublabels.get(label),
                frames=(view.frame,),
                boxes=tuple(
                    (*_in_picture(d.box, view.box), d.score)
                    for d in scored.detections
                    if d.label == label
                ),
            )
    return peaks


def _in_picture(
    box: tuple[float, float, float, float], view: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """A box in fractions of the view -> fractions of the picture."""
    width, height = view[2] - view[0], view[3] - view[1]
    return (
        view[0] + box[0] * width,
        view[1] + box[1] * height,
        view[0] + box[2] * width,
        view[1] + box[3] * height,
    )


def decide(peaks: Mapping[str, LabelScore], policy: Policy, coverage: Coverage) -> Outcome:
    """The policy's decision over one picture's peak scores.

    A label that a rule names but no model answered, and frames that were not seen, follow
    `on_failure`; optional rules are skipped then. Reasons come worst first.
    """
    reasons: list[Reason] = []
    for rule in policy.rules:
        peak = peaks.get(rule.label)
        if peak is None:
            if not rule.optional and policy.on_failure is not Decision.PASS:
                reasons.append(unseen(policy, rule.label, f"no loaded model answers {rule.label}"))
            continue
        decision, threshold = judge(peak, rule)
        if decision is not Decision.PASS:
            reasons.append(_reason(peak, decision, threshold))
    if not coverage.complete and policy.on_failure is not Decision.PASS:
        seen = f"{coverage.frames_scored} of {coverage.frames_total} frames were analysed"
        reasons.append(unseen(policy, "coverage.unseen", seen))
    reasons.sort(key=lambda r: (-r.decision.severity, -(r.score or 0.0), r.label))
    return Outcome(worst(*(reason.decision for reason in reasons)), tuple(reasons))


def judge(peak: LabelScore, rule: Rule) -> tuple[Decision, float | None]:
    """One score under one rule: the decision and the threshold that it reached."""
    evidence = rule.block_needs == "score" or marked(peak.boxes, rule)
    if rule.block_at is not None and peak.score >= rule.block_at:
        if evidence:
            return Decision.BLOCK, rule.block_at
        return Decision.REVIEW, rule.review_at if rule.review_at is not None else rule.block_at
    if rule.review_at is not None and peak.score >= rule.review_at:
        return Decision.REVIEW, rule.review_at
    return Decision.PASS, None


def marked(boxes: Iterable[Sequence[float]], rule: Rule) -> bool:
    """Whether one of the boxes (x1, y1, x2, y2, score) is sure enough to be evidence. Those that
    are not are shown all the same."""
    return any(box[4] >= rule.evidence_at for box in boxes)


def unseen(policy: Policy, label: str, detail: str) -> Reason:
    """The reason for something that was not looked at: `on_failure` decides."""
    return Reason(
        category=label.partition(".")[0], label=label, decision=policy.on_failure, detail=detail
    )


def decide_failure(policy: Policy, problem: Problem) -> Outcome:
    """The outcome of a medium that could not be analysed at all."""
    detail = problem.detail or problem.title
    return Outcome(policy.on_failure, (unseen(policy, f"failure.{problem.code}", detail),))


def problem_of(error: ModerationError) -> Problem:
    """An error as problem details."""
    title = error.code.replace("_", " ").capitalize()
    return Problem(title=title, status=error.status, code=error.code, detail=error.message)


def _reason(peak: LabelScore, decision: Decision, threshold: float | None) -> Reason:
    return Reason(
        category=peak.label.partition(".")[0],
        label=peak.label,
        sublabel=peak.sublabel,
        score=peak.score,
        decision=decision,
        threshold=threshold,
        boxes=[list(box) for box in peak.boxes],
        frames=list(peak.frames),
        model=peak.model,
    )


def flat_scores(peaks: Mapping[str, LabelScore]) -> dict[str, float]:
    """label -> score, sorted by label: the verdict's `scores`."""
    return {label: peaks[label].score for label in sorted(peaks)}


def rules_without_model(
    policies: Iterable[Policy], labels: Sequence[str], *, optional: bool = False
) -> dict[str, list[str]]:
    """policy ref -> labels that its rules name but no loaded model answers: those of rules that
    follow `on_failure` then, or those of optional ones, which are skipped."""
    missing: dict[str, list[str]] = {}
    for policy in policies:
        absent = [
            rule.label
            for rule in policy.rules
            if rule.optional is optional and rule.label not in labels
        ]
        if absent:
            missing[policy.ref] = absent
    return missing
