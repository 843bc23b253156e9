"""What other rules would have decided of media that were judged already. Pure.

Both sets of rules are held against the same stored scores, so whatever differs comes from the rules
alone, not from models that changed meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from moderation.packed_scores import PackedScores
from moderation.policy import Policy
from moderation.redecide import ABSENT, Severities, redecide
from moderation.types import Decision

SEVERITY = tuple(sorted(Decision, key=lambda one: one.severity))
EXAMPLES = 8
"""Items that are named for each way in which decisions change."""


class LeftOut(StrEnum):
    """Why an item cannot be decided again. PENDING: it has no verdict yet. LISTED: a list decided.
    LIVE: of a live stream, of which a part is kept. UNSCORED: too little of it was stored, by an
    older version."""

    PENDING = "pending"
    LISTED = "listed"
    LIVE = "live"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True, eq=False)
class JudgedItem:
    """An item with what its decision rests on. packed: None where it could not be analysed at all,
    so that `on_failure` decides. stored: what the same policy decided then, None where it was
    another. person: what a person decided, where one did."""

    item_id: str
    kind: str
    packed: PackedScores | None
    stored: Decision | None = None
    person: Decision | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the items that people decided: how many rules flag (review or block), how many of those
    people blocked; how many rules block, and of those people blocked; how many rules pass that
    people blocked."""

    reviewed: int = 0
    flagged: int = 0
    flagged_right: int = 0
    blocked: int = 0
    blocked_right: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        """Part of what is flagged that people blocked; None where nothing is flagged."""
        return self.flagged_right / self.flagged if self.flagged else None

    @property
    def block_precision(self) -> float | None:
        return self.blocked_right / self.blocked if self.blocked else None


@dataclass(frozen=True, slots=True)
class LabelShift:
    """How many items a label's rule flags by itself."""

    label: str
    now: int
    then: int


@dataclass(frozen=True, slots=True)
class Example:
    """An item of which the decision changes. label: of the rule that changes it most; None: what
    was not seen does. score: its highest."""

    item_id: str
    kind: str
    now: Decision
    then: Decision
    label: str | None
    score: float | None
    person: Decision | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `then` would have decided in place of `now`. moves: (now, then) -> items, where the two
    differ. checked, alike: items that were judged by the very rules of `now`, and how many of them
    come out as they did then; fewer means that stored scores are not what was judged."""

    now: Policy
    then: Policy
    considered: int
    left_out: Mapping[LeftOut, int]
    counts_now: Mapping[Decision, int]
    counts_then: Mapping[Decision, int]
    moves: Mapping[tuple[Decision, Decision], int]
    labels: tuple[LabelShift, ...]
    people_now: Agreement
    people_then: Agreement
    examples: tuple[Example, ...]
    checked: int
    alike: int

    @property
    def changed(self) -> int:
        return sum(self.moves.values())


@dataclass(slots=True)
class Tally:
    """Counts a comparison, batch by batch, the newest items first."""

    now: Policy
    then: Policy
    considered: int = 0
    checked: int = 0
    alike: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    _moves: Counter[tuple[Decision, Decision]] = field(default_factory=Counter)
    _people: Counter[tuple[bool, Decision, Decision]] = field(default_factory=Counter)
    _flagged_now: Counter[str] = field(default_factory=Counter)
    _flagged_then: Counter[str] = field(default_factory=Counter)
    _examples: dict[tuple[Decision, Decision], list[Example]] = field(default_factory=dict)

    def add(self, batch: Sequence[JudgedItem]) -> None:
        """Raises ValueError for scores without a basis."""
        scored = [one for one in batch if one.packed is not None]
        rulings = [
            redecide([one.packed for one in scored if one.packed is not None], policy)
            for policy in (self.now, self.then)
        ]
        for policy, ruling, flagged in zip(
            (self.now, self.then), rulings, (self._flagged_now, self._flagged_then), strict=True
        ):
            hits = (ruling.rules > 0).sum(axis=0)
            flagged.update({r.label: int(n) for r, n in zip(policy.rules, hits, strict=True)})
        severities = np.stack([one.severity for one in rulings], axis=1).tolist()
        for row, (one, (now, then)) in enumerate(zip(scored, severities, strict=True)):
            rules = [ruling.rules[row] for ruling in rulings]
            self._count(one, SEVERITY[now], SEVERITY[then], rules)
        for one in batch:
            if one.packed is None:
                self._count(one, self.now.on_failure, self.then.on_failure, None)

    def result(self) -> Comparison:
        ways = sorted(self._examples, key=lambda way: (-way[1].severity, -way[0].severity))
        labels = sorted(self._flagged_now.keys() | self._flagged_then.keys())
        return Comparison(
            now=self.now,
            then=self.then,
            considered=self.considered,
            left_out=dict(self.left_out),
            counts_now={d: sum(n for (a, _), n in self._moves.items() if a is d) for d in SEVERITY},
            counts_then={
                d: sum(n for (_, b), n in self._moves.items() if b is d) for d in SEVERITY
            },
            moves={way: n for way, n in self._moves.items() if way[0] is not way[1]},
            labels=tuple(
                LabelShift(label, self._flagged_now[label], self._flagged_then[label])
                for label in labels
                if self._flagged_now[label] or self._flagged_then[label]
            ),
            people_now=_agreement(self._people, then=False),
            people_then=_agreement(self._people, then=True),
            examples=tuple(example for way in ways for example in self._examples[way]),
            checked=self.checked,
            alike=self.alike,
        )

    def _count(
        self,
        one: JudgedItem,
        now: Decision,
        then: Decision,
        rules: Sequence[Severities] | None,
    ) -> None:
        self.considered += 1
        self._moves[now, then] += 1
        if one.stored is not None:
            self.checked += 1
            self.alike += one.stored is now
        if one.person is not None:
            self._people[False, now, one.person] += 1
            self._people[True, then, one.person] += 1
        if now is not then:
            kept = self._examples.setdefault((now, then), [])
            if len(kept) < EXAMPLES:
                kept.append(self._example(one, now, then, rules))

    def _example(
        self,
        one: JudgedItem,
        now: Decision,
        then: Decision,
        rules: Sequence[Severities] | None,
    ) -> Example:
        label = None if rules is None else self._culprit(rules)
        peaks = {} if one.packed is None else one.packed.peaks()
        score = None if label is None else peaks.get(label)
        return Example(one.item_id, one.kind, now, then, label, score, one.person)

    def _culprit(self, rules: Sequence[Severities]) -> str | None:
        """The label of which the two rules differ most; None where none does."""
        said = [
            {rule.label: int(value) for rule, value in zip(policy.rules, row, strict=True)}
            for policy, row in zip((self.now, self.then), rules, strict=True)
        ]
        apart = {
            label: abs(max(0, said[0].get(label, ABSENT)) - max(0, said[1].get(label, ABSENT)))
            for label in said[0] | said[1]
        }
        most = max(apart, key=lambda label: apart[label])
        return most if apart[most] else None


def _agreement(people: Counter[tuple[bool, Decision, Decision]], *, then: bool) -> Agreement:
    def count(decisions: tuple[Decision, ...], persons: tuple[Decision, ...]) -> int:
        return sum(people[then, decision, person] for decision in decisions for person in persons)

    flags, anyone = (Decision.REVIEW, Decision.BLOCK), SEVERITY
    right = (Decision.BLOCK,)
    return Agreement(
        reviewed=count(SEVERITY, anyone),
        flagged=count(flags, anyone),
        flagged_right=count(flags, right),
        blocked=count(right, anyone),
        blocked_right=count(right, right),
        missed=count((Decision.PASS,), right),
    )
