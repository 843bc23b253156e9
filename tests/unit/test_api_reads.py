"""Items, jobs, policies and models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from moderation.policy import load_policies
from moderation.store import jobs
from moderation.store.records import Claim
from moderation.types import Verdict
from tests.fakes.gateway import MODEL, Gate, fake_verdict, png, running


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home") as gate:
        yield gate


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def ids(gate: Gate, query: str = "") -> list[str]:
    response = gate.client.get(f"/v1/items{query}")
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_an_item_has_its_verdict_and_history(gate: Gate) -> None:
    verdict = gate.post(png(4, 3), "?data_id=d").json()
    item = gate.client.get(f"/v1/items/{verdict['id']}").json()
    assert item["verdict"] == verdict
    assert item["history"] == [verdict]
    assert (item["state"], item["data_id"], item["job_id"]) == ("done", "d", verdict["job_id"])
    media = item["media"]
    assert (media["format"], media["width"], media["height"]) == ("png", 4, 3)
    assert datetime.fromisoformat(item["created"]).tzinfo is not None


def test_pages_hold_every_item_once_newest_first(gate: Gate) -> None:
    made = [gate.post(png(shade=i)).json()["id"] for i in range(7)]
    seen: list[str] = []
    query = "?limit=3"
    while True:
        page = gate.client.get(f"/v1/items{query}").json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=3&cursor={quote(page['next_cursor'])}"
    assert seen == made[::-1]


def test_filters(idle: Gate) -> None:
    def blocked(claim: Claim) -> Verdict:
        reason = {
            "category": "violence",
            "label": "violence.weapon",
            "score": 0.99,
            "decision": "block",
            "threshold": 0.9,
        }
        told = fake_verdict(claim).to_json() | {"decision": "block", "reasons": [reason]}
        return Verdict.model_validate(told)

    waiting = idle.post(png(shade=1), "?wait=0&data_id=w").json()
    passed = idle.post(png(shade=2), "?wait=0&data_id=p").json()
    named = {"file": ("gun.jpg", png(shade=3))}
    block = idle.client.post("/v1/images?wait=0", files=named).json()
    idle.stack.finish_one(passed["job_id"])
    idle.stack.finish_one(block["job_id"], blocked)

    assert ids(idle, "?state=queued") == [waiting["id"]]
    assert ids(idle, "?decision=pass") == [passed["id"]]
    assert ids(idle, "?decision=block") == [block["id"]]
    assert ids(idle, "?label=violence.weapon") == [block["id"]]
    assert ids(idle, "?label=violence.fire") == []
    assert ids(idle, "?data_id=w") == [waiting["id"]]
    assert ids(idle, "?source=gun.jpg") == [block["id"]]
    assert ids(idle, "?status=done&decision=pass") == [passed["id"]]
    assert ids(idle, "?status=failed") == []


def test_since_and_until_speak_of_the_submission(gate: Gate) -> None:
    made = gate.post(png()).json()["id"]
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    before, after = (quote((now + d).isoformat()) for d in (-hour, hour))
    assert ids(gate, f"?since={before}&until={after}") == [made]
    assert ids(gate, f"?since={after}") == []
    assert ids(gate, f"?until={before}") == []
    naive = (now - hour).replace(tzinfo=None).isoformat(timespec="seconds")
    assert ids(gate, f"?since={naive}") == [made], "no zone means UTC"


def test_a_job_tells_its_state(idle: Gate) -> None:
    made = idle.post(png(), "?wait=0").json()
    job = idle.client.get(f"/v1/jobs/{made['job_id']}").json()
    assert (job["state"], job["item_id"], job["attempt"]) == ("queued", made["id"], 0)
    idle.stack.finish_one(made["job_id"])
    job = idle.client.get(f"/v1/jobs/{made['job_id']}").json()
    assert (job["state"], job["attempt"]) == ("done", 1)


def test_cancelling_a_waiting_job_gives_a_verdict_and_wakes(idle: Gate) -> None:
    made = idle.post(png(), "?wait=0").json()
    path = f"/v1/jobs/{made['job_id']}"
    response = idle.client.delete(path)
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    verdict = idle.client.get(f"/v1/items/{made['id']}").json()["verdict"]
    assert (verdict["status"], verdict["decision"]) == ("cancelled", "review")
    assert idle.stack.waker.woken == [made["job_id"]]
    assert idle.client.delete(path).status_code == 200, "twice is fine"


def test_cancelling_a_running_job_is_a_request(idle: Gate) -> None:
    made = idle.post(png(), "?wait=0").json()
    assert jobs.claim(idle.stack.db, made["job_id"], "somebody", 30.0) is not None
    response = idle.client.delete(f"/v1/jobs/{made['job_id']}")
    assert response.status_code == 202
    assert (response.json()["state"], response.json()["cancel_requested"]) == ("running", True)


def test_cancelling_an_ended_job_is_409(gate: Gate) -> None:
    verdict = gate.post(png()).json()
    response = gate.client.delete(f"/v1/jobs/{verdict['job_id']}")
    assert (response.status_code, response.json()["code"]) == (409, "job_ended")


def test_policies(gate: Gate) -> None:
    policies = gate.client.get("/v1/policies").json()["policies"]
    assert {p["id"] for p in policies} >= {"default", "strict", "lenient"}
    assert [p["id"] for p in policies if p["default"]] == ["default"]
    assert all(p["rules"] and p["ref"] == f"{p['id']}@{p['version']}" for p in policies)


def test_models_are_those_of_ready_workers_each_once(gate: Gate) -> None:
    assert gate.client.get("/v1/models").json() == {"models": []}
    other = {"id": "other", "version": "2"}
    gate.stack.worker(id="infer-a")
    gate.stack.worker(id="infer-b", models=[MODEL, other])
    gate.stack.worker(id="infer-c", state="starting", models=[{"id": "late", "version": "1"}])
    gate.stack.forget_counts()
    models = gate.client.get("/v1/models").json()["models"]
    assert [(m["id"], m["workers"]) for m in models] == [("fake", 2), ("other", 1)]
    assert models[0]["licence"] == "Apache-2.0"


def test_labels_are_told_with_those_who_answer_them(gate: Gate) -> None:
    def told() -> dict[str, dict[str, object]]:
        return {one["label"]: one for one in gate.client.get("/v1/labels").json()["labels"]}

    before = told()
    assert before["smoking.vape"]["accuracy"] == "unmeasured"
    assert {name: one["models"] for name, one in before.items() if one["models"]} == {}
    named = {rule.label for policy in load_policies().values() for rule in policy.rules}
    assert named <= set(before), "what a shipped policy names has a name here"
    assert all(one["summary"] for one in before.values())

    gate.stack.worker(id="infer-a")
    gate.stack.worker(
        id="infer-b",
        models=[MODEL, {"id": "mine", "version": "2", "labels": ["smoking.vape", "pets.cat"]}],
    )
    gate.stack.forget_counts()
    after = told()
    assert after["smoking.vape"]["models"] == ["mine@2"]
    assert after["pets.cat"] == {
        "label": "pets.cat",
        "category": "pets",
        "summary": None,
        "accuracy": "unmeasured",
        "models": ["mine@2"],
    }
    assert list(after) == sorted(after)
