"""Which networks need not be asked, because the answer could change nothing. Pure.

Whoever asks may name floors: the lowest scores that matter to them. Then a view has a first look in
a quicker precision, where the machine has one; a second opinion is asked for where it could reach
a floor; and what comes near a floor is looked at again in the exact precision
(docs/decisions/0016-floors.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from moderation.models.spec import ModelSpec

Floors = Mapping[str, float]
"""label -> the lowest score of it that matters to whoever asks. A label that is absent matters at
any score, but not to the last digit."""

MARGIN = 0.1
"""How far below its floor a first look may put a score that reaches it: see what
`python -m benchmarks.first_look` prints."""

DRIFT = 0.25
"""The part of itself by which an opinion of a first look may be too low where a second one would be
added to it."""


class ScoreTable:
    """The scores of a batch while they become known: one column a label and model."""

    def __init__(self, views: int) -> None:
        self._views = views
        self._columns: dict[tuple[str, str], NDArray[np.float32]] = {}

    def put(
        self, label: str, model: str, rows: NDArray[np.intp], values: NDArray[np.float32]
    ) -> None:
        """What a model says of some views; in place of what it said of them before."""
        column = self._columns.get((label, model))
        if column is None:
            column = self._columns[label, model] = np.full(self._views, np.nan, np.float32)
        column[rows] = values

    def said(self, row: int) -> dict[str, list[tuple[str, float]]]:
        """label -> who said what of a view, within 0..1."""
        found: dict[str, list[tuple[str, float]]] = {}
        for (label, model), column in self._columns.items():
            if not np.isnan(column[row]):
                score = min(1.0, max(0.0, float(column[row])))
                found.setdefault(label, []).append((model, score))
        return found

    def could_reach(self, label: str, row: int, floor: float, slack: float) -> bool:
        """Whether one more opinion of 1.0 would lift the mean to the floor; slack: the part
        of themselves by which those so far may be too low."""
        so_far = [min(1.0, score * (1 + slack)) for _, score in self.said(row).get(label, [])]
        return fmean([*so_far, 1.0]) >= floor

    def near(self, row: int, floors: Floors) -> bool:
        """Whether a label's mean lies at its floor, or so little below that the exact one may."""
        return any(
            label in floors and fmean(score for _, score in said) >= floors[label] - MARGIN
            for label, said in self.said(row).items()
        )


def second_opinions(specs: Sequence[ModelSpec], heads: Iterable[ModelSpec]) -> tuple[str, ...]:
    """The `id@version` of the networks whose labels all have an answer without them; of two that
    could do without each other, the later one."""
    answers = Counter(label.label for spec in heads for label in spec.labels)
    for spec in specs:
        answers.update({label.label for label in spec.labels})
    found: list[str] = []
    for spec in reversed(specs):
        labels = {label.label for label in spec.labels}
        needed = spec.embedding_output is not None or not labels
        if not needed and all(answers[label] > 1 for label in labels):
            answers.subtract(labels)
            found.append(spec.ref)
    return tuple(found)
