"""Scores of lately against those of before, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from moderation.store import jobs, score_samples
from moderation.store.engine import Database
from moderation.store.score_samples import SLOT, Drifts, answering, drifts
from tests.contract.store_data import NOW, new_item, result_for

LIMITS = {"porn.explicit": (0.5, 0.9), "violence.gore": (0.5, None)}


def scored(
    db: Database,
    number: int,
    score: float,
    *,
    days_ago: float,
    models: tuple[str, ...] = ("a@1", "b@2"),
    kind: str = "image",
    tenant: str = "default",
) -> None:
    """Two labels; the second scores a tenth of the first."""
    moment = NOW - timedelta(days=days_ago)
    new = new_item(number, tenant=tenant)
    new = replace(new, media=replace(new.media, kind=kind))
    found = jobs.submit(db, new, now=moment)
    claim = jobs.claim(db, found.job_id, "w", 30.0, now=moment)
    assert claim is not None
    done = result_for(claim)
    assert done.scores is not None
    values = np.zeros_like(done.scores.values)
    values[-1] = score, score / 10
    packed = replace(done.scores, values=values, models=models)
    assert jobs.finish(db, claim, replace(done, scores=packed), now=moment)


def asked(db: Database, **answers: tuple[str, ...]) -> Drifts:
    return drifts(db, "default", LIMITS, answers, now=NOW)


def test_nothing_is_nothing(db: Database) -> None:
    found = asked(db)
    assert (found.before, found.after, found.rows) == (0, 0, ())
    assert NOW - found.since == timedelta(days=7)
    assert NOW - found.begun == timedelta(days=35)


def test_peaks_of_lately_and_of_before(db: Database) -> None:
    scored(db, 1, 0.8, days_ago=0)
    scored(db, 2, 0.97, days_ago=6.9)
    scored(db, 3, 0.2, days_ago=7.1)
    scored(db, 4, 0.6, days_ago=34.9)
    scored(db, 5, 0.9, days_ago=35.1)
    scored(db, 6, 0.9, days_ago=1, tenant="other")
    found = asked(db)
    assert (found.before, found.after) == (2, 2)
    porn, gore = found.rows
    assert (porn.kind, porn.label, porn.models) == ("image", "porn.explicit", ("a@1", "b@2"))
    assert (porn.compared.before.count, porn.compared.after.count) == (2, 2)
    assert porn.compared.after.shares[16] == porn.compared.after.shares[19] == 0.5
    assert porn.compared.reading == "few"
    assert [(one.decision, one.before, one.after) for one in porn.above] == [
        ("review", 0.5, 1.0),
        ("block", 0.0, 0.5),
    ]
    assert [(one.decision, one.limit) for one in gore.above] == [("review", 0.5)]


def test_films_and_other_models_stand_apart(db: Database) -> None:
    scored(db, 1, 0.8, days_ago=0)
    scored(db, 2, 0.8, days_ago=1, kind="video")
    scored(db, 3, 0.8, days_ago=9, models=("a@1", "b@1"))
    found = [(row.kind, row.models) for row in asked(db).rows if row.label == "porn.explicit"]
    assert found == [
        ("image", ("a@1", "b@1")),
        ("image", ("a@1", "b@2")),
        ("video", ("a@1", "b@2")),
    ]
    # Known: another version of a model that does not answer the label changes nothing.
    told = asked(db, a=("porn.explicit",), b=("violence.gore",)).rows
    assert [(row.kind, row.label, row.models) for row in told] == [
        ("image", "porn.explicit", ("a@1",)),
        ("video", "porn.explicit", ("a@1",)),
        ("image", "violence.gore", ("b@1",)),
        ("image", "violence.gore", ("b@2",)),
        ("video", "violence.gore", ("b@2",)),
    ]


def test_the_sample_is_bounded_and_spread(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_samples, "OF_A_SLOT", 2)
    slot = SLOT / timedelta(days=1)
    for number in range(5):
        # The newest two are high.
        score = 0.92 if number < 2 else 0.1
        scored(db, number, score, days_ago=slot * number / 10)
        scored(db, 10 + number, score, days_ago=10 + slot * number / 10)
    scored(db, 20, 0.92, days_ago=20)
    found = asked(db)
    assert (found.before, found.after) == (3, 2)
    row = found.rows[0].compared
    assert row.before.shares[18] == row.after.shares[18] == 1


def test_large_films_make_the_sample_smaller(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        scored(db, number, 0.9, days_ago=number)
    plain = score_samples.thinned
    # Each has two views.
    monkeypatch.setattr(score_samples, "thinned", lambda drawn: plain(drawn, 6))
    assert asked(db).after == 3
    monkeypatch.setattr(score_samples, "thinned", lambda drawn: plain(drawn, 12))
    assert asked(db).after == 6


def test_who_answers_a_label() -> None:
    models = ("a@1", "b@2", "c@1")
    known = {"a": ("x",), "b": ("y",)}
    assert answering(models, "x", known) == ("a@1", "c@1")
    assert answering(("a@1", "b@2"), "y", known) == ("b@2",)
    assert answering(("a@1", "b@2"), "z", known) == ("a@1", "b@2")
    assert answering(models, "x", {}) == models
