"""Verdicts in this process, and how far two sets of them agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moderation.analyse import Analyser, to_verdict
from moderation.decoders import DecoderPool
from moderation.models.runner import load_scorer
from moderation.policy import Policy, load_policies
from moderation.settings import Settings
from moderation.types import Verdict


def here(
    bodies: Sequence[bytes],
    settings: Settings,
    policy: Policy | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Verdict]:
    """The verdicts in this process, with no queue; policy: by default the shipped default."""
    policy = load_policies()["default"] if policy is None else policy
    scorer = load_scorer(settings)
    try:
        with DecoderPool.from_settings(settings) as pool:
            analyser = Analyser(scorer, pool, settings)
            found = []
            for number, body in enumerate(bodies, 1):
                seen = analyser.analyse(body, policy)
                found.append(to_verdict(seen, id="x", policy=policy, models=(), device=None))
                progress(number, len(bodies))
            return found
    finally:
        scorer.close()


def agreement(one: Sequence[Verdict], other: Sequence[Verdict]) -> float:
    """Share of pictures with the same decision for the same labels."""
    pairs = list(zip(one, other, strict=True))
    return sum(_told(a) == _told(b) for a, b in pairs) / len(pairs)


def _told(verdict: Verdict) -> tuple[object, ...]:
    reasons = sorted((reason.label, reason.decision) for reason in verdict.reasons)
    return (verdict.status, verdict.decision, tuple(reasons))


def drift(one: Sequence[Verdict], other: Sequence[Verdict]) -> float:
    """The largest difference of a score."""
    return max(
        abs(a.scores[label] - b.scores[label])
        for a, b in zip(one, other, strict=True)
        for label in a.scores
    )
