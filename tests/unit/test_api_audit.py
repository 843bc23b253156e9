"""The audit over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moderation.store import audits
from tests.fakes.gateway import Gate, running


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def test_it_is_read_in_pages_and_by_what_one_asks_for(gate: Gate) -> None:
    db = gate.stack.db
    for number in range(5):
        audits.note(db, "default", f"user_{number % 2}", "item.view", f"item_{number}")
    audits.note(db, "default", "user_0", "item.reveal", "item_0", detail={"way": "held"})
    audits.note(db, "other", "user_0", "item.view", "item_9")

    def asked(query: str) -> list[str]:
        found = gate.client.get(f"/v1/audit?{query}").json()
        return [act["target"] for act in found["acts"]]

    first = gate.client.get("/v1/audit?limit=4&action=item.").json()
    assert [act["action"] for act in first["acts"]] == ["item.reveal"] + 3 * ["item.view"]
    assert first["acts"][0]["detail"] == {"way": "held"}
    rest = gate.client.get(f"/v1/audit?action=item.&before={first['next_before']}").json()
    assert [act["target"] for act in rest["acts"]] == ["item_1", "item_0"]
    assert rest["next_before"] is None
    assert asked("actor=user_1") == ["item_3", "item_1"]
    assert asked("action=item.reveal") == ["item_0"]
    assert asked("action=item") == []
    assert asked("target=item_9") == []
