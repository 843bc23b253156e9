"""Passes that are drawn for an audit, and what they tell of the models, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from moderation.store import decisions, deletion, items, jobs, reviews
from moderation.store.engine import Database
from moderation.store.insight import insight
from moderation.store.misses import Misses, misses
from moderation.store.review_entry import AUDIT_RANK
from moderation.store.review_records import Action, Choice, ReviewFilter, ReviewRow, ReviewState
from moderation.types import Decision, Status
from tests.contract.store_data import MODELS, NOW, new_item, result_for

MEI = "user_mei"
PASS, BLOCK = Choice(Action.PASS), Choice(Action.BLOCK, "porn.explicit")
ESCALATE = Choice(Action.ESCALATE)
SINCE = NOW - timedelta(days=1)


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def made(
    db: Database,
    content: object,
    decision: Decision = Decision.PASS,
    *,
    drawn: bool = True,
    seconds: float = 0.0,
    tenant: str = "default",
    **changes: Any,
) -> str:
    """An item that the models have judged."""
    found = jobs.submit(db, new_item(content, tenant=tenant), now=at(seconds))
    claim = jobs.claim(db, found.job_id, "w", 30.0, now=at(seconds))
    assert claim is not None
    done = replace(result_for(claim, decision, **changes), drawn=drawn)
    assert jobs.finish(db, claim, done, now=at(seconds))
    return found.item_id


def entry(db: Database, item_id: str) -> ReviewRow:
    found = reviews.get(db, "default", item_id)
    assert found is not None
    return found


def decide(db: Database, item_id: str, choice: Choice, seconds: float = 1.0) -> str:
    return decisions.decide(db, "default", MEI, item_id, choice, now=at(seconds)).decision.id


def waiting(db: Database, **flt: Any) -> list[str]:
    return [row.item_id for row in reviews.queue(db, "default", ReviewFilter(**flt)).rows]


def test_a_drawn_pass_waits_and_is_a_pass_all_the_same(db: Database) -> None:
    item_id = made(db, "a")
    verdict = items.get_item(db, "default", item_id).verdict
    assert verdict is not None
    assert (verdict.decision, verdict.decided_by) == (Decision.PASS, "policy")
    row = entry(db, item_id)
    assert (row.state, row.audit, row.rank) == (ReviewState.OPEN, True, AUDIT_RANK)
    # Neither a label nor a score: what is looked at first does not depend on them.
    assert (row.label, row.score, row.due) == (None, None, NOW)


@pytest.mark.parametrize(
    ("decision", "changes"),
    [
        (Decision.BLOCK, {}),
        (Decision.PASS, {"decided_by": "list"}),
        (Decision.PASS, {"decided_by": "duplicate"}),
        (Decision.PASS, {"status": Status.FAILED}),
    ],
)
def test_nothing_but_passes_of_the_policy_is_drawn(
    db: Database, decision: Decision, changes: dict[str, Any]
) -> None:
    assert reviews.get(db, "default", made(db, "a", decision, **changes)) is None


def test_what_was_not_drawn_does_not_wait(db: Database) -> None:
    made(db, "a", drawn=False)
    assert waiting(db) == []
    assert misses(db, "default", SINCE).passes == 1


def test_what_needs_a_person_is_no_audit(db: Database) -> None:
    assert not entry(db, made(db, "a", Decision.REVIEW)).audit


def test_later_copies_and_decided_bytes_are_not_drawn(db: Database) -> None:
    item_id = made(db, "a")
    copy = jobs.submit(db, new_item("a"), dedupe_models=MODELS, now=at(1))
    assert copy.verdict is not None
    assert reviews.get(db, "default", copy.item_id) is None
    decide(db, item_id, PASS)
    again = jobs.submit(db, new_item("a"), now=at(2))
    assert again.verdict is not None
    assert reviews.get(db, "default", again.item_id) is None
    assert misses(db, "default", SINCE).passes == 1


def test_audits_come_last_and_are_counted_apart(db: Database) -> None:
    first, second = made(db, 1, seconds=-7200), made(db, 2, seconds=-3600)
    late = made(db, 3, Decision.REVIEW)
    assert waiting(db) == [late, first, second]
    assert waiting(db, audit=True) == [first, second]
    assert waiting(db, audit=False) == [late]
    assert waiting(db, audit=True, state=None) == [first, second]
    found = reviews.counts(db, "default", MEI, now=NOW)
    assert (found.open, found.audits, found.oldest) == (1, 2, NOW)
    assert found.by_label == {"porn.explicit": 1}
    row = reviews.claim_next(db, "default", MEI, ReviewFilter(audit=True), now=NOW)
    assert row is not None
    assert (row.item_id, row.audit) == (first, True)


def test_pages_go_from_what_needs_a_person_on_to_audits(db: Database) -> None:
    made_ = [made(db, n, Decision.REVIEW, seconds=n) for n in range(2)]
    made_ += [made(db, n, seconds=n - 10) for n in range(2, 5)]
    page = reviews.queue(db, "default", ReviewFilter(), limit=3)
    rest = reviews.queue(db, "default", ReviewFilter(), limit=3, after=page.next_after)
    assert [row.item_id for row in (*page.rows, *rest.rows)] == made_


def test_an_escalated_audit_needs_a_person(db: Database) -> None:
    item_id = made(db, "a")
    made_id = decide(db, item_id, ESCALATE)
    found = reviews.counts(db, "default", MEI, now=NOW)
    assert (found.open, found.escalated, found.audits) == (1, 1, 0)
    assert entry(db, item_id).audit
    decisions.undo(db, "default", MEI, made_id, now=at(2))
    row = entry(db, item_id)
    assert (row.state, row.rank, row.escalated) == (ReviewState.OPEN, AUDIT_RANK, False)


@pytest.mark.parametrize("choice", [PASS, BLOCK])
def test_a_decision_on_an_audit_is_taken_back(db: Database, choice: Choice) -> None:
    item_id = made(db, "a")
    made_id = decide(db, item_id, choice)
    assert entry(db, item_id).state is ReviewState.DECIDED
    assert misses(db, "default", SINCE).missed.count == 1
    decisions.undo(db, "default", MEI, made_id, now=at(2))
    row = entry(db, item_id)
    assert (row.state, row.audit) == (ReviewState.OPEN, True)
    verdict = items.get_item(db, "default", item_id).verdict
    assert verdict is not None
    assert (verdict.decision, verdict.decided_by) == (Decision.PASS, "policy")
    found = misses(db, "default", SINCE)
    assert (found.waiting, found.missed.count) == (1, 0)


def counted(found: Misses) -> tuple[int, int, int, int]:
    return found.passes, found.waiting, found.missed.count, found.missed.hits


def test_misses_of_what_was_audited(db: Database) -> None:
    audited = [made(db, number) for number in range(6)]
    for number in range(10, 14):
        made(db, number, drawn=False)
    flagged = made(db, 20, Decision.REVIEW)
    made(db, 21, tenant="other")
    made(db, 22, seconds=-3 * 86400)
    assert counted(misses(db, "default", SINCE)) == (10, 6, 0, 0)
    decide(db, audited[0], BLOCK)
    decide(db, audited[1], PASS)
    decide(db, audited[2], PASS)
    decide(db, audited[3], PASS)
    # Decided twice: the last one counts.
    decide(db, audited[1], Choice(Action.BLOCK, None, labels={"violence.gore": True}), 5)
    # In question again.
    decide(db, audited[3], ESCALATE, 6)
    # No audit.
    decide(db, flagged, BLOCK)
    found = misses(db, "default", SINCE)
    assert counted(found) == (10, 3, 3, 2)
    assert found.missed.rate == pytest.approx(2 / 3)
    assert found.missed.among(found.passes)[0] == pytest.approx(20 / 3)
    assert [(one.label, one.hits, one.count) for one in found.labels] == [
        ("porn.explicit", 1, 3),
        ("violence.gore", 1, 3),
    ]
    deletion.delete_item(db, "default", audited[0], actor="key_1", now=at(10))
    assert counted(misses(db, "default", SINCE)) == (9, 3, 2, 1)


@pytest.mark.parametrize("choice", [PASS, BLOCK, ESCALATE])
def test_a_pass_counts_once_however_often_it_was_decided(db: Database, choice: Choice) -> None:
    drawn, plain = made(db, 1), made(db, 2, drawn=False)
    early = made(db, 3, seconds=-3 * 86400)
    for seconds, item_id in enumerate((drawn, drawn, plain, early), 1):
        made_id = decide(db, item_id, choice, 10 * seconds)
        decisions.undo(db, "default", MEI, made_id, now=at(10 * seconds + 1))
    # What passed before is in no number, though its verdict was written anew.
    assert counted(misses(db, "default", SINCE)) == (2, 1, 0, 0)
    decide(db, drawn, BLOCK, 60)
    assert counted(misses(db, "default", SINCE)) == (2, 0, 1, 1)


def test_audits_change_no_other_figure(db: Database) -> None:
    item_id = made(db, 1)
    made(db, 2, Decision.REVIEW)
    decide(db, item_id, Choice(Action.BLOCK, "porn.explicit", labels={"porn.explicit": True}))
    found = insight(db, "default", days=1, now=NOW)
    assert found.labels == ()
    assert found.automated == 0.5
    assert found.actions == {"block": 1}
    assert counted(found.misses) == (1, 0, 1, 1)
