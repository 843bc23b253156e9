"""Thresholds from a stated limit: what part of ordinary pictures may be shown to a person.

All of it reads scores of ordinary pictures by heads that were not trained on their source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moderation.models.training.metrics import rate_at, threshold_at, wilson
from moderation.models.training.pipeline import TrainedHead
from moderation.policy import Policy

RATES = (0.001, 0.0025, 0.005, 0.01)


def suggest(heads: Sequence[TrainedHead]) -> list[dict[str, Any]]:
    """For each label and each rate of false reviews: the threshold, and recall at it for
    every left-out source."""
    rows = []
    for trained in heads:
        ordinary = np.asarray(list(trained.ordinary.values()))
        for rate in RATES:
            limit = threshold_at(ordinary, rate)
            recall = {name: round(rate_at(s, limit), 3) for name, s in trained.recall_of.items()}
            rows.append(
                {
                    "label": trained.task.label,
                    "false_reviews": rate,
                    "threshold": round(limit, 4),
                    "recall": recall,
                }
            )
    return rows


def review_totals(heads: Sequence[TrainedHead], policy: Policy) -> list[dict[str, Any]]:
    """Ordinary pictures that reach any head's review threshold under a policy: in all, and
    for each kind (the first part of the file's name), with a Wilson 95 % interval."""
    limits = {rule.label: rule.review_at for rule in policy.rules if rule.review_at is not None}
    flagged: dict[str, set[str]] = {}
    for trained in heads:
        limit = limits.get(trained.task.label)
        for file, score in trained.ordinary.items():
            mine = flagged.setdefault(file, set())
            if limit is not None and score >= limit:
                mine.add(trained.task.label)
    rows = []
    for source in ("", *sorted({_source(file) for file in flagged})):
        names = [file for file in flagged if source in ("", _source(file))]
        hits = sum(bool(flagged[file]) for file in names)
        low, high = wilson(hits, len(names))
        rows.append(
            {
                "policy": policy.ref,
                "ordinary": source or "all",
                "pictures": len(names),
                "reviewed": hits,
                "share": round(hits / max(len(names), 1), 4),
                "share_95": [round(low, 4), round(high, 4)],
            }
        )
    return rows


def _source(file: str) -> str:
    return file.rpartition("/")[2].rpartition("_")[0]
