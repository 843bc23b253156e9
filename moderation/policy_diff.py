"""What two versions of a policy say differently. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moderation.policy import Policy, Rule

OF_POLICY = ("summary", "mode", "on_failure")
OF_RULE = (
    "review_at",
    "block_at",
    "block_needs",
    "evidence_at",
    "evidence_frames",
    "min_frames",
    "window",
    "optional",
)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One field that differs. label: None of the policy itself. field: None where a rule came
    (`before` is None) or went (`after` is None), which are given in words then."""

    label: str | None
    field: str | None
    before: Any
    after: Any


def changes(before: Policy, after: Policy) -> tuple[PolicyChange, ...]:
    """Of the policy, then of its rules, in the order of the later version. The id and the version
    do not count."""
    found = [
        PolicyChange(None, name, getattr(before, name), getattr(after, name))
        for name in OF_POLICY
        if getattr(before, name) != getattr(after, name)
    ]
    old = {rule.label: rule for rule in before.rules}
    for rule in after.rules:
        known = old.pop(rule.label, None)
        if known is None:
            found.append(PolicyChange(rule.label, None, None, in_words(rule)))
            continue
        found += [
            PolicyChange(rule.label, name, getattr(known, name), getattr(rule, name))
            for name in OF_RULE
            if getattr(known, name) != getattr(rule, name)
        ]
    found += [PolicyChange(rule.label, None, in_words(rule), None) for rule in old.values()]
    return tuple(found)


def in_words(rule: Rule) -> str:
    """`review 0.7, block 0.95 with a box or 3 frames, 2 of 3 frames`."""
    words = [
        f"{name} {threshold:g}"
        for name, threshold in (("review", rule.review_at), ("block", rule.block_at))
        if threshold is not None
    ]
    if rule.block_at is not None and rule.evidence:
        words[-1] += f" with {rule.evidence}"
    if rule.window > 1:
        words.append(f"{rule.min_frames} of {rule.window} frames")
    if rule.optional:
        words.append("optional")
    return ", ".join(words)
