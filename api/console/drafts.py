"""Rules as a form has them: text, which may be wrong, so that nobody types it anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from api import policing
from api.console.access import Form
from moderation.errors import InputError
from moderation.policy import Policy
from moderation.store.judged import LAST, MAX_LAST
from moderation.store.releases import MAX_NOTE

MAX_RULES: Final = 60
NUMBERS: Final = ("review_at", "block_at", "evidence_at")
COUNTS: Final = ("evidence_frames", "min_frames", "window")
NAMES: Final = {
    "review_at": "Review from",
    "block_at": "Block from",
    "evidence_at": "Box from",
    "evidence_frames": "Frames in place of a box",
    "min_frames": "Frames",
    "window": "Of so many",
}
USUAL: Final = {
    "block_needs": "score",
    "evidence_at": "0.3",
    "evidence_frames": "3",
    "min_frames": "2",
    "window": "3",
}


@dataclass(frozen=True, slots=True)
class RuleFields:
    """values: of NUMBERS, COUNTS and `block_needs`; empty: none."""

    label: str
    values: dict[str, str]
    optional: bool = False

    def rule(self) -> dict[str, Any]:
        """Raises InputError."""
        told: dict[str, Any] = {
            "label": self.label,
            "block_needs": self.values.get("block_needs", ""),
            "optional": self.optional,
        }
        for name, value in self.values.items():
            if name in NUMBERS:
                told[name] = self._number(name, value, float)
            elif name in COUNTS:
                told[name] = self._number(name, value, int)
        return told

    def _number(self, name: str, value: str, kind: type[float] | type[int]) -> float | int | None:
        if not value:
            return None
        try:
            return kind(value)
        except ValueError as error:
            raise InputError(f"{self.label}, {NAMES[name]}: {value} is not a number.") from error


@dataclass(frozen=True, slots=True)
class DraftForm:
    """What somebody has typed. based_on: the version that it was made from."""

    summary: str
    mode: str
    on_failure: str
    rules: tuple[RuleFields, ...]
    based_on: str = ""
    note: str = ""
    last: str = str(LAST)
    added: RuleFields = field(default_factory=lambda: RuleFields("", dict(USUAL)))

    @classmethod
    def of_policy(cls, policy: Policy, *, based_on: int) -> Self:
        rules = tuple(
            RuleFields(
                rule.label,
                {name: _text(getattr(rule, name)) for name in (*NUMBERS, *COUNTS, "block_needs")},
                rule.optional,
            )
            for rule in policy.rules
        )
        return cls(policy.summary, policy.mode, policy.on_failure.value, rules, str(based_on))

    @classmethod
    def of_form(cls, form: Form) -> Self:
        """Raises InputError for what no form of ours sends."""
        labels = form.all("label")
        if len(labels) > MAX_RULES:
            raise InputError(f"A policy has {MAX_RULES} rules at most.")
        rows = [_row(form, f"{place}.", label) for place, label in enumerate(labels)]
        kept = [row for place, row in enumerate(rows) if not form.get(f"{place}.remove", 1)]
        new = form.get("new.label", 128)
        if new:
            kept.append(_row(form, "new.", new))
        return cls(
            summary=form.get("summary", 500),
            mode=form.get("mode", 16),
            on_failure=form.get("on_failure", 16),
            rules=tuple(kept),
            based_on=form.get("based_on", 9),
            note=form.get("note", MAX_NOTE),
            last=form.get("last", 9) or str(LAST),
        )

    def policy(self, policy_id: str) -> Policy:
        """Raises InputError, in one line."""
        values = {
            "summary": self.summary,
            "mode": self.mode,
            "on_failure": self.on_failure,
            # A rule without an answer to `evidence_at` has the usual one.
            "rules": [_told(row.rule()) for row in self.rules],
        }
        return policing.draft(policy_id, values)

    def items(self) -> int:
        """How many are to be decided again. Raises InputError."""
        if not (self.last.isascii() and self.last.isdigit() and 1 <= int(self.last) <= MAX_LAST):
            raise InputError(f"1 to {MAX_LAST} items are decided again at once.")
        return int(self.last)

    def version(self) -> int | None:
        told = self.based_on
        return int(told) if told.isascii() and told.isdigit() else None


def _row(form: Form, prefix: str, label: str) -> RuleFields:
    values = {name: form.get(f"{prefix}{name}", 24) for name in (*NUMBERS, *COUNTS, "block_needs")}
    return RuleFields(label[:128], values, form.get(f"{prefix}optional", 1) == "1")


def _told(rule: dict[str, Any]) -> dict[str, Any]:
    """Empty fields that cannot be none are left out."""
    never = ("evidence_at", "min_frames", "window")
    return {name: value for name, value in rule.items() if value is not None or name not in never}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
