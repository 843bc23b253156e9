"""Which networks need not be asked, because the answer could change nothing. Pure.

Whoever asks may name floors: the lowest scores that matter to them. Then a view has a first look in
a quicker precision, where the machine has one; a second opinion is asked for where it could reach
a floor; and what comes near a floor is looked at again in the exact precision
(docs/decisions/0016-floors.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.models.fusion import Fusion
from moderation.models.spec import ModelSpec

Floors = Mapping[str, float]
"""label -> the lowest score of it that matters to whoever asks. A label that is absent matters at
any score, but not to the last digit."""

MARGIN = 0.1
"""How much too low an opinion of a first look may be that makes a score reach its floor: see what
`python -m benchmarks.first_look` prints."""

DRIFT = 0.25
"""The part of itself by which an opinion of a first look may be too low where a second one would be
added to it."""


class ScoreTable:
    """The scores of a batch while they become known: one column a label and model."""

    def __init__(self, views: int, fusion: Fusion) -> None:
        self._views = views
        self._fusion = fusion
        self._columns: dict[tuple[str, str], NDArray[np.float32]] = {}
        self._rough: dict[str, NDArray[np.bool_]] = {}

    def put(
        self,
        label: str,
        model: str,
        rows: NDArray[np.intp],
        values: NDArray[np.float32],
        *,
        rough: bool = False,
    ) -> None:
        """What a model says of some views; in place of what it said of them before. rough: in
        the precision of a first look."""
        column = self._columns.get((label, model))
        if column is None:
            column = self._columns[label, model] = np.full(self._views, np.nan, np.float32)
        column[rows] = values
        self._rough.setdefault(model, np.zeros(self._views, np.bool_))[rows] = rough

    def said(self, row: int) -> dict[str, dict[str, float]]:
        """label -> who said what of a view, within 0..1."""
        found: dict[str, dict[str, float]] = {}
        for (label, model), column in self._columns.items():
            if not np.isnan(column[row]):
                found.setdefault(label, {})[model] = min(1.0, max(0.0, float(column[row])))
        return found

    def scores(self, row: int) -> tuple[dict[str, float], dict[str, str]]:
        """The score of each label by the opinions so far, and who gave them."""
        said = self.said(row)
        return (
            {label: self._fusion.score(label, told) for label, told in said.items()},
            {label: "+".join(told) for label, told in said.items()},
        )

    def could_reach(self, label: str, row: int, floor: float) -> bool:
        """Whether the opinions that are not asked for yet could lift the score to the floor, by
        what those so far may be too low."""
        told = self.said(row).get(label, {})
        first = all(self._rough[model][row] for model in told)
        part, more = (DRIFT, 0.0) if first else (0.0, MARGIN)
        return self._fusion.most(label, self._raised(told, row, part, more)) >= floor

    def near(self, row: int, floors: Floors) -> bool:
        """Whether a label's score lies at its floor, or so little below that the exact one may."""
        return any(
            label in floors
            and self._fusion.score(label, self._raised(told, row, 0.0, MARGIN)) >= floors[label]
            for label, told in self.said(row).items()
        )

    def _raised(
        self, told: Mapping[str, float], row: int, part: float, more: float
    ) -> dict[str, float]:
        """Opinions of a first look made higher by a part of themselves and by so much."""
        return {
            model: min(1.0, score * (1 + part) + more) if self._rough[model][row] else score
            for model, score in told.items()
        }


def second_opinions(specs: Sequence[ModelSpec], heads: Iterable[ModelSpec]) -> tuple[str, ...]:
    """The `id@version` of the networks whose labels all have an answer without them; of two that
    could do without each other, the later one."""
    answers = Counter(label.label for spec in heads for label in spec.labels)
    for spec in specs:
        answers.update({label.label for label in spec.labels})
    found: list[str] = []
    for spec in reversed(specs):
        labels = {label.label for label in spec.labels}
        needed = spec.embedding is not None or not labels
        if not needed and all(answers[label] > 1 for label in labels):
            answers.subtract(labels)
            found.append(spec.ref)
    return tuple(found)
