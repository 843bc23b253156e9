"""Lists, people, models: who decides an upload, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moderation.known import BankKind, Listed, MatchKind, decide
from moderation.store import decisions, items, jobs, list_entries, listed, lists, reviews
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, NewEntry
from moderation.store.listed import Lists
from moderation.store.records import NewItem, Submission
from moderation.store.review_records import Action, Choice, ReviewState
from moderation.types import Decision, Verdict
from tests.contract.list_data import (
    ACTOR,
    LOOK,
    PDQ,
    a_bank,
    add,
    bytes_of,
    decided,
    later,
    submit,
    turned,
)
from tests.contract.store_data import MODELS, new_item, result_for

PICTURE = new_item("a")
PASS = Choice(Action.PASS)
BLOCK = Choice(Action.BLOCK, "porn.explicit")


def by_a_person(db: Database, choice: Choice, new: NewItem = PICTURE, at: float = 4) -> str:
    told = decided(db, new, Decision.REVIEW)
    decisions.decide(db, "default", "user_mei", told.item_id, choice, now=later(at))
    return told.item_id


def answer(told: Submission) -> tuple[str, Decision] | None:
    return None if told.verdict is None else (told.verdict.decided_by, told.verdict.decision)


def looked_at(db: Database, told: Submission, at: float = 20) -> Verdict:
    """As a worker would that asks the lists, and then the models: those would block."""
    claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(at))
    assert claim is not None
    near = Lists().near(db, "default", PDQ, now=later(at))
    found: Listed | None = decide(near.hits)
    finished = result_for(claim, Decision.BLOCK)
    if found is not None:
        changes = {"decided_by": "list", "decision": found.outcome.decision}
        verdict = finished.verdict.model_copy(update=changes)
        finished = replace(finished, verdict=verdict, listed=found.newest)
    finished = replace(finished, pdq=PDQ, pdq_quality=90, lists=near.version)
    assert jobs.finish(db, claim, finished, now=later(at))
    told_verdict = items.get_item(db, "default", told.item_id).verdict
    assert told_verdict is not None
    return told_verdict


@pytest.mark.parametrize("entry_first", [True, False])
@pytest.mark.parametrize("kind", [BankKind.BLOCK, BankKind.ALLOW])
def test_the_same_bytes_on_a_list_outrank_a_person(
    db: Database, entry_first: bool, kind: BankKind
) -> None:
    bank = a_bank(db, kind=kind)
    if not entry_first:
        by_a_person(db, BLOCK if kind is BankKind.ALLOW else PASS)
        add(db, bank, bytes_of(PICTURE), now=later(5))
    else:
        other = decided(db, PICTURE, Decision.REVIEW)
        add(db, bank, bytes_of(PICTURE), now=later(4))
        choice = BLOCK if kind is BankKind.ALLOW else PASS
        decisions.decide(db, "default", "user_mei", other.item_id, choice, now=later(5))
    expected = Decision.BLOCK if kind is BankKind.BLOCK else Decision.PASS
    assert answer(submit(db, PICTURE, 10)) == ("list", expected)


def test_a_person_answers_before_duplicates_and_models(db: Database) -> None:
    a_bank(db)
    by_a_person(db, PASS)
    assert answer(submit(db, PICTURE, 10)) == ("person", Decision.PASS)
    without = jobs.submit(db, PICTURE, now=later(11))
    assert answer(without) == ("person", Decision.PASS)


def test_an_entry_that_comes_after_the_decision_acts_by_likeness(db: Database) -> None:
    bank = a_bank(db)
    by_a_person(db, PASS)
    add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 8)), now=later(5))
    told = submit(db, PICTURE, 10)
    assert answer(told) is None
    verdict = looked_at(db, told)
    assert (verdict.decided_by, verdict.decision) == ("list", Decision.BLOCK)


def test_a_decision_that_comes_after_the_entry_outranks_its_likeness(db: Database) -> None:
    bank = a_bank(db)
    told = decided(db, PICTURE, Decision.REVIEW)
    add(db, bank, LOOK, now=later(4))
    decisions.decide(db, "default", "user_mei", told.item_id, PASS, now=later(5))
    assert answer(submit(db, PICTURE, 10)) == ("person", Decision.PASS)
    # A bank that only changes has no newer entries.
    lists.change_bank(db, "default", bank.id, BankChanges(name="new"), actor=ACTOR, now=later(11))
    assert answer(submit(db, PICTURE, 12)) == ("person", Decision.PASS)
    # What was passed on has seen as much.
    add(db, bank, NewEntry(MatchKind.PDQ, "0f" * 32), now=later(13))
    assert answer(submit(db, PICTURE, 14)) == ("person", Decision.PASS)


def test_undoing_puts_a_decision_in_force_anew(db: Database) -> None:
    bank = a_bank(db)
    item_id = by_a_person(db, PASS)
    second = decisions.decide(db, "default", "user_mei", item_id, BLOCK, now=later(5))
    add(db, bank, LOOK, now=later(6))
    decisions.undo(db, "default", "user_mei", second.decision.id, now=later(7))
    assert answer(submit(db, PICTURE, 10)) == ("person", Decision.PASS)


def test_with_very_many_new_entries_a_decision_still_stands(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "MAX_NEWER", 2)
    bank = a_bank(db)
    told = decided(db, PICTURE, Decision.REVIEW)
    add(db, bank, LOOK, now=later(4))
    decisions.decide(db, "default", "user_mei", told.item_id, PASS, now=later(5))
    far = [NewEntry(MatchKind.PDQ, f"{number:064x}") for number in (1, 2, 3)]
    add(db, bank, *far, now=later(6))
    again = submit(db, PICTURE, 10)
    assert answer(again) is None
    # The older entry is near, the models would block: neither outranks who has looked.
    verdict = looked_at(db, again)
    assert (verdict.decided_by, verdict.decision) == ("person", Decision.PASS)
    assert answer(submit(db, PICTURE, 30)) == ("person", Decision.PASS)


def test_a_decision_made_meanwhile_outranks_the_models(db: Database) -> None:
    first = jobs.submit(db, PICTURE, now=later(0))
    by_a_person(db, PASS)
    verdict = looked_at(db, first)
    assert (verdict.decided_by, verdict.decision) == ("person", Decision.PASS)
    assert reviews.get(db, "default", first.item_id) is None


def test_a_decision_of_another_tenant_means_nothing(db: Database) -> None:
    by_a_person(db, PASS)
    elsewhere = replace(PICTURE, tenant="elsewhere")
    told = jobs.submit(db, elsewhere, dedupe_models=MODELS, now=later(10))
    assert answer(told) is None


def test_what_a_list_sends_to_people_waits_for_them(db: Database) -> None:
    bank = a_bank(db, decision=Decision.REVIEW)
    add(db, bank, bytes_of(PICTURE))
    told = submit(db, PICTURE)
    assert answer(told) == ("list", Decision.REVIEW)
    entry = reviews.get(db, "default", told.item_id)
    assert entry is not None
    assert (entry.state, entry.label, entry.score) == (ReviewState.OPEN, "porn.explicit", None)
    # The list goes on to ask, each time.
    decisions.decide(db, "default", "user_mei", told.item_id, PASS, now=later(5))
    entry = reviews.get(db, "default", told.item_id)
    assert entry is not None
    assert entry.state is ReviewState.DECIDED
    again = submit(db, PICTURE, 10)
    assert answer(again) == ("list", Decision.REVIEW)
    # Taken off the list, the person's word counts.
    (row,) = list_entries.entries_of(db, "default", bank.id).entries
    list_entries.remove_entry(db, "default", bank.id, row.id, actor=ACTOR, now=later(11))
    assert answer(submit(db, PICTURE, 12)) == ("person", Decision.PASS)


def test_what_looks_like_an_entry_waits_for_people_too(db: Database) -> None:
    add(db, a_bank(db, decision=Decision.REVIEW), LOOK)
    told = submit(db, PICTURE)
    assert answer(told) is None
    verdict = looked_at(db, told)
    assert (verdict.decided_by, verdict.decision) == ("list", Decision.REVIEW)
    entry = reviews.get(db, "default", told.item_id)
    assert entry is not None
    assert entry.state is ReviewState.OPEN
