"""Reviews over HTTP: the queue, claims, decisions and their undoing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.store import items
from moderation.store.submit import submit
from moderation.types import Decision
from tests.contract.store_data import new_item
from tests.fakes.browsing import audited, waiting
from tests.fakes.gateway import Gate, running

BLOCK = {"action": "block", "label": "porn.explicit", "note": "for colleagues alone"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def make(gate: Gate, content: object, score: float = 0.6, **changes: Any) -> str:
    return waiting(gate.stack.db, content, score, **changes)


def told(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_queue_is_listed_in_pages_and_counted(gate: Gate) -> None:
    made = [make(gate, number) for number in range(3)]
    first = told(gate.client.get("/v1/reviews?limit=2"))
    rest = told(gate.client.get(f"/v1/reviews?limit=2&after={first['next_after']}"))
    rows = [*first["reviews"], *rest["reviews"]]
    assert [row["item_id"] for row in rows] == made
    assert rest["next_after"] is None
    assert {(row["state"], row["label"], row["score"]) for row in rows} == {
        ("open", "porn.explicit", 0.6)
    }
    counts = told(gate.client.get("/v1/reviews/counts"))
    assert (counts["open"], counts["by_label"]) == (3, {"porn.explicit": 3})
    assert counts["audits"] == 0


def test_audits_are_listed_last_and_counted_apart(gate: Gate) -> None:
    drawn, asked = audited(gate.stack.db, 1), make(gate, 2)
    rows = told(gate.client.get("/v1/reviews"))["reviews"]
    assert [(row["item_id"], row["audit"]) for row in rows] == [(asked, False), (drawn, True)]
    for query, found in (("audit=true", drawn), ("audit=false", asked)):
        (row,) = told(gate.client.get(f"/v1/reviews?{query}"))["reviews"]
        assert row["item_id"] == found
    counts = told(gate.client.get("/v1/reviews/counts"))
    assert (counts["open"], counts["audits"]) == (1, 1)
    # For whoever uploaded it, it is a pass like any other.
    verdict = told(gate.client.get(f"/v1/items/{drawn}"))["verdict"]
    assert (verdict["decision"], verdict["decided_by"]) == ("pass", "policy")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("label=porn.explicit", 2),
        ("label=violence.gore", 0),
        ("source=feed", 1),
        ("min_score=0.7", 1),
        ("max_score=0.7", 1),
        ("min_score=0.7&source=feed", 0),
        ("kind=video", 0),
        ("state=decided", 0),
        ("policy_ref=default@1", 2),
        ("since=2099-01-01T00:00:00Z", 0),
        (f"sha256={'0' * 64}", 0),
        ("escalated=true", 0),
    ],
)
def test_filters(gate: Gate, query: str, found: int) -> None:
    make(gate, 1, 0.6, source="feed")
    make(gate, 2, 0.8)
    assert len(told(gate.client.get(f"/v1/reviews?{query}"))["reviews"]) == found


@pytest.mark.parametrize(
    "query", ["state=x", "min_score=2", "min_score=nan", "sha256=x", "kind=live", "limit=0"]
)
def test_filters_that_make_no_sense_are_refused(gate: Gate, query: str) -> None:
    assert told(gate.client.get(f"/v1/reviews?{query}"), 422)["code"] == "input_invalid"


def test_two_keys_get_different_items(gate: Gate) -> None:
    made = [make(gate, number) for number in range(2)]
    mine, others = (gate.stack.key("review:write") for _ in range(2))
    first = told(gate.client.post("/v1/reviews/next", headers=mine))
    second = told(gate.client.post("/v1/reviews/next", headers=others))
    assert {first["item_id"], second["item_id"]} == set(made)
    assert first["claimed_by"].startswith("key_")
    path = f"/v1/reviews/{first['item_id']}"
    refused = told(gate.client.put(f"{path}/claim", headers=others), 409)
    assert refused["code"] == "claimed"
    refused = told(gate.client.post(f"{path}/decision", json=BLOCK, headers=others), 409)
    assert refused["code"] == "claimed"
    assert gate.client.delete(f"{path}/claim", headers=mine).status_code == 204
    assert told(gate.client.put(f"{path}/claim", headers=others))["item_id"] == first["item_id"]
    assert gate.client.post("/v1/reviews/next", headers=mine).status_code == 204
    nothing = gate.client.post("/v1/reviews/next?label=violence.gore", headers=mine)
    assert nothing.status_code == 204


def test_a_decision_is_in_force_until_it_is_undone(gate: Gate) -> None:
    item_id = make(gate, "a")
    path = f"/v1/reviews/{item_id}"
    gate.client.put(f"{path}/claim")
    labels = {"porn.explicit": True, "violence.gore": False}
    done = told(gate.client.post(f"{path}/decision", json=BLOCK | {"labels": labels}))
    assert (done["verdict"], done["decision"]["note"]) == ("block", BLOCK["note"])
    assert done["decision"]["labels"] == {"porn.explicit": "confirmed", "violence.gore": "rejected"}
    item = told(gate.client.get(f"/v1/items/{item_id}"))
    assert (item["verdict"]["decision"], item["verdict"]["decided_by"]) == ("block", "person")
    assert "colleagues" not in str(item)
    again = submit(gate.stack.db, new_item("a"))
    assert again.verdict is not None
    undone = f"/v1/reviews/decisions/{done['decision']['id']}"
    assert gate.client.delete(undone).status_code == 204
    assert told(gate.client.delete(undone), 409)["code"] == "undo_done"
    verdict = items.get_item(gate.stack.db, "default", item_id).verdict
    assert verdict is not None
    assert (verdict.decision, verdict.decided_by) == (Decision.REVIEW, "policy")
    (kept,) = told(gate.client.get(f"{path}/decisions"))["decisions"]
    assert kept["undone"] is not None
    assert item_id in gate.stack.waker.woken


def test_what_is_escalated_waits_on_top(gate: Gate) -> None:
    first, second = make(gate, 1), make(gate, 2)
    done = told(gate.client.post(f"/v1/reviews/{second}/decision", json={"action": "escalate"}))
    assert done["verdict"] == "review"
    rows = told(gate.client.get("/v1/reviews"))["reviews"]
    assert [(row["item_id"], row["escalated"]) for row in rows] == [(second, True), (first, False)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "delete"},
        {"action": "block", "label": "x"},
        {"action": "pass", "labels": {"x": True}},
        {"action": "pass", "note": "x" * 2001},
        {"action": "pass", "who": "me"},
    ],
)
def test_decisions_that_make_no_sense_are_refused(gate: Gate, body: dict[str, Any]) -> None:
    item_id = make(gate, 1)
    answer = gate.client.post(f"/v1/reviews/{item_id}/decision", json=body)
    assert told(answer, 422)["code"] == "input_invalid"
    assert told(gate.client.get("/v1/reviews"))["reviews"][0]["state"] == "open"


def test_what_is_not_there_is_404(gate: Gate) -> None:
    nobody = "item_" + "0" * 32
    for answer in (
        gate.client.put(f"/v1/reviews/{nobody}/claim"),
        gate.client.post(f"/v1/reviews/{nobody}/decision", json=BLOCK),
        gate.client.get(f"/v1/reviews/{nobody}/decisions"),
        gate.client.get(f"/v1/reviews?after={nobody}"),
        gate.client.delete("/v1/reviews/decisions/decision_" + "0" * 32),
    ):
        assert told(answer, 404)["code"] == "not_found"
    other = gate.stack.key("review:write", "results:read", tenant="other")
    mine = make(gate, 1)
    answer = gate.client.post(f"/v1/reviews/{mine}/decision", json=BLOCK, headers=other)
    assert told(answer, 404)["code"] == "not_found"
    form = gate.client.post(f"/v1/reviews/{mine}/decision", data={"action": "pass"})
    assert told(form, 415)["code"] == "unsupported_content_type"


def test_decisions_are_exported_as_a_labelled_set(gate: Gate) -> None:
    ids = [make(gate, number, data_id=f"d-{number}") for number in range(4)]
    for item_id, body in zip(
        ids,
        (BLOCK, {"action": "pass", "labels": {"porn.explicit": False}}, {"action": "escalate"}),
        strict=False,
    ):
        told(gate.client.post(f"/v1/reviews/{item_id}/decision", json=body))
    # Decided anew: the last one counts. Taken back: none does.
    told(gate.client.post(f"/v1/reviews/{ids[0]}/decision", json={"action": "pass"}))
    drawn = audited(gate.stack.db, 9)
    told(gate.client.post(f"/v1/reviews/{drawn}/decision", json=BLOCK))
    undone = told(gate.client.post(f"/v1/reviews/{ids[3]}/decision", json=BLOCK))
    gate.client.delete(f"/v1/reviews/decisions/{undone['decision']['id']}")

    answer = gate.client.get("/v1/reviews/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    rows = {row["item_id"]: row for row in map(json.loads, answer.text.splitlines())}
    assert {key: row["audit"] for key, row in rows.items()} == {
        ids[0]: False,
        ids[1]: False,
        drawn: True,
    }
    first, second = rows[ids[0]], rows[ids[1]]
    assert (first["action"], first["label"], first["data_id"]) == ("pass", None, "d-0")
    assert (second["labels"], second["flagged"]) == (
        {"porn.explicit": "rejected"},
        ["porn.explicit"],
    )
    assert second["scores"] == {"porn.explicit": 0.6, "violence.gore": 0.1}
    assert second["still"] == f"/v1/items/{ids[1]}/derivatives/picture.webp"
    assert gate.client.get("/v1/reviews/export?since=2099-01-01T00:00:00Z").text == ""
    some = gate.client.get("/v1/reviews/export?label=porn.explicit&action=pass").text
    assert [json.loads(line)["item_id"] for line in some.splitlines()] == [ids[1]]
    assert gate.client.get("/v1/reviews/export?action=escalate").status_code == 422
    acts = gate.client.get("/v1/audit?action=review.export").json()["acts"]
    assert [one["detail"] for one in acts] == [
        {"action": "pass", "label": "porn.explicit"},
        {"since": "2099-01-01T00:00:00+00:00"},
        {},
    ]
