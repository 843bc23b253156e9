"""How the work goes, on both databases."""

from __future__ import annotations

from datetime import timedelta

from moderation.store import decisions, jobs, reviews
from moderation.store.engine import Database
from moderation.store.insight import LabelRow, insight
from moderation.store.review_records import Action, Choice, ReviewFilter
from moderation.types import Decision
from tests.contract.store_data import NOW, new_item, result_for


def made(db: Database, content: object, decision: Decision, *, days_ago: int = 0) -> str:
    moment = NOW - timedelta(days=days_ago)
    found = jobs.submit(db, new_item(content), now=moment)
    claim = jobs.claim(db, found.job_id, "w", 30.0, now=moment)
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim, decision), now=moment)
    return found.item_id


def decided(db: Database, item_id: str, choice: Choice, *, after_s: float = 0.0) -> str:
    reviews.claim(db, "default", "user_1", item_id, now=NOW)
    then = NOW + timedelta(seconds=after_s)
    return decisions.decide(db, "default", "user_1", item_id, choice, now=then).decision.id


def test_nothing_is_nothing(db: Database) -> None:
    found = insight(db, "default", days=3, now=NOW)
    assert [day.total for day in found.days] == [0, 0, 0]
    assert (found.labels, found.people, found.automated) == ((), (), None)


def test_what_came_by_day_and_verdict(db: Database) -> None:
    made(db, 1, Decision.PASS)
    made(db, 2, Decision.BLOCK, days_ago=1)
    made(db, 3, Decision.REVIEW, days_ago=1)
    made(db, 4, Decision.PASS, days_ago=3)
    jobs.submit(db, new_item(5), now=NOW)
    jobs.submit(db, new_item(6, tenant="other"), now=NOW)
    found = insight(db, "default", days=3, now=NOW)
    assert [(day.passed, day.review, day.blocked, day.open) for day in found.days] == [
        (0, 0, 0, 0),
        (0, 1, 1, 0),
        (1, 0, 0, 1),
    ]
    assert found.days[-1].day == NOW.date()
    # One of three had to be looked at.
    assert found.automated is not None
    assert abs(found.automated - 2 / 3) < 1e-9


def test_how_often_the_models_were_right(db: Database) -> None:
    items = [made(db, number, Decision.REVIEW) for number in range(5)]
    decided(db, items[0], Choice(Action.BLOCK, "porn.explicit"), after_s=4)
    decided(db, items[1], Choice(Action.PASS), after_s=8)
    # Blocked, but not for what the models named.
    decided(db, items[2], Choice(Action.BLOCK, "violence.gore"), after_s=30)
    said = {"porn.explicit": True, "violence.gore": False}
    decided(db, items[3], Choice(Action.PASS, labels=said))
    undone = decided(db, items[4], Choice(Action.PASS))
    decisions.undo(db, "default", "user_1", undone, now=NOW + timedelta(seconds=1))
    found = insight(db, "default", days=1, now=NOW)
    assert found.labels == (LabelRow("porn.explicit", 2, 2), LabelRow("violence.gore", 0, 1))
    assert found.labels[0].precision == 0.5
    assert found.actions == {"block": 2, "pass": 2}
    (person,) = found.people
    assert (person.actor, person.made, person.undone, person.seconds) == ("user_1", 5, 1, 4.0)
    assert reviews.queue(db, "default", ReviewFilter()).rows[0].item_id == items[4]
