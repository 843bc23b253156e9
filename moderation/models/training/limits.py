"""Thresholds from a stated limit: what part of ordinary pictures may be shown to a person.

All of it reads scores of ordinary pictures by heads that were not trained on their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from moderation.models.training.metrics import rate_at, threshold_at, wilson
from moderation.models.training.pipeline import TrainedHead
from moderation.models.training.recipe import ONLY_OF_ITS_KIND
from moderation.policy import Policy

RATES = (0.001, 0.0025, 0.005, 0.01)


def suggest(heads: Sequence[TrainedHead]) -> list[dict[str, Any]]:
    """For each label and each rate of false reviews over left-out ordinary sources: the
    threshold, recall at it for every left-out source, and both figures of the shipped head
    over the held-out tenth."""
    rows = []
    for trained in heads:
        ordinary = np.asarray(list(_left_out(trained).values()))
        held_out = np.asarray(list(trained.held_out.values()))
        for rate in RATES:
            limit = threshold_at(ordinary, rate)
            rows.append(
                {
                    "label": trained.task.label,
                    "false_reviews": rate,
                    "threshold": round(limit, 4),
                    "recall": {
                        name: round(rate_at(scores, limit), 3)
                        for name, scores in trained.recall_of.items()
                    },
                    "held_out_false_reviews": round(rate_at(held_out, limit), 4),
                    "held_out_recall": round(rate_at(trained.held_out_positives, limit), 3),
                }
            )
    return rows


def review_totals(heads: Sequence[TrainedHead], policy: Policy) -> list[dict[str, Any]]:
    """Ordinary pictures that reach any head's review threshold under a policy, with a Wilson
    95 % interval: of left-out sources in all and each, and of the held-out tenth."""
    limits = {rule.label: rule.review_at for rule in policy.rules if rule.review_at is not None}

    def flagged(scores: Iterable[tuple[str, dict[str, float]]]) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for label, of in scores:
            for file, score in of.items():
                found[file] = found.get(file, False) or score >= limits.get(label, 2.0)
        return found

    left_out = flagged((trained.task.label, _left_out(trained)) for trained in heads)
    held_out = flagged((trained.task.label, trained.held_out) for trained in heads)
    kinds = sorted({_source(file) for file in left_out})
    return [
        _total(policy.ref, "left-out sources", list(left_out.values())),
        *(
            _total(policy.ref, kind, [hit for f, hit in left_out.items() if _source(f) == kind])
            for kind in kinds
        ),
        _total(policy.ref, "held-out tenth, shipped heads", list(held_out.values())),
    ]


def _total(policy: str, what: str, hits: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(hits), len(hits))
    return {
        "policy": policy,
        "ordinary": what,
        "pictures": len(hits),
        "reviewed": sum(hits),
        "share": round(sum(hits) / max(len(hits), 1), 4),
        "share_95": [round(low, 4), round(high, 4)],
    }


def _left_out(trained: TrainedHead) -> dict[str, float]:
    return {f: s for f, s in trained.ordinary.items() if _source(f) not in ONLY_OF_ITS_KIND}


def _source(file: str) -> str:
    """`safe/har_actions_0040.webp` -> `har_actions`."""
    return file.rpartition("/")[2].rpartition("_")[0]
