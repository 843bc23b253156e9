"""Lists over HTTP: made, changed, filled, asked, and what they do to uploads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from moderation.store import items, jobs
from moderation.store.records import Finished
from tests.fakes.gateway import Gate, fake_verdict, png, running

MISSING = "/v1/lists/bank_" + "0" * 32
PDQ = "ab" * 32
NEAR = "ab" * 31 + "aa"
SHA256 = hashlib.sha256(png()).hexdigest()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def post(gate: Gate, **body: Any) -> httpx.Response:
    usual = {"name": "known", "kind": "block", "label": "porn.explicit"}
    return gate.client.post("/v1/lists", json=usual | body)


def made(gate: Gate, **body: Any) -> str:
    response = post(gate, **body)
    assert response.status_code == 201, response.text
    path: str = response.headers["location"]
    return path


def add(gate: Gate, path: str, **body: Any) -> dict[str, Any]:
    response = gate.client.post(f"{path}/entries", json=body)
    assert response.status_code == 201, response.text
    told: dict[str, Any] = response.json()
    return told


def load(gate: Gate, path: str, data: bytes, kind: str, query: str = "") -> httpx.Response:
    headers = {"Content-Type": kind}
    return gate.client.post(f"{path}/import{query}", content=data, headers=headers)


def lookup(gate: Gate, **body: str) -> dict[str, Any]:
    response = gate.client.post("/v1/lists/lookup", json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_a_list_is_made_with_defaults(gate: Gate) -> None:
    response = post(gate)
    told = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/lists/{told['id']}"
    assert (told["decision"], told["distance"], told["enabled"]) == ("block", 31, True)
    assert told["entries"] == 0
    assert gate.client.get(f"/v1/lists/{told['id']}").json() == told
    assert gate.client.get("/v1/lists").json() == {"lists": [told], "next_cursor": None}
    allow = post(gate, name="fine", kind="allow", label=None).json()
    assert (allow["decision"], allow["label"]) == ("pass", None)
    assert problem(post(gate)) == (409, "bank_exists")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"decision": "pass"}, "bank_invalid"),
        ({"kind": "allow", "decision": "block"}, "bank_invalid"),
        ({"label": None}, "bank_invalid"),
        ({"label": "nonsense"}, "input_invalid"),
        ({"kind": "deny"}, "input_invalid"),
        ({"name": ""}, "input_invalid"),
        ({"name": "a\0b"}, "input_invalid"),
        ({"name": "x" * 129}, "input_invalid"),
        ({"distance": 32}, "input_invalid"),
        ({"distance": -1}, "input_invalid"),
        ({"distance": "3"}, "input_invalid"),
        ({"enabled": 1}, "input_invalid"),
        ({"surplus": 1}, "input_invalid"),
    ],
)
def test_lists_that_do_not_fit_are_422(gate: Gate, body: dict[str, Any], code: str) -> None:
    assert problem(post(gate, **body)) == (422, code)
    assert gate.client.get("/v1/lists").json()["lists"] == []


def test_changed_and_deleted(gate: Gate) -> None:
    path = made(gate)
    made(gate, name="second")
    patched = gate.client.patch(path, json={"distance": 3, "decision": "review", "enabled": False})
    assert patched.status_code == 200
    assert gate.client.get(path).json() == patched.json()
    assert (patched.json()["distance"], patched.json()["decision"]) == (3, "review")
    assert problem(gate.client.patch(path, json={"name": "second"})) == (409, "bank_exists")
    assert problem(gate.client.patch(path, json={"decision": "pass"})) == (422, "bank_invalid")
    assert problem(gate.client.patch(path, json={"kind": "allow"})) == (422, "input_invalid")
    assert gate.client.delete(path).status_code == 204
    assert problem(gate.client.get(path)) == (404, "not_found")
    assert problem(gate.client.delete(path)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"distance": 1}),
        ("GET", "/entries", None),
        ("POST", "/entries", {"match": "pdq", "value": PDQ}),
        ("DELETE", "/entries/entry_" + "0" * 32, None),
    ],
)
def test_what_is_not_there_is_404(gate: Gate, method: str, path: str, body: Any) -> None:
    options = {} if body is None else {"json": body}
    response = gate.client.request(method, MISSING + path, **options)
    assert problem(response) == (404, "not_found")
    assert problem(load(gate, MISSING, b"", "text/csv")) == (404, "not_found")


def test_the_lookup_is_a_path_of_its_own(gate: Gate) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        response = gate.client.request(method, "/v1/lists/lookup")
        assert problem(response) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
    assert problem(gate.client.get("/v1/lists/bank_1")) == (404, "not_found")
    assert problem(gate.client.get("/v1/lists/another")) == (404, "not_found")


def test_bodies_of_other_types_and_sizes_are_refused(gate: Gate) -> None:
    path = made(gate)
    unknown = (415, "unsupported_content_type")
    assert problem(gate.client.post("/v1/lists", content=b"x")) == unknown
    assert problem(gate.client.post("/v1/lists/lookup", content=b"x")) == unknown
    assert problem(load(gate, path, b"x", "text/plain")) == unknown
    headers = {"Content-Type": "application/json"}
    large = gate.client.post(f"{path}/entries", content=b"x" * 70_000, headers=headers)
    assert problem(large) == (413, "too_large")
    assert problem(load(gate, path, b"x" * (16 * 2**20 + 1), "text/csv")) == (413, "too_large")


def test_an_entry_is_added_shown_and_removed(gate: Gate) -> None:
    path = made(gate)
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    told = add(gate, path, match="pdq", value=PDQ, note="case 17", expires=ends)
    (entry,) = told["entries"]
    assert (entry["match"], entry["value"], entry["note"]) == ("pdq", PDQ, "case 17")
    assert datetime.fromisoformat(entry["expires"]) == datetime.fromisoformat(ends)
    assert told["left_out"] is None
    assert add(gate, path, match="pdq", value=PDQ, expires=ends)["entries"] == [entry]
    assert gate.client.get(f"{path}/entries").json() == {"entries": [entry], "next_cursor": None}
    assert gate.client.get(f"{path}/entries?match=sha256").json()["entries"] == []
    assert gate.client.get(f"{path}/entries?value={PDQ}").json()["entries"] == [entry]
    gone = gate.client.delete(f"{path}/entries/{entry['id']}")
    assert gone.status_code == 204
    assert problem(gate.client.delete(f"{path}/entries/{entry['id']}")) == (404, "not_found")
    assert gate.client.get(path).json()["entries"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"match": "md5", "value": PDQ}, "input_invalid"),
        ({"match": "pdq", "value": PDQ[:-1]}, "input_invalid"),
        ({"match": "pdq", "value": PDQ.upper()}, "input_invalid"),
        ({"match": "pdq", "value": PDQ, "quality": 101}, "input_invalid"),
        ({"match": "pdq", "value": PDQ, "quality": 49}, "hash_plain"),
        ({"match": "pdq", "value": PDQ, "note": "a\0b"}, "input_invalid"),
        ({"match": "pdq", "value": PDQ, "expires": "1"}, "input_invalid"),
        ({"match": "pdq", "value": PDQ, "expires": "2020-01-01T00:00:00Z"}, "expires_invalid"),
        ({"item_id": "item_1"}, "input_invalid"),
        ({}, "input_invalid"),
    ],
)
def test_entries_that_do_not_fit_are_422(gate: Gate, body: dict[str, Any], code: str) -> None:
    path = made(gate)
    assert problem(gate.client.post(f"{path}/entries", json=body)) == (422, code)
    assert gate.client.get(path).json()["entries"] == 0


def test_pages(gate: Gate) -> None:
    path = made(gate)
    values = [f"{n:064x}" for n in range(5)]
    assert load(gate, path, "\n".join(values).encode(), "text/csv").status_code == 200
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = gate.client.get(f"{path}/entries{query}").json()
        seen += [one["value"] for one in page["entries"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={quote(page['next_cursor'])}"
    assert sorted(seen) == values
    assert problem(gate.client.get("/v1/lists?cursor=nonsense")) == (422, "cursor_invalid")


def test_imports_tell_what_came_of_each_line(gate: Gate) -> None:
    path = made(gate)
    text = f"value,note\n{PDQ},one\n{PDQ}\n{NEAR}\nnonsense\n".encode()
    report = load(gate, path, text, "text/csv; charset=utf-8")
    assert report.json() == {
        "accepted": 2,
        "duplicates": 1,
        "refused_total": 1,
        "refused": [{"line": 5, "reason": "A hash is 64 hexadecimal digits."}],
    }
    things = [{"hash": PDQ, "type": "HASH_PDQ"}, {"hash": SHA256, "type": "HASH_SHA256"}, 7]
    report = load(gate, path, json.dumps({"data": things}).encode(), "application/json")
    told = report.json()
    assert (told["accepted"], told["duplicates"], told["refused_total"]) == (1, 1, 1)
    as_bytes = load(gate, path, PDQ.encode(), "text/csv", "?match=sha256")
    assert as_bytes.json()["accepted"] == 1
    entries = gate.client.get(f"{path}/entries?match=sha256").json()["entries"]
    assert {one["value"] for one in entries} == {SHA256, PDQ}
    assert {one["source"] for one in entries} == {"import"}
    assert problem(load(gate, path, b"{}", "application/json")) == (422, "file_invalid")
    assert load(gate, path, b"x\n" * 300, "text/csv").json()["refused_total"] == 300
    assert len(load(gate, path, b"x\n" * 300, "text/csv").json()["refused"]) == 100


def test_listed_bytes_are_decided_in_the_very_next_upload(gate: Gate) -> None:
    path = made(gate)
    add(gate, path, match="sha256", value=SHA256, note="case 17")
    response = gate.post(png(), "?wait=5&data_id=d")
    told = response.json()
    assert response.status_code == 200
    assert (told["decision"], told["decided_by"], told["data_id"]) == ("block", "list", "d")
    (reason,) = told["reasons"]
    assert reason["label"] == "porn.explicit"
    assert "'known'" in reason["detail"]
    assert gate.stack.producer.sent == [], "no job is run"
    assert gate.client.get(f"/v1/items/{told['id']}").json()["verdict"] == told
    gate.client.patch(path, json={"enabled": False})
    assert gate.post(png(), "?wait=0").status_code == 202


def test_an_item_is_listed_by_its_bytes_and_its_looks(gate: Gate) -> None:
    told = gate.post(png(), "?wait=0").json()
    claim = jobs.claim(gate.stack.db, told["job_id"], "w", 30)
    assert claim is not None
    path = made(gate)
    early = add(gate, path, item_id=told["id"])
    assert [one["match"] for one in early["entries"]] == ["sha256"]
    assert "not decoded" in early["left_out"]
    jobs.finish(gate.stack.db, claim, Finished(fake_verdict(claim), pdq=PDQ, pdq_quality=80))
    full = add(gate, path, item_id=told["id"], note="n")
    assert [(one["match"], one["value"]) for one in full["entries"]] == [
        ("sha256", SHA256),
        ("pdq", PDQ),
    ]
    assert {one["source"] for one in full["entries"]} == {told["id"]}
    assert full["left_out"] is None
    body = {"item_id": "item_" + "0" * 32}
    assert problem(gate.client.post(f"{path}/entries", json=body)) == (404, "not_found")
    again = lookup(gate, item_id=told["id"])
    assert [one["entry"]["match"] for one in again["matches"]] == ["sha256", "pdq"]
    assert again["decision"] == "block"
    row = items.get_item(gate.stack.db, "default", told["id"])
    assert row.verdict is not None
    assert row.verdict.decided_by == "policy", "what was decided stays"


def test_a_lookup_tells_what_is_near_and_what_it_means(gate: Gate) -> None:
    assert lookup(gate, match="pdq", value=PDQ) == {"matches": [], "decision": None}
    block = made(gate)
    allow = made(gate, name="fine", kind="allow")
    add(gate, allow, match="pdq", value=PDQ)
    assert lookup(gate, match="pdq", value=NEAR)["decision"] == "pass"
    add(gate, block, match="pdq", value=NEAR, note="case 17")
    told = lookup(gate, match="pdq", value=PDQ)
    assert [(one["list"], one["kind"], one["distance"]) for one in told["matches"]] == [
        ("fine", "allow", 0),
        ("known", "block", 1),
    ]
    assert told["decision"] == "block"
    assert told["matches"][1]["entry"]["note"] == "case 17"
    assert lookup(gate, match="sha256", value=PDQ)["matches"] == []
    missing = gate.client.post("/v1/lists/lookup", json={"item_id": "item_" + "0" * 32})
    assert problem(missing) == (404, "not_found")


def test_tenants_do_not_see_each_other(gate: Gate) -> None:
    path = made(gate)
    add(gate, path, match="pdq", value=PDQ)
    other = gate.stack.key("results:read", "review:write", tenant="other")
    assert gate.client.get("/v1/lists", headers=other).json()["lists"] == []
    assert problem(gate.client.get(path, headers=other)) == (404, "not_found")
    body = {"match": "pdq", "value": PDQ}
    told = gate.client.post("/v1/lists/lookup", json=body, headers=other)
    assert told.json()["matches"] == []
    assert problem(gate.client.post(f"{path}/entries", json=body, headers=other))[0] == 404
