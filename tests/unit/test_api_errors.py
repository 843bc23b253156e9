"""Every error is problem+json, whoever found it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.problems import problem_for
from moderation.errors import (
    ConfigError,
    FetchError,
    ModerationError,
    NotFoundError,
    OverloadedError,
    StoreError,
)
from tests.fakes.gateway import Gate, png, running

ABSENT = "0" * 32


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/items/", 404, "not_found"),
        ("GET", "/v1/items/item_" + ABSENT, 404, "not_found"),
        ("GET", "/v1/items/item_" + "z" * 32, 404, "not_found"),
        ("GET", "/v1/items/%00", 404, "not_found"),
        ("GET", "/v1/items/" + "x" * 4000, 404, "not_found"),
        ("GET", "/v1/jobs/job_" + ABSENT, 404, "not_found"),
        ("DELETE", "/v1/jobs/job_" + ABSENT, 404, "not_found"),
        ("GET", "/v1/images", 405, "method_not_allowed"),
        ("TRACE", "/v1/items", 405, "method_not_allowed"),
        ("BREW", "/v1/items", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/images", 405, "method_not_allowed"),
        ("GET", "/v1/items?limit=0", 422, "input_invalid"),
        ("GET", "/v1/items?limit=" + "9" * 400, 422, "input_invalid"),
        ("GET", "/v1/items?data_id=%00", 422, "input_invalid"),
        ("GET", "/v1/items?source=a%00b", 422, "input_invalid"),
        ("GET", "/v1/items?label=%00", 422, "input_invalid"),
        ("GET", "/v1/items?decision=maybe", 422, "input_invalid"),
        ("GET", "/v1/items?since=12345", 422, "input_invalid"),
        ("GET", "/v1/items?since=0001-01-01T00:00:00%2B14:00", 422, "input_invalid"),
        ("GET", "/v1/items?until=2026-13-01T00:00:00Z", 422, "input_invalid"),
        ("GET", "/v1/items?cursor=%27%3B", 422, "input_invalid"),
    ],
)
def test_refusals(gate: Gate, method: str, path: str, status: int, code: str) -> None:
    response = gate.client.request(method, path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "code", "detail", "request_id"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "e30=", "bnVsbA==", "-" * 512])
def test_a_made_up_cursor_is_no_crash(gate: Gate, cursor: str) -> None:
    assert gate.client.get(f"/v1/items?cursor={cursor}").status_code in (200, 422)


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/images", "POST"),
        ("/v1/items", "GET"),
        ("/v1/jobs/job_" + ABSENT, "DELETE, GET"),
        ("/live", "GET"),
    ],
)
def test_405_names_every_method_of_the_path(gate: Gate, path: str, allow: str) -> None:
    assert gate.client.put(path).headers["allow"] == allow


def test_the_request_id_is_taken_over_when_it_is_harmless(gate: Gate) -> None:
    assert gate.client.get("/live", headers={"X-Request-ID": "a.B-9_"}).headers["x-request-id"] == (
        "a.B-9_"
    )
    for bad in ("", "a b", "x" * 129, 'a"b', "a\tb"):
        given = gate.client.get("/live", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert given.startswith("req_")


def test_an_unexpected_error_is_500_with_its_id_in_the_log(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def boom(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("moderation.store.items.list_items", boom)
    with caplog.at_level(logging.ERROR):
        response = gate.client.get("/v1/items", headers={"X-Request-ID": "find-me"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "secret detail" not in response.text
    assert any("find-me" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreError("the database is away"), 503, "store_unavailable"),
        (OverloadedError("later"), 503, "overloaded"),
        (ConfigError("path /secret is wrong"), 500, "internal"),
        (NotFoundError("no item"), 404, "not_found"),
        (FetchError("off", code="fetch_disabled"), 403, "fetch_disabled"),
        (FetchError("big", code="fetch_too_large"), 413, "fetch_too_large"),
    ],
)
def test_our_errors_have_their_status(error: ModerationError, status: int, code: str) -> None:
    problem = problem_for(error, "r-1")
    assert (problem.status, problem.code, problem.request_id) == (status, code, "r-1")
    assert "/secret" not in problem.model_dump_json()


def test_a_database_that_is_away_is_503(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise StoreError("the database does not answer")

    monkeypatch.setattr("moderation.store.jobs.submit", away)
    response = gate.post(png())
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert int(response.headers["retry-after"]) >= 1


def test_the_access_line_cannot_be_forged(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="api.access"):
        gate.client.get("/v1/items%0Aforged?callback_url=secret")
    lines = [r.getMessage() for r in caplog.records if r.name == "api.access"]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert "secret" not in lines[0]
