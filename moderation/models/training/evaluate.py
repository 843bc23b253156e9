"""How good the verdicts are: every labelled picture through the path that serves, counted at
the policy's thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moderation.models.training import metrics
from moderation.models.training.truth import Labelled, read_truth
from moderation.policy import Outcome, Policy, Rule, choose_policy, judge, load_policies
from moderation.settings import Settings
from moderation.types import Decision, LabelScore, Problem

THREADS = 4
Progress = Callable[[str, int, int], None]


class Judged(Protocol):
    """What an analysis says of one picture; `moderation.analyse.Analysis` is one."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def peaks(self) -> Mapping[str, LabelScore]: ...
    @property
    def problem(self) -> Problem | None: ...


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """Confusion of one label where its rule asks for `decision` or worse."""

    decision: str
    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    precision: float | None
    precision_95: tuple[float, float]
    recall: float | None
    recall_95: tuple[float, float]
    false_positive_rate: float | None
    false_positive_rate_95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LabelReport:
    """One label. Negatives are ordinary pictures alone, or all others where there are none."""

    label: str
    positives: int
    negatives: int
    auc: float | None
    auc_95: tuple[float, float] | None
    average_precision: float | None
    highest_negative: float | None
    at: tuple[AtThreshold, ...]


@dataclass(frozen=True, slots=True)
class EvalReport:
    """Figures of a set of labelled pictures under one policy. Precision holds for the mixture
    of this set alone; recall and the false positive rate do not depend on it."""

    policy: str
    pictures: int
    failed: tuple[tuple[str, str], ...]
    """(name, code) of pictures that could not be analysed; in no figure below."""
    ordinary: int
    ordinary_reviewed: int
    ordinary_blocked: int
    ordinary_flagged_95: tuple[float, float]
    """Interval of the share of ordinary pictures that are reviewed or blocked."""
    labels: tuple[LabelReport, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; figures that do not exist are null."""
        return asdict(self)

    def rows(self) -> list[dict[str, str]]:
        """Rows of a table: one per label and threshold."""
        return [_row(report, at) for report in self.labels for at in report.at or (None,)]


def run_eval(
    source: Path,
    settings: Settings,
    policy_name: str | None = None,
    progress: Progress | None = None,
) -> EvalReport:
    """Score every labelled picture of `source` with the loaded models, by the serving path.

    Raises ConfigError (data, policy, weights).
    """
    # Only a real run needs the models: reports and tests of them do not.
    from moderation.analyse import Analyser
    from moderation.decoders import DecoderPool
    from moderation.models.runner import load_scorer

    items = read_truth(source, settings)
    policies = load_policies(settings.policy_dir)
    policy = choose_policy(policies, policy_name or settings.default_policy)
    with DecoderPool.from_settings(settings) as pool:
        scorer = load_scorer(settings)
        try:
            analyser = Analyser(scorer, pool, settings)
            return evaluate(items, lambda data: analyser.analyse(data, policy), policy, progress)
        finally:
            scorer.close()


def evaluate(
    items: Sequence[Labelled],
    analyse: Callable[[bytes], Judged],
    policy: Policy,
    progress: Progress | None = None,
) -> EvalReport:
    """Run `analyse` (thread-safe) over every item and count."""
    judged: list[tuple[Labelled, Judged]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(lambda item: analyse(item.path.read_bytes()), items)
        for item, result in zip(items, results, strict=True):
            judged.append((item, result))
            if progress is not None:
                progress("evaluating", len(judged), len(items))
    return count(judged, policy)


def count(judged: Sequence[tuple[Labelled, Judged]], policy: Policy) -> EvalReport:
    """The report of pictures already analysed. Pure."""
    failed = tuple((i.name, j.problem.code) for i, j in judged if j.problem is not None)
    good = [(item, result) for item, result in judged if result.problem is None]
    ordinary = [result.outcome.decision for item, result in good if item.safe]
    reviewed = sum(decision is Decision.REVIEW for decision in ordinary)
    blocked = sum(decision is Decision.BLOCK for decision in ordinary)
    rules = {rule.label: rule for rule in policy.rules}
    names = {label for item, _ in good for label in item.labels}
    names |= {label for _, result in good for label in result.peaks}
    return EvalReport(
        policy=policy.ref,
        pictures=len(judged),
        failed=failed,
        ordinary=len(ordinary),
        ordinary_reviewed=reviewed,
        ordinary_blocked=blocked,
        ordinary_flagged_95=metrics.wilson(reviewed + blocked, len(ordinary)),
        labels=tuple(_label(good, name, rules.get(name)) for name in sorted(names)),
    )


def _label(judged: Sequence[tuple[Labelled, Judged]], label: str, rule: Rule | None) -> LabelReport:
    answered = [(item, result.peaks[label]) for item, result in judged if label in result.peaks]
    positives = [peak for item, peak in answered if label in item.labels]
    safe_only = any(item.safe for item, _ in judged)
    negatives = [
        peak for item, peak in answered if label not in item.labels and (item.safe or not safe_only)
    ]
    yes, no = _scores(positives), _scores(negatives)
    area = metrics.auc(yes, no)
    return LabelReport(
        label=label,
        positives=len(positives),
        negatives=len(negatives),
        auc=_known(area),
        auc_95=None if math.isnan(area) else metrics.bootstrap(metrics.auc, yes, no),
        average_precision=_known(metrics.average_precision(yes, no)) if len(no) else None,
        highest_negative=float(no.max()) if len(no) else None,
        at=() if rule is None else tuple(_at(positives, negatives, rule)),
    )


def _at(
    positives: Sequence[LabelScore], negatives: Sequence[LabelScore], rule: Rule
) -> Iterable[AtThreshold]:
    for decision, threshold in (
        (Decision.REVIEW, rule.review_at),
        (Decision.BLOCK, rule.block_at),
    ):
        if threshold is None:
            continue
        # The rule's own judgement: a block may need more than a score.
        hits, false = (
            sum(judge(peak, rule)[0].severity >= decision.severity for peak in peaks)
            for peaks in (positives, negatives)
        )
        yield AtThreshold(
            decision=decision.value,
            threshold=threshold,
            true_positives=hits,
            false_positives=false,
            false_negatives=len(positives) - hits,
            true_negatives=len(negatives) - false,
            precision=_share(hits, hits + false),
            precision_95=metrics.wilson(hits, hits + false),
            recall=_share(hits, len(positives)),
            recall_95=metrics.wilson(hits, len(positives)),
            false_positive_rate=_share(false, len(negatives)),
            false_positive_rate_95=metrics.wilson(false, len(negatives)),
        )


def _row(report: LabelReport, at: AtThreshold | None) -> dict[str, str]:
    row = {
        "label": report.label,
        "positives": str(report.positives),
        "negatives": str(report.negatives),
        "auc": _text(report.auc, report.auc_95),
        "average precision": _text(report.average_precision),
    }
    if at is None:
        return row | dict.fromkeys(("at", "precision", "recall", "false positives"), "-")
    return row | {
        "at": f"{at.decision} {at.threshold:g}",
        "precision": _text(at.precision, at.precision_95),
        "recall": _text(at.recall, at.recall_95),
        "false positives": _text(at.false_positive_rate, at.false_positive_rate_95),
    }


def _text(value: float | None, interval: tuple[float, float] | None = None) -> str:
    if value is None:
        return "-"
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"


def _scores(peaks: Sequence[LabelScore]) -> NDArray[np.float64]:
    return np.asarray([peak.score for peak in peaks], np.float64)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
