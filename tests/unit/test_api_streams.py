"""Live streams over HTTP: made, read, changed, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.schemas.streams import StreamBody
from moderation.settings import Settings
from moderation.store import alert_items, alerts, outbox, stream_leases
from moderation.store.live_records import AlertChange, Progress, StreamLease
from moderation.tasks.messages import DELIVER
from moderation.types import Decision, StreamState
from tests.contract.live_data import kept
from tests.fakes.gateway import Gate, running

LOCAL = ("127.0.0.0/8",)
URL = "rtmp://user:pass-4711@127.0.0.1/live/room-7"
MISSING = "/v1/streams/stream_" + "0" * 32


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False, fetch_enabled=True, fetch_allow=LOCAL) as gate:
        yield gate


def post(gate: Gate, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return gate.client.post("/v1/streams", json={"url": URL} | body, headers=headers)


def made(gate: Gate, **body: Any) -> dict[str, Any]:
    response = post(gate, **body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def owned(gate: Gate) -> StreamLease:
    """The lease of the one stream that is free."""
    (one,) = stream_leases.take(gate.stack.db, "sup-1", 1, 60.0)
    return one.lease


def opened(decision: Decision = Decision.REVIEW) -> AlertChange:
    now = datetime.now(UTC)
    return AlertChange(
        kind="opened",
        label="violence.fight",
        decision=decision,
        score=0.91234,
        start=now - timedelta(seconds=2),
        captured=now - timedelta(seconds=1),
        threshold=0.8,
    )


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_a_stream_is_made_with_defaults_and_without_its_credentials(gate: Gate) -> None:
    response = post(gate, callback_url="http://127.0.0.1:9/hush")
    told = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/streams/{told['id']}"
    assert (told["state"], told["desired"], told["watched"]) == ("connecting", "run", False)
    assert (told["interval_ms"], told["hold_s"], told["priority"]) == (1000, 10.0, 0)
    assert told["policy"].startswith("default@")
    assert told["last_frame_age_s"] is None
    assert gate.stack.waker.woken == [told["id"]]
    one = gate.client.get(response.headers["location"])
    assert one.json() == told | {"alerts": []}
    listed = gate.client.get("/v1/streams")
    assert listed.json() == {"streams": [told], "next_cursor": None}
    for answer in (response, one, listed):
        assert "pass-4711" not in answer.text
        assert "hush" not in answer.text
    (row,) = stream_leases.take(gate.stack.db, "sup-1", 1, 10.0)
    assert row.url == URL


@pytest.mark.parametrize(
    "body",
    [
        {"interval_ms": 99},
        {"interval_ms": 60_001},
        {"interval_ms": "1000"},
        {"interval_ms": 1000.5},
        {"hold_s": -1},
        {"hold_s": 3601},
        {"priority": 10},
        {"data_id": ""},
        {"data_id": "a\0b"},
        {"data_id": "x" * 257},
        {"callback_url": "ftp://127.0.0.1/"},
        {"cut_callback_url": "nonsense"},
        {"url": "no url"},
        {"url": "rtmp://127.0.0.1/\nx"},
        {"url": "rtmp://127.0.0.1/" + "x" * 2048},
        {"url": None},
        {"policy": "Not A Policy"},
        {"surplus": 1},
    ],
)
def test_bodies_that_do_not_fit_are_422(gate: Gate, body: dict[str, Any]) -> None:
    response = post(gate, **body)
    assert problem(response) == (422, "input_invalid")
    assert "pass-4711" not in response.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"url": 1}'])
def test_what_is_no_json_object_is_422(gate: Gate, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = gate.client.post("/v1/streams", content=content, headers=headers)
    assert problem(response) == (422, "input_invalid")


def test_other_bodies_are_refused_by_their_type_and_size(gate: Gate) -> None:
    form = gate.client.post("/v1/streams", data={"url": URL})
    assert problem(form) == (415, "unsupported_content_type")
    assert problem(gate.client.patch(MISSING, content=b"x")) == (415, "unsupported_content_type")
    headers = {"Content-Type": "application/json"}
    large = gate.client.post("/v1/streams", content=b"x" * 70_000, headers=headers)
    assert problem(large) == (413, "too_large")


def test_an_unknown_policy_is_named(gate: Gate) -> None:
    assert problem(post(gate, policy="none")) == (422, "policy_unknown")
    told = made(gate)
    patch = gate.client.patch(f"/v1/streams/{told['id']}", json={"policy": "default@99"})
    assert problem(patch) == (422, "policy_unknown")


@pytest.mark.parametrize(
    "body",
    [
        {"url": "rtmp://user:pass-4711@10.0.0.1/live/x"},
        {"url": "file:///etc/passwd"},
        {"url": "http://169.254.169.254/latest"},
        {"callback_url": "http://10.0.0.1/"},
        {"cut_callback_url": "http://[::1]/"},
    ],
)
def test_addresses_inside_are_refused(gate: Gate, body: dict[str, Any]) -> None:
    response = post(gate, **body)
    assert problem(response) == (422, "fetch_forbidden")
    assert "pass-4711" not in response.text
    assert gate.client.get("/v1/streams").json()["streams"] == []


def test_a_gateway_that_may_not_read_urls_watches_none(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, fetch_allow=LOCAL) as gate:
        assert problem(post(gate)) == (403, "fetch_disabled")


def test_what_is_shown_is_what_the_check_of_the_source_says(gate: Gate) -> None:
    asked: list[str] = []

    def source(url: str, settings: Settings) -> str:
        asked.append(url)
        return "rtmp://shown.example/"

    state = gate.stack.app.state
    state.gateway = replace(state.gateway, source=source)
    assert made(gate)["url"] == "rtmp://shown.example/"
    assert asked == [URL]


def test_a_repeated_request_is_the_same_stream(gate: Gate) -> None:
    key = {"Idempotency-Key": "k-1"}
    first, again = post(gate, key), post(gate, key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert problem(post(gate, key, data_id="other")) == (409, "idempotency_conflict")


def test_pages_and_filters(gate: Gate) -> None:
    ids = [made(gate, data_id=f"room-{n % 2}")["id"] for n in range(5)]
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = gate.client.get(f"/v1/streams{query}").json()
        seen += [one["id"] for one in page["streams"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={quote(page['next_cursor'])}"
    assert seen == sorted(ids, reverse=True)
    odd = gate.client.get("/v1/streams?data_id=room-1&state=connecting").json()["streams"]
    assert [one["data_id"] for one in odd] == ["room-1", "room-1"]
    assert gate.client.get("/v1/streams?state=live").json()["streams"] == []
    assert problem(gate.client.get("/v1/streams?cursor=nonsense")) == (422, "cursor_invalid")


def test_one_stream_tells_what_its_owner_saw(gate: Gate) -> None:
    path = f"/v1/streams/{made(gate, data_id='room-7')['id']}"
    lease = owned(gate)
    seen = Progress(7, 2, 1, datetime.now(UTC) - timedelta(seconds=3), {"violence.fight": 0.91})
    stream_leases.report_progress(gate.stack.db, {lease: seen})
    stream_leases.report_state(gate.stack.db, lease, StreamState.LIVE)
    alerts.record(gate.stack.db, lease, [opened()])
    told = gate.client.get(path).json()
    assert (told["state"], told["watched"]) == ("live", True)
    assert (told["frames_seen"], told["frames_dropped"], told["reconnects"]) == (7, 2, 1)
    assert 3.0 <= told["last_frame_age_s"] < 30.0
    assert told["scores"] == {"violence.fight": 0.91}
    (alert,) = told["alerts"]
    assert (alert["label"], alert["state"], alert["score"]) == ("violence.fight", "open", 0.9123)
    assert alert["end"] is None
    assert gate.client.get(f"{path}/alerts").json() == {"alerts": [alert]}
    assert gate.client.get(f"{path}/alerts?state=closed").json() == {"alerts": []}


def test_the_clip_of_an_alert_is_given_out_whole_and_in_parts(gate: Gate) -> None:
    made(gate)
    lease = owned(gate)
    alerts.record(gate.stack.db, lease, [opened()])
    path = f"/v1/streams/{lease.stream_id}/alerts"
    (alert,) = gate.client.get(path).json()["alerts"]
    assert alert["clip"] is None
    clip_path = f"{path}/{alert['id']}/clip.mp4"
    assert problem(gate.client.get(clip_path)) == (404, "not_found")

    found = kept(content=b"0123456789")
    gate.blobs.put(found.media.blob_key, b"0123456789")
    item_id = alert_items.keep(gate.stack.db, lease.stream_id, alert["id"], found)
    (alert,) = gate.client.get(path).json()["alerts"]
    assert alert["item_id"] == item_id
    assert (alert["clip"]["url"], alert["clip"]["size"]) == (clip_path, 10)
    whole = gate.client.get(clip_path)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = gate.client.get(clip_path, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    behind = gate.client.get(clip_path, headers={"Range": "bytes=10-"})
    assert problem(behind) == (416, "range_invalid")
    item = gate.client.get(f"/v1/items/{item_id}").json()
    assert (item["stream_id"], item["verdict"]["decision"]) == (lease.stream_id, "review")
    (listed,) = gate.client.get(f"/v1/items?stream_id={lease.stream_id}").json()["items"]
    assert listed["id"] == item_id
    other = f"stream_{'0' * 32}"
    assert gate.client.get(f"/v1/items?stream_id={other}").json()["items"] == []
    assert problem(gate.client.get("/v1/items?stream_id=x")) == (422, "input_invalid")
    assert gate.client.delete(f"/v1/items/{item_id}").status_code == 204
    (alert,) = gate.client.get(path).json()["alerts"]
    assert (alert["item_id"], alert["clip"]) == (None, None)
    assert gate.client.get(clip_path).status_code == 404
    gate.client.delete(f"/v1/streams/{lease.stream_id}")
    assert gate.client.get(clip_path).status_code == 404


def test_a_change_reaches_the_owner(gate: Gate) -> None:
    path = f"/v1/streams/{made(gate)['id']}"
    lease = owned(gate)
    told = gate.client.patch(path, json={"policy": "strict", "interval_ms": 500}).json()
    assert (told["policy"].partition("@")[0], told["interval_ms"]) == ("strict", 500)
    (row,) = stream_leases.reread(gate.stack.db, [lease])
    assert (row.policy.id, row.interval_ms, row.revision) == ("strict", 500, 2)
    assert gate.client.patch(path, json={}).json()["interval_ms"] == 500
    refused = gate.client.patch(path, json={"url": URL})
    assert problem(refused) == (422, "input_invalid")


def test_a_stream_is_stopped_and_started(gate: Gate) -> None:
    path = f"/v1/streams/{made(gate)['id']}"
    lease = owned(gate)

    def state(desired: str) -> tuple[str, str]:
        told = gate.client.patch(path, json={"desired": desired}).json()
        return told["state"], told["desired"]

    assert state("stop") == ("ended", "stop")
    assert not stream_leases.report_state(gate.stack.db, lease, StreamState.LIVE)
    assert state("run") == ("connecting", "run")
    assert owned(gate).generation > lease.generation


def test_deleting_closes_alerts_wakes_readers_and_hurries_callbacks(gate: Gate) -> None:
    told = made(gate, callback_url="http://127.0.0.1:9/")
    path = f"/v1/streams/{told['id']}"
    lease = owned(gate)
    alerts.record(gate.stack.db, lease, [opened()])
    assert gate.client.delete(path).status_code == 204
    assert gate.client.delete(path).status_code == 404
    for tail in ("", "/alerts", "/events"):
        assert problem(gate.client.get(path + tail)) == (404, "not_found")
    assert gate.stack.waker.woken == [told["id"], told["id"]]
    assert [message.kind for message, _ in gate.stack.producer.sent] == [DELIVER]
    due = [row.payload["type"] for row in outbox.due_callbacks(gate.stack.db)]
    assert sorted(due) == ["alert.closed", "alert.opened", "stream.state"]
    assert not stream_leases.report_state(gate.stack.db, lease, StreamState.LIVE)


def test_a_dead_broker_does_not_keep_a_stream_alive(gate: Gate) -> None:
    told = made(gate)
    gate.stack.producer.down = True
    assert gate.client.delete(f"/v1/streams/{told['id']}").status_code == 204
    assert gate.client.get("/v1/streams").json()["streams"] == []


def test_tenants_do_not_see_each_others_streams(gate: Gate) -> None:
    path = f"/v1/streams/{made(gate)['id']}"
    other = gate.stack.key("media:write", "results:read", tenant="other")
    assert gate.client.get(path, headers=other).status_code == 404
    assert gate.client.patch(path, json={}, headers=other).status_code == 404
    assert gate.client.delete(path, headers=other).status_code == 404
    assert gate.client.get(f"{path}/events?seconds=0", headers=other).status_code == 404
    everything = gate.client.get("/v1/events?seconds=0", headers=other | {"Last-Event-ID": "0"})
    assert everything.status_code == 200
    assert "stream.state" not in everything.text


def test_ids_that_cannot_be_are_404(gate: Gate) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        assert gate.client.request(method, "/v1/streams/x", json={}).status_code == 404
        assert gate.client.request(method, MISSING, json={}).status_code == 404


def test_streams_are_counted_by_state(gate: Gate) -> None:
    made(gate)
    made(gate)
    stream_leases.report_state(gate.stack.db, owned(gate), StreamState.LIVE)
    text = gate.client.get("/metrics").text
    assert 'moderation_streams{state="live"} 1.0' in text
    assert 'moderation_streams{state="connecting"} 1.0' in text
    assert "moderation_streams_unwatched 1.0" in text
    assert "moderation_event_readers 0.0" in text


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
        st.sampled_from([URL, "http://127.0.0.1:9/", "default", "strict@99", "run", "stop", "é"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(), inner)),
    max_leaves=3,
)
BODIES = st.dictionaries(
    st.sampled_from([*sorted(StreamBody.model_fields), "desired"]), VALUES, max_size=5
)


def test_no_body_breaks_anything(gate: Gate) -> None:
    path = f"/v1/streams/{made(gate)['id']}"

    @settings(max_examples=150)
    @given(BODIES)
    def try_it(body: dict[str, Any]) -> None:
        created = gate.client.post("/v1/streams", json={"url": URL} | body)
        changed = gate.client.patch(path, json=body)
        assert created.status_code in (201, 422)
        assert changed.status_code in (200, 422)
        for answer in (created, changed):
            assert "pass-4711" not in answer.text

    try_it()
    assert gate.client.get("/v1/streams?limit=200").status_code == 200
