"""Decisions as a labelled set, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from moderation.store import decisions, labelled
from moderation.store.engine import Database
from moderation.store.labelled import Wanted
from moderation.store.review_records import Action, Choice
from moderation.types import Decision
from tests.contract.list_data import decided, later
from tests.contract.store_data import new_item

GORE = Choice(Action.BLOCK, "violence.gore", labels={"porn.explicit": False})
PASS = Choice(Action.PASS)


def choose(db: Database, content: object, choice: Choice, at: float, **changes: Any) -> str:
    told = decided(db, new_item(content, **changes), Decision.REVIEW)
    again(db, told.item_id, choice, at)
    return told.item_id


def again(db: Database, item_id: str, choice: Choice, at: float) -> str:
    made = decisions.decide(db, "default", "user_1", item_id, choice, now=later(at))
    return made.decision.id


@pytest.fixture
def items(db: Database) -> dict[str, str]:
    found = {
        "gore": choose(db, 1, GORE, 10),
        "anew": choose(db, 2, GORE, 20),
        "passed": choose(db, 3, PASS, 30),
        "escalated": choose(db, 4, Choice(Action.ESCALATE), 40),
        "undone": choose(db, 5, PASS, 50),
    }
    again(db, found["anew"], Choice(Action.BLOCK, "porn.explicit"), 60)
    (made,) = decisions.of_item(db, "default", found["undone"])
    decisions.undo(db, "default", "user_1", made.id, now=later(55))
    return found


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), ["gore", "passed", "anew"]),
        (Wanted(since=later(10), until=later(30)), ["gore"]),
        (Wanted(since=later(30)), ["passed", "anew"]),
        (Wanted(action=Action.PASS), ["passed"]),
        (Wanted(action=Action.BLOCK), ["gore", "anew"]),
        (Wanted(label="violence.gore"), ["gore"]),
        (Wanted(label="porn.explicit"), ["gore", "anew"]),
        (Wanted(label="porn.explicit", until=later(60)), ["gore"]),
        (Wanted(label="smoking.vape"), []),
    ],
)
def test_what_is_wanted_comes_by_time_and_is_counted(
    db: Database, items: dict[str, str], wanted: Wanted, names: list[str]
) -> None:
    found = list(labelled.labelled(db, "default", wanted))
    assert [row.item_id for row in found] == [items[name] for name in names]
    assert labelled.count(db, "default", wanted) == len(names)
    assert list(labelled.labelled(db, "other", wanted)) == []
    assert labelled.count(db, "other", wanted) == 0


def test_it_is_read_in_batches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [choose(db, n, PASS, 10 + n) for n in range(5)]
    monkeypatch.setattr(labelled, "BATCH", 2)
    assert [row.item_id for row in labelled.labelled(db, "default")] == made


def test_a_row_says_what_the_models_had_said(db: Database) -> None:
    item_id = choose(db, 1, GORE, 10, data_id="d-1")
    (row,) = labelled.labelled(db, "default")
    assert (row.item_id, row.data_id, row.action, row.label) == (
        item_id,
        "d-1",
        Action.BLOCK,
        "violence.gore",
    )
    assert (row.labels, row.flagged) == ({"porn.explicit": "rejected"}, ("porn.explicit",))
    assert row.created == later(0) + timedelta(seconds=10)
