"""Policies by the API: published, rolled back, tried, watched in shadow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.policy import load_policies
from tests.contract.test_store_policies import judge
from tests.fakes.gateway import Gate, png, running

AT = "/v1/policies/default"
RULES = [{"label": "porn.explicit", "review_at": 0.2, "block_at": 0.3}]
SHIPPED = load_policies()["default"]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home") as gate:
        yield gate


def told(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def refused(answer: httpx.Response, status: int) -> str:
    return str(told(answer, status)["code"])


def publish(gate: Gate, status: int = 201, at: str = AT, **body: Any) -> Any:
    return told(gate.client.post(f"{at}/versions", json={"rules": RULES} | body), status)


def judged_by(gate: Gate, policy: str = "default") -> str:
    """The policy of the job that an upload makes."""
    job_id = gate.post(png(), f"?policy={policy}").json()["job_id"]
    return str(told(gate.client.get(f"/v1/jobs/{job_id}"))["policy"])


def test_what_is_published_holds_for_the_next_upload(gate: Gate) -> None:
    assert told(gate.client.get(AT))["ref"] == SHIPPED.ref
    assert told(gate.client.get(f"{AT}/versions")) == {"versions": []}
    made = publish(gate, note="stricter", based_on=SHIPPED.version)
    assert (made["ref"], made["note"], made["streams"]) == ("default@5", "stricter", 0)
    assert told(gate.client.get(AT))["rules"][0]["review_at"] == 0.2
    assert "default@5" in [one["ref"] for one in told(gate.client.get("/v1/policies"))["policies"]]
    assert judged_by(gate) == "default@5"
    assert judged_by(gate, policy=SHIPPED.ref) == SHIPPED.ref
    newest, oldest = told(gate.client.get(f"{AT}/versions"))["versions"]
    assert {"label": None, "field": "summary", "before": SHIPPED.summary, "after": ""} in newest[
        "changes"
    ]
    assert {
        "label": "porn.explicit",
        "field": "review_at",
        "before": 0.7,
        "after": 0.2,
    } in newest["changes"]
    assert (oldest["by"], oldest["version"], oldest["changes"]) == ("file", SHIPPED.version, [])


def test_who_has_not_seen_what_is_in_force_publishes_nothing(gate: Gate) -> None:
    publish(gate)
    assert publish(gate, 409, based_on=SHIPPED.version, summary="x")["code"] == "policy_changed"
    assert publish(gate, 422)["code"] == "policy_same"
    assert publish(gate, summary="other")["version"] == 6


def test_a_policy_that_there_is_not_is_made(gate: Gate) -> None:
    assert refused(gate.client.get("/v1/policies/mine"), 404) == "not_found"
    assert publish(gate, at="/v1/policies/mine")["ref"] == "mine@1"
    assert judged_by(gate, policy="mine") == "mine@1"


def test_an_earlier_version_is_published_anew(gate: Gate) -> None:
    publish(gate)
    body = {"version": SHIPPED.version, "note": "too strict"}
    made = told(gate.client.post(f"{AT}/roll-back", json=body), 201)
    assert (made["ref"], made["restores"]) == ("default@6", SHIPPED.version)
    assert len(told(gate.client.get(AT))["rules"]) == len(SHIPPED.rules)
    assert refused(gate.client.post(f"{AT}/roll-back", json=body), 422) == "policy_same"
    assert refused(gate.client.post(f"{AT}/roll-back", json={"version": 99}), 404) == "not_found"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rules": []}, "rules"),
        ({"rules": [{"label": "porn.explicit"}]}, "no threshold"),
        ({"rules": RULES * 2}, "two rules"),
        ({"rules": [{"label": "a.b", "review_at": 0.9, "block_at": 0.1}]}, "above block_at"),
        ({"rules": [{"label": "a.b", "review_at": 7}]}, "less than or equal to 1"),
        ({"rules": RULES, "colour": "red"}, "colour"),
        ({"rules": RULES, "based_on": 0}, "based_on"),
        ({"rules": RULES, "note": ""}, "note"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(
    gate: Gate, body: dict[str, Any], words: str
) -> None:
    answer = told(gate.client.post(f"{AT}/versions", json=body), 422)
    assert words in answer["detail"]
    assert "\n" not in answer["detail"]
    assert told(gate.client.get(AT))["ref"] == SHIPPED.ref


def test_what_would_change(gate: Gate) -> None:
    for number in range(30):
        judge(gate.stack.db, number, SHIPPED)
    body = {"draft": {"rules": RULES}, "last": 20}
    found = told(gate.client.post(f"{AT}/what-if", json=body))
    assert (found["policy"], found["considered"]) == (SHIPPED.ref, 20)
    assert found["checked"] == found["alike"] == 20
    for side in ("now", "then"):
        assert sum(found["decisions"][side].values()) == 20
    assert set(found["decisions"]["now"]) == {"pass", "review", "block"}
    assert found["changed"] == sum(move["items"] for move in found["moves"]) > 0
    assert told(gate.client.get(AT))["ref"] == SHIPPED.ref
    publish(gate)
    back = told(gate.client.post(f"{AT}/what-if", json={"version": SHIPPED.version, "last": 20}))
    assert back["moves"] == [
        {"now": move["then"], "then": move["now"], "items": move["items"]}
        for move in sorted(found["moves"], key=lambda move: (move["then"], move["now"]))
    ]
    for wrong in ({}, {"draft": {"rules": RULES}, "version": 4}, body | {"last": 0}):
        told(gate.client.post(f"{AT}/what-if", json=wrong), 422)
    assert refused(gate.client.post("/v1/policies/none/what-if", json=body), 404) == "not_found"
    assert refused(gate.client.post(f"{AT}/what-if", json={"version": 77}), 404) == "not_found"


def test_labels_that_nobody_answers_are_told(gate: Gate) -> None:
    models = [{"id": "m", "version": 1, "labels": ["porn.explicit"]}]
    gate.stack.worker(models=models)
    rules = [*RULES, {"label": "violence.riot", "review_at": 0.5}]
    found = told(gate.client.post(f"{AT}/what-if", json={"draft": {"rules": rules}}))
    assert found["unanswered"] == ["violence.riot"]


def test_what_is_watched_in_shadow(gate: Gate) -> None:
    assert refused(gate.client.get(f"{AT}/shadow"), 404) == "not_found"
    told(gate.client.put(f"{AT}/shadow", json={"rules": RULES}))
    report = told(gate.client.get(f"{AT}/shadow"))
    assert report["shadow"]["rules"][0]["review_at"] == 0.2
    assert (report["what_if"]["policy"], report["what_if"]["considered"]) == (SHIPPED.ref, 0)
    assert told(gate.client.get(AT))["ref"] == SHIPPED.ref
    assert gate.client.delete(f"{AT}/shadow").status_code == 204
    assert refused(gate.client.delete(f"{AT}/shadow"), 404) == "not_found"
    answer = gate.client.put("/v1/policies/none/shadow", json={"rules": RULES})
    assert refused(answer, 404) == "not_found"
