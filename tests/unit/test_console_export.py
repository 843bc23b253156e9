"""Decisions as a file, and what is kept for how long: pages for admins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.store import audits, decisions, retained
from moderation.store.engine import Database
from moderation.store.review_records import Action, Choice, Role
from tests.fakes.browsing import signed_in, waiting
from tests.fakes.gateway import Gate, running


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def page(answer: httpx.Response, status: int = 200) -> str:
    assert answer.status_code == status, answer.text
    return answer.text


def decided(db: Database, content: object, choice: Choice, **changes: Any) -> str:
    item_id = waiting(db, content, **changes)
    decisions.decide(db, changes.get("tenant", "default"), "user_1", item_id, choice)
    return item_id


@pytest.fixture
def three(gate: Gate) -> dict[str, str]:
    db = gate.stack.db
    decided(db, 4, Choice(Action.ESCALATE))
    decided(db, 5, Choice(Action.PASS), tenant="other")
    return {
        "blocked": decided(db, 1, Choice(Action.BLOCK, "violence.gore")),
        "passed": decided(db, 2, Choice(Action.PASS)),
        "rejected": decided(db, 3, Choice(Action.PASS, labels={"porn.explicit": False})),
    }


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({}, {"blocked", "passed", "rejected"}),
        ({"action": "block"}, {"blocked"}),
        ({"action": "pass", "label": ""}, {"passed", "rejected"}),
        ({"label": "porn.explicit"}, {"rejected"}),
        ({"label": "violence.gore"}, {"blocked"}),
        ({"label": "violence.gore", "action": "pass"}, set()),
        ({"since": "2099-01-01T00:00"}, set()),
        ({"since": "2020-01-01T00:00", "until": "2099-01-01"}, {"blocked", "passed", "rejected"}),
    ],
)
def test_what_is_chosen_is_counted_and_comes(
    gate: Gate, three: dict[str, str], chosen: dict[str, str], wanted: set[str]
) -> None:
    admin = signed_in(gate, "root", Role.ADMIN)
    query = "&".join(f"{name}={value}" for name, value in chosen.items())
    html = page(admin.get(f"/console/export?{query}"))
    assert f"<b>{len(wanted)}</b> decisions" in html
    assert ('<button class="primary" disabled>' in html) is (not wanted)
    answer = admin.post("/console/export", chosen)
    lines = [json.loads(line) for line in page(answer).splitlines()]
    assert {line["item_id"] for line in lines} == {three[name] for name in wanted}
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert answer.headers["cache-control"] == "no-store"


def test_an_export_is_kept_in_the_audit_with_what_was_chosen(gate: Gate) -> None:
    admin = signed_in(gate, "root", Role.ADMIN)
    page(admin.get("/console/export?action=block"))
    assert audits.page(gate.stack.db, "default", action="review.export") == []
    page(admin.post("/console/export", {"action": "block", "since": "2026-01-31T12:00"}))
    (row,) = audits.page(gate.stack.db, "default", action="review.export")
    assert row.detail == {"action": "block", "since": "2026-01-31T12:00:00+00:00"}
    assert row.actor.startswith("user_")


@pytest.mark.parametrize("query", ["action=escalate", "label=x", "since=yesterday", "until=1"])
def test_what_cannot_be_read_is_named_and_nothing_comes(gate: Gate, query: str) -> None:
    admin = signed_in(gate, "root", Role.ADMIN)
    name, _, value = query.partition("=")
    assert name in page(admin.get(f"/console/export?{query}"), 422)
    assert name in page(admin.post("/console/export", {name: value}), 422)
    assert audits.page(gate.stack.db, "default", action="review.export") == []


class TestRetention:
    def test_it_says_what_goes_when_and_by_which_setting(self, tmp_path: Path) -> None:
        changes = {"retain_days": 2.5, "upload_expiry": 5400, "sweep_seconds": 7}
        with running(tmp_path / "own", finish=False, **changes) as gate:
            waiting(gate.stack.db, 1)
            admin = signed_in(gate, "root", Role.ADMIN)
            html = page(admin.get("/console/retention"))
            assert html.count("MODERATION_RETAIN_DAYS") == 4
            assert "2.5 days" in html
            assert re.search(r"1\.5 hours</td><td><code>MODERATION_UPLOAD_EXPIRY</code>", html)
            assert "7 (<code>MODERATION_SWEEP_SECONDS</code>)" in html
            assert "No media worker" in html
            gate.stack.worker(id="media-1", role="media")
            html = page(admin.get("/console/retention"))
            assert "No media worker" not in html
            assert "sign of life of a media worker: <time" in html

    def test_it_counts_what_waits_and_what_is_old(
        self, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = retained.Retained(11, 12, 13, 14, 15, 16, 17, 18, retained.MOST + 1)
        asked: list[tuple[str, float]] = []

        def count(_db: Database, tenant: str, *, before: datetime, now: datetime) -> object:
            asked.append((tenant, (now - before).total_seconds()))
            return told

        monkeypatch.setattr(retained, "retained", count)
        html = page(signed_in(gate, "root", Role.ADMIN).get("/console/retention"))
        shown = [number for number in range(11, 19) if re.search(rf">{number}</(td|b)>", html)]
        assert shown == list(range(11, 19))
        assert f"&gt; {retained.MOST}</td>" in html
        assert asked == [("default", gate.stack.settings.retain_days * 86400)]
