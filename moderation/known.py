"""What it means that a picture, or a frame of a film, is on a list. Pure.

A bank is a named list of pictures, by their bytes (sha256) or by how they look (PDQ). Its entries
let pass (`allow`) or object (`block`: to block, or to send to review).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from moderation.policy import Outcome
from moderation.types import (
    Coverage,
    Decision,
    DecodedImage,
    Reason,
    Status,
    Verdict,
    worst,
)

MIN_QUALITY: Final = 50
"""Of PDQ, 0..100: the hashes of plainer pictures say little, and never match."""


class BankKind(StrEnum):
    ALLOW = "allow"
    BLOCK = "block"


class MatchKind(StrEnum):
    SHA256 = "sha256"
    PDQ = "pdq"


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that a medium meets. `bank` is the bank's name. distance: bits of 256, 0 for sha256.
    label: what a reason names; None only for allow banks. time_s: of a film, when the frame is
    shown. version: of the tenant's lists when the entry was added."""

    bank_id: str
    bank: str
    kind: BankKind
    decision: Decision
    label: str | None
    entry_id: str
    match: MatchKind
    distance: int = 0
    time_s: float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """What the lists say of a medium, and by which entry, in a sentence. newest: the highest
    version of the entries that decided."""

    outcome: Outcome
    note: str
    newest: int = 0


def decide(hits: Iterable[Hit], *, may_pass: bool = True) -> Listed | None:
    """What the hits mean together; None when they mean nothing.

    The same bytes outrank a likeness, and block outranks allow. Among block banks the gravest
    decides, each bank with its nearest entry as a reason. may_pass: False where entries of allow
    banks say too little of this medium.
    """
    counted = [hit for hit in hits if may_pass or hit.kind is BankKind.BLOCK]
    ordered = sorted(counted, key=_rank)
    if not ordered:
        return None
    first = ordered[0]
    if first.kind is BankKind.ALLOW:
        newest = max(hit.version for hit in _like(first, ordered))
        return Listed(Outcome(Decision.PASS, ()), _sentence(first), newest)
    alike = _like(first, ordered)
    reasons = tuple(_reason(hit) for hit in _one_a_bank(alike))
    decision = worst(*(reason.decision for reason in reasons))
    newest = max(hit.version for hit in alike)
    return Listed(Outcome(decision, reasons), _sentence(first), newest)


def looks_through(decoded: DecodedImage) -> bool:
    """Whether a picture's PDQ tells all that it shows, so that an allow bank may let it pass. The
    hash is that of the first frame, over white: another frame, or what shows over black alone,
    could be anything."""
    still = decoded.info.frames_total == 1
    return still and all(view.background == "opaque" for view in decoded.views)


def verdict_of(
    listed: Listed,
    *,
    id: str,  # noqa: A002 - the verdict's own field name
    job_id: str,
    source: str | None,
    data_id: str | None,
    policy: str,
) -> Verdict:
    """The verdict on a medium that nobody looks at, since a list has its bytes. policy:
    `id@version`, under which it was submitted."""
    return Verdict(
        id=id,
        job_id=job_id,
        source=source,
        data_id=data_id,
        status=Status.DONE,
        decision=listed.outcome.decision,
        decided_by="list",
        reasons=list(listed.outcome.reasons),
        coverage=Coverage(
            frames_total=0, frames_scored=0, complete=False, notes=[unseen_note(listed)]
        ),
        policy=policy,
    )


def unseen_note(listed: Listed) -> str:
    """For the coverage of a medium that no model has seen."""
    return f"decided without a look: {listed.note}"


def objected(verdict: Verdict, hits: Iterable[Hit]) -> Verdict:
    """The verdict on a film, some of whose frames are on block lists: their reasons come first, and
    it is never milder than they say. Allow banks say nothing of a film's other frames."""
    listed = decide(hits, may_pass=False)
    if listed is None:
        return verdict
    return verdict.model_copy(
        update={
            "decision": worst(verdict.decision, listed.outcome.decision),
            "decided_by": "list",
            "reasons": [*listed.outcome.reasons, *verdict.reasons],
        }
    )


def _rank(hit: Hit) -> tuple[bool, bool, int, int, str]:
    return (
        hit.match is not MatchKind.SHA256,
        hit.kind is not BankKind.BLOCK,
        -hit.decision.severity,
        hit.distance,
        hit.entry_id,
    )


def _like(first: Hit, ordered: Sequence[Hit]) -> list[Hit]:
    return [hit for hit in ordered if (hit.match, hit.kind) == (first.match, first.kind)]


def _one_a_bank(ordered: Sequence[Hit]) -> list[Hit]:
    first: dict[str, Hit] = {}
    for hit in ordered:
        first.setdefault(hit.bank_id, hit)
    return list(first.values())


def _reason(hit: Hit) -> Reason:
    label = hit.label or "list.block"
    return Reason(
        category=label.partition(".")[0],
        label=label,
        decision=hit.decision,
        detail=_sentence(hit),
    )


def _sentence(hit: Hit) -> str:
    where = f"{hit.kind.value} list {hit.bank!r} ({hit.entry_id})"
    if hit.match is MatchKind.SHA256:
        return f"the same bytes are on the {where}"
    what = "it" if hit.time_s is None else f"the frame at {hit.time_s:.2f} s"
    return f"{what} differs in {hit.distance} of 256 bits from an entry of the {where}"
