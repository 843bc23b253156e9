"""Keys, scopes, tenants and the rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.auth import Keyring
from moderation.errors import AccessError
from moderation.store import keys
from tests.fakes.gateway import KEY, Gate, png, running

KEYED = [
    ("POST", "/v1/images"),
    ("POST", "/v1/images:batch"),
    ("GET", "/v1/items"),
    ("GET", "/v1/items/item_" + "0" * 32),
    ("GET", "/v1/jobs/job_" + "0" * 32),
    ("DELETE", "/v1/jobs/job_" + "0" * 32),
    ("GET", "/v1/policies"),
    ("GET", "/v1/models"),
    ("GET", "/v1/labels"),
    ("GET", "/metrics"),
    ("GET", "/v1/audit"),
    ("POST", "/v1/streams"),
    ("GET", "/v1/streams"),
    ("GET", "/v1/streams/stream_" + "0" * 32),
    ("PATCH", "/v1/streams/stream_" + "0" * 32),
    ("DELETE", "/v1/streams/stream_" + "0" * 32),
    ("GET", "/v1/streams/stream_" + "0" * 32 + "/alerts"),
    ("GET", "/v1/streams/stream_" + "0" * 32 + "/events"),
    ("GET", "/v1/events?seconds=0"),
    ("GET", "/v1/reviews"),
    ("GET", "/v1/reviews/counts"),
    ("GET", "/v1/reviews/export"),
    ("POST", "/v1/reviews/next"),
    ("PUT", "/v1/reviews/item_" + "0" * 32 + "/claim"),
    ("DELETE", "/v1/reviews/item_" + "0" * 32 + "/claim"),
    ("GET", "/v1/reviews/item_" + "0" * 32 + "/decisions"),
    ("POST", "/v1/reviews/item_" + "0" * 32 + "/decision"),
    ("DELETE", "/v1/reviews/decisions/decision_" + "0" * 32),
    ("POST", "/v1/lists"),
    ("GET", "/v1/lists"),
    ("POST", "/v1/lists/lookup"),
    ("GET", "/v1/lists/bank_" + "0" * 32),
    ("PATCH", "/v1/lists/bank_" + "0" * 32),
    ("DELETE", "/v1/lists/bank_" + "0" * 32),
    ("GET", "/v1/lists/bank_" + "0" * 32 + "/entries"),
    ("POST", "/v1/lists/bank_" + "0" * 32 + "/entries"),
    ("DELETE", "/v1/lists/bank_" + "0" * 32 + "/entries/entry_" + "0" * 32),
    ("POST", "/v1/lists/bank_" + "0" * 32 + "/import"),
    ("GET", "/v1/policies/default"),
    ("GET", "/v1/policies/default/versions"),
    ("POST", "/v1/policies/default/versions"),
    ("POST", "/v1/policies/default/roll-back"),
    ("POST", "/v1/policies/default/what-if"),
    ("PUT", "/v1/policies/default/shadow"),
    ("GET", "/v1/policies/default/shadow"),
    ("DELETE", "/v1/policies/default/shadow"),
]
ADMINS = {
    ("GET", "/metrics"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/reviews/export"),
    ("POST", "/v1/policies/default/versions"),
    ("POST", "/v1/policies/default/roll-back"),
    ("PUT", "/v1/policies/default/shadow"),
    ("DELETE", "/v1/policies/default/shadow"),
}
TRIES = (("POST", "/v1/policies/default/what-if"), ("GET", "/v1/policies/default/shadow"))
WRITES = {(method, path) for method, path in KEYED if method in ("POST", "PUT", "PATCH", "DELETE")}
LOOKUP = ("POST", "/v1/lists/lookup")


def scope_of(method: str, path: str) -> str:
    if (method, path) in TRIES:
        return "review:write"
    if (method, path) not in WRITES or (method, path) == LOOKUP:
        return "results:read"
    decides = path.startswith(("/v1/reviews", "/v1/lists"))
    return "review:write" if decides else "media:write"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """For what changes nothing: hundreds of requests, one gateway."""
    with running(tmp_path_factory.mktemp("shared") / "home") as gate:
        yield gate


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home") as gate:
        yield gate


@pytest.mark.parametrize(("method", "path"), KEYED)
@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic YTpi", f"Token {KEY}", "Bearer é"]
)
def test_without_a_right_key_nothing_is_told(
    shared: Gate, method: str, path: str, given: str
) -> None:
    response = shared.client.request(
        method, path, headers={"Authorization": given.encode("latin-1")}
    )
    assert response.status_code == 401, response.text
    assert response.json()["code"] == "unauthorized"
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_an_over_long_key_is_401(gate: Gate) -> None:
    headers = {"Authorization": "Bearer " + "x" * 5000}
    assert gate.client.get("/v1/items", headers=headers).status_code == 401


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_each_route_needs_its_scope(shared: Gate, method: str, path: str) -> None:
    needed = scope_of(method, path)
    scopes = {"media:write", "results:read", "review:write"} - {needed}
    if (method, path) in ADMINS:
        scopes = scopes | {needed}
    response = shared.client.request(method, path, headers=shared.stack.key(*scopes))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_the_scope_and_admin_let_in(shared: Gate, method: str, path: str) -> None:
    needed = scope_of(method, path)
    if (method, path) not in ADMINS:
        mine = shared.client.request(method, path, headers=shared.stack.key(needed))
        assert mine.status_code not in (401, 403)
    admin = shared.client.request(method, path)
    assert admin.status_code not in (401, 403)


def test_live_and_ready_need_no_key(gate: Gate) -> None:
    assert gate.client.get("/live", headers={"Authorization": ""}).status_code == 200
    assert gate.client.get("/ready", headers={"Authorization": ""}).status_code == 503


def test_metrics_may_be_opened(tmp_path: Path) -> None:
    with running(tmp_path / "home", metrics_open=True) as gate:
        assert gate.client.get("/metrics", headers={"Authorization": ""}).status_code == 200


def test_tenants_do_not_see_each_other(gate: Gate) -> None:
    verdict = gate.post(png()).json()
    other = gate.stack.key("media:write", "results:read", tenant="other")
    get = gate.client.get
    assert get(f"/v1/items/{verdict['id']}", headers=other).status_code == 404
    assert get(f"/v1/jobs/{verdict['job_id']}", headers=other).status_code == 404
    assert get("/v1/items", headers=other).json()["items"] == []
    cancel = gate.client.delete(f"/v1/jobs/{verdict['job_id']}", headers=other)
    assert cancel.status_code == 404


def test_a_revoked_key_is_let_in_only_as_long_as_it_is_kept(gate: Gate) -> None:
    row, secret = keys.create_key(
        gate.stack.db, tenant="default", name="x", scopes=frozenset({"results:read"})
    )
    now = 0.0
    keyring = Keyring(gate.stack.db, clock=lambda: now)
    assert keyring.kept(secret) is None
    assert keyring.authenticate(secret).id == row.id
    keys.revoke_key(gate.stack.db, row.id)
    kept = keyring.kept(secret)
    assert kept is not None
    assert kept.id == row.id
    now = 3.0
    assert keyring.kept(secret) is None
    with pytest.raises(AccessError):
        keyring.authenticate(secret)


def test_the_bootstrap_key_is_an_admin_from_the_first_request(gate: Gate) -> None:
    assert gate.client.get("/v1/items").status_code == 200
    assert any("admin" in row.scopes for row in keys.list_keys(gate.stack.db))


def test_the_rate_limit_is_per_key_and_told(tmp_path: Path) -> None:
    with running(tmp_path / "home", rate_limit_per_minute=3) as gate:
        mine = gate.stack.key("results:read")
        answers = [gate.client.get("/v1/policies", headers=mine) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert [a.headers["ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
        refused = answers[-1]
        assert refused.json()["code"] == "rate_limited"
        assert refused.headers["ratelimit-limit"] == "3"
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        other = gate.client.get("/v1/policies", headers=gate.stack.key("results:read"))
        assert other.status_code == 200
        assert gate.client.get("/live").status_code == 200


def test_the_parts_of_a_batch_are_counted(tmp_path: Path) -> None:
    with running(tmp_path / "home", rate_limit_per_minute=5) as gate:
        parts = [("file", (str(i), png(shade=i))) for i in range(4)]
        assert gate.client.post("/v1/images:batch", files=parts).status_code == 200
        assert gate.client.post("/v1/images:batch", files=parts).status_code == 429


def test_no_limit_no_headers(gate: Gate) -> None:
    assert "ratelimit-limit" not in gate.client.get("/v1/policies").headers
