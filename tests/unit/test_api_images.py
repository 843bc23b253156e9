"""POST /v1/images and /v1/images:batch, against the real store on SQLite."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Response

from api.ingest import Upload
from moderation import fetch
from moderation.blobs import blob_key
from moderation.errors import FetchError, StoreError
from moderation.store import jobs
from moderation.store.records import Claim, JobState
from moderation.types import Verdict
from tests.fakes.gateway import Gate, bomb_header, fake_verdict, png, running

FIELDS = ["id", "job_id", "source", "data_id", "status", "decision", "decided_by", "reasons"]
FIELDS += ["scores", "coverage", "policy", "models", "device", "timings_ms", "error"]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home") as gate:
        yield gate


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Gate]:
    """A gateway whose jobs nobody runs."""
    with running(tmp_path / "home", finish=False) as gate:
        yield gate


def problem(response: Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response.headers["x-request-id"]
    return body


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "application/octet-stream",
        "image/x-odd",
        "application/x-www-form-urlencoded",  # what `curl --data-binary` says of any body
    ],
)
def test_a_raw_body_answers_the_verdict(gate: Gate, content_type: str) -> None:
    response = gate.post(png(), "?data_id=up-1", **{"Content-Type": content_type})
    assert response.status_code == 200, response.text
    assert list(response.json()) == FIELDS
    assert response.json()["data_id"] == "up-1"
    assert response.headers["location"] == f"/v1/items/{response.json()['id']}"


def test_a_body_without_a_type_is_read_as_bytes(gate: Gate) -> None:
    assert gate.post(png()).status_code == 200


def test_multipart_answers_the_verdict_and_keeps_the_name(gate: Gate) -> None:
    files = {"file": ("some/cat.jpg", png(), "image/jpeg")}
    response = gate.client.post("/v1/images", files=files)
    assert response.status_code == 200, response.text
    assert response.json()["source"] == "some/cat.jpg"


def test_a_part_larger_than_the_spool_arrives_whole(gate: Gate) -> None:
    big = png(comment=b"x" * (9 * 1024 * 1024))
    response = gate.client.post("/v1/images", files={"file": ("big.png", big)})
    assert response.status_code == 200, response.text
    item = gate.client.get(response.headers["location"]).json()
    assert item["media"]["size"] == len(big)


def test_not_ready_in_time_is_202_and_the_item_gets_its_verdict(idle: Gate) -> None:
    began = time.monotonic()
    response = idle.post(png(), "?wait=0.2")
    assert 0.2 <= time.monotonic() - began < 20.0, "not as long as without `wait`"
    assert response.status_code == 202
    body = response.json()
    assert body["status"] == "queued"
    assert response.headers["location"] == f"/v1/items/{body['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert idle.client.get(response.headers["location"]).json()["verdict"] is None
    idle.stack.finish_one(body["job_id"])
    verdict = idle.client.get(response.headers["location"]).json()["verdict"]
    assert (verdict["id"], verdict["decision"]) == (body["id"], "pass")


def test_the_wait_is_woken_and_reads_only_around_the_wake(
    idle: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = __import__("moderation.store.items", fromlist=["items"]).verdict_of_job

    def counted(db: object, job_id: str) -> Verdict | None:
        reads.append(job_id)
        found: Verdict | None = read(db, job_id)
        return found

    monkeypatch.setattr("moderation.store.items.verdict_of_job", counted)

    def late() -> None:
        job_id = idle.stack.producer.queue.get(timeout=10)
        assert job_id is not None
        time.sleep(0.3)  # a poller would read meanwhile
        idle.stack.finish_one(job_id)

    thread = threading.Thread(target=late)
    thread.start()
    began = time.monotonic()
    response = idle.post(png(), "?wait=30")
    thread.join()
    assert response.status_code == 200
    assert time.monotonic() - began < 20.0
    assert len(reads) == 1


def test_a_wake_between_publish_and_wait_is_not_missed(idle: Gate) -> None:
    producer, enqueue = idle.stack.producer, idle.stack.producer.enqueue

    def at_once(message: object, priority: int = 0) -> None:
        enqueue(message, priority)  # type: ignore[arg-type]
        idle.stack.finish_one(message.job_id)  # type: ignore[attr-defined]

    producer.enqueue = at_once  # type: ignore[method-assign]
    began = time.monotonic()
    assert idle.post(png(), "?wait=30").status_code == 200
    assert time.monotonic() - began < 20.0


def test_wait_is_cut_to_the_maximum(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, wait_max=0.1) as gate:
        began = time.monotonic()
        assert gate.post(png(), "?wait=600").status_code == 202
        assert time.monotonic() - began < 20.0


def test_a_dead_broker_still_accepts(idle: Gate) -> None:
    idle.stack.producer.down = True
    response = idle.post(png(), "?wait=0")
    assert response.status_code == 202
    job = idle.client.get(f"/v1/jobs/{response.json()['job_id']}").json()
    assert job["state"] == JobState.QUEUED.value


def test_priority_travels_with_the_message(idle: Gate) -> None:
    assert idle.post(png(), "?wait=0&priority=9").status_code == 202
    assert [priority for _, priority in idle.stack.producer.sent] == [9]


def test_a_failed_picture_is_a_verdict(idle: Gate) -> None:
    def failed(claim: Claim) -> Verdict:
        return Verdict.model_validate(
            fake_verdict(claim).to_json()
            | {
                "status": "failed",
                "decision": "review",
                "scores": {},
                "error": {"title": "Truncated", "status": 422, "code": "truncated"},
            }
        )

    idle.stack.finish(failed)
    response = idle.post(png())
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["decision"]) == ("failed", "review")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"this is no picture", 415, "unsupported_format"),
        (b"%PDF-1.7 \xff\xfe\x00", 415, "unsupported_format"),
        (bomb_header(), 422, "too_many_pixels"),
    ],
)
def test_a_bad_header_is_refused_at_once(idle: Gate, data: bytes, status: int, code: str) -> None:
    problem(idle.post(data), status, code)
    problem(idle.client.post("/v1/images", files={"file": ("a.png", data)}), status, code)
    assert idle.stack.producer.sent == []


def test_too_many_bytes_are_413_in_each_way(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, max_image_bytes=1000) as gate:
        big = png(comment=b"x" * 1000)
        problem(gate.post(big), 413, "too_large")
        problem(gate.client.post("/v1/images", files={"file": ("a", big)}), 413, "too_large")
        chunks = (big[i : i + 100] for i in range(0, len(big), 100))
        problem(gate.client.post("/v1/images", content=chunks), 413, "too_large")
        huge = {"file": ("a", png(comment=b"x" * 200_000))}
        problem(gate.client.post("/v1/images", files=huge), 413, "too_large")


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("wait=NaN", "wait"),
        ("wait=inf", "wait"),
        ("wait=-1", "wait"),
        ("wait=x", "wait"),
        ("priority=10", "priority"),
        ("priority=-1", "priority"),
        ("priority=99999999999999999999999999", "priority"),
        ("data_id=%00", "data_id"),
        ("data_id=" + "x" * 257, "data_id"),
        ("data_id=", "data_id"),
        ("policy=%00", "policy"),
        ("policy=Default", "policy"),
        ("dedupe=perhaps", "dedupe"),
        ("callback_url=ftp://example.org/x", "callback_url"),
        ("callback_url=http://x%00y/", "callback_url"),
    ],
)
def test_bad_parameters_are_422_and_named(idle: Gate, query: str, where: str) -> None:
    body = problem(idle.post(png(), f"?{query}"), 422, "input_invalid")
    assert f"query.{where}" in str(body["detail"])


def test_an_unknown_policy_names_those_that_exist(idle: Gate) -> None:
    body = problem(idle.post(png(), "?policy=nothing"), 422, "policy_unknown")
    assert "default@" in str(body["detail"])


def test_a_policy_by_version(gate: Gate) -> None:
    ref = gate.client.get("/v1/policies").json()["policies"][0]["ref"]
    assert gate.post(png(), f"?policy={ref}").json()["policy"] == ref


def test_a_private_callback_is_refused_at_submit(idle: Gate) -> None:
    response = idle.post(png(), "?callback_url=http://127.0.0.1:9/hook")
    problem(response, 422, "fetch_forbidden")
    assert idle.stack.producer.sent == []


def test_an_allowed_callback_is_accepted(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, fetch_allow="127.0.0.1") as gate:
        assert gate.post(png(), "?wait=0&callback_url=http://127.0.0.1:9/h").status_code == 202


# --- bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"x", 415, "unsupported_content_type"),
        ("application/x-www-form-urlencoded", b"a=b", 415, "unsupported_format"),
        ("video/mp4", b"x", 415, "unsupported_content_type"),
        ("multipart/form-data", b"x", 422, "malformed_multipart"),
        ("multipart/form-data; boundary=b", b"no boundary at all", 422, "malformed_multipart"),
        ("multipart/form-data; boundary=b", b"", 422, "file_missing"),
        ("multipart/form-data; boundary=" + "b" * 300, b"x", 422, "malformed_multipart"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "file_missing"),
        (
            "multipart/form-data; boundary=b; charset=undefined",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            422,
            "malformed_multipart",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            422,
            "file_missing",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
            422,
            "malformed_multipart",
        ),
        ("application/json", b"", 422, "input_invalid"),
        ("application/json", b"\xff\xfe{", 422, "input_invalid"),
        ("application/json", b"[" * 10_000, 422, "input_invalid"),
        ("application/json", b'{"url": 5}', 422, "input_invalid"),
        ("application/json", b'{"url": "http://a/", "x": 1}', 422, "input_invalid"),
        ("application/json", b'{"url": "file:///etc/passwd"}', 422, "input_invalid"),
        ("application/json", b'{"url": "http://a/\\u0000"}', 422, "input_invalid"),
        ("application/json", b'{"url": "http://a/\\ud800"}', 422, "input_invalid"),
        ("application/json", b" " * 20_000, 413, "too_large"),
        ("application/json", b'{"url": "http://example.org/a.png"}', 403, "fetch_disabled"),
    ],
)
def test_unusable_bodies(
    idle: Gate, content_type: str, body: bytes, status: int, code: str
) -> None:
    problem(idle.post(body, **{"Content-Type": content_type}), status, code)


def test_two_files_need_the_batch_route(idle: Gate) -> None:
    files = [("file", ("a", png())), ("file", ("b", png()))]
    problem(idle.client.post("/v1/images", files=files), 413, "too_many_parts")


def test_a_url_is_fetched_where_that_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, tuple[str, ...], int]] = []

    def fake_fetch(
        url: str, *, allow: tuple[str, ...], timeout_s: float, max_bytes: int
    ) -> fetch.Fetched:
        asked.append((url, allow, max_bytes))
        if "private" in url:
            raise FetchError("no", code="fetch_forbidden")
        if "large" in url:
            raise FetchError("too much", code="fetch_too_large")
        return fetch.Fetched(data=png(), content_type="text/html", url=url)

    monkeypatch.setattr(fetch, "fetch", fake_fetch)
    with running(tmp_path / "home", fetch_enabled=True, fetch_allow="10.0.0.0/8") as gate:
        ok = gate.client.post("/v1/images", json={"url": "http://pics.example/a.png"})
        assert ok.status_code == 200, ok.text
        assert ok.json()["source"] == "http://pics.example/a.png"
        assert asked[0][1:] == (("10.0.0.0/8",), gate.stack.settings.max_image_bytes)
        private = gate.client.post("/v1/images", json={"url": "http://private/"})
        problem(private, 422, "fetch_forbidden")
        large = gate.client.post("/v1/images", json={"url": "http://large/"})
        problem(large, 413, "fetch_too_large")


def test_a_repeated_url_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [png()]

    def fake_fetch(url: str, **limits: object) -> fetch.Fetched:
        if not bodies:
            raise FetchError("It has expired.")
        return fetch.Fetched(data=bodies.pop(), content_type="image/png", url=url)

    monkeypatch.setattr(fetch, "fetch", fake_fetch)
    told = {"json": {"url": "http://pics.example/a.png"}, "headers": {"Idempotency-Key": "k"}}
    with running(tmp_path / "home", fetch_enabled=True) as gate:
        first, second = (gate.client.post("/v1/images", **told) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json()["id"] == second.json()["id"]
        changed = told | {"json": {"url": "http://pics.example/b.png"}}
        problem(gate.client.post("/v1/images", **changed), 409, "idempotency_conflict")


# --- duplicates and repeats -------------------------------------------------------------


def test_the_same_bytes_answer_from_the_database(gate: Gate) -> None:
    gate.stack.worker()
    first = gate.post(png()).json()
    second = gate.post(png()).json()
    assert second["decided_by"] == "duplicate"
    assert second["id"] != first["id"]
    assert second["scores"] == first["scores"]
    assert len(gate.stack.producer.sent) == 1
    assert gate.post(png(), "?dedupe=false").json()["decided_by"] == "policy"
    assert gate.post(png(), "?policy=strict").json()["decided_by"] == "policy"


def test_duplicates_do_not_cross_tenants(gate: Gate) -> None:
    gate.stack.worker()
    gate.post(png())
    other = gate.post(png(), **gate.stack.key("media:write", tenant="other"))
    assert other.json()["decided_by"] == "policy"


def test_without_a_ready_worker_nothing_is_a_duplicate(gate: Gate) -> None:
    gate.stack.worker(state="starting")
    gate.post(png())
    assert gate.post(png()).json()["decided_by"] == "policy"


def test_an_idempotency_key_answers_the_first_outcome(gate: Gate) -> None:
    first = gate.post(png(), "?data_id=a", **{"Idempotency-Key": "k-1"})
    again = gate.post(png(), "?data_id=a&wait=1", **{"Idempotency-Key": "k-1"})
    assert again.status_code == 200
    assert again.json() == first.json()
    assert len(gate.stack.producer.sent) == 1


@pytest.mark.parametrize("query", ["?data_id=b", "?policy=strict", "?priority=3", "?dedupe=false"])
def test_another_request_under_the_same_key_is_409(gate: Gate, query: str) -> None:
    assert gate.post(png(), **{"Idempotency-Key": "k-2"}).status_code == 200
    response = gate.post(png(), query, **{"Idempotency-Key": "k-2"})
    problem(response, 409, "idempotency_conflict")
    other = gate.post(png(shade=9), **{"Idempotency-Key": "k-2"})
    problem(other, 409, "idempotency_conflict")
    key = blob_key("default", hashlib.sha256(png(shade=9)).hexdigest())
    assert not gate.blobs.exists(key), "bytes that nothing refers to are not kept"


def test_bytes_of_what_could_not_be_written_down_do_not_stay(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise StoreError("The disk is full.")

    kept = gate.post(png())
    assert kept.status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "submit", full)
        for data in (png(), png(shade=9)):
            problem(gate.post(data), 503, "store_unavailable")
    keys = [blob_key("default", hashlib.sha256(data).hexdigest()) for data in (png(), png(shade=9))]
    assert [gate.blobs.exists(key) for key in keys] == [True, False], "others' bytes do"


def test_a_repeat_while_the_job_waits_is_202_with_the_same_ids(idle: Gate) -> None:
    first = idle.post(png(), "?wait=0", **{"Idempotency-Key": "k-3"})
    again = idle.post(png(), "?wait=0", **{"Idempotency-Key": "k-3"})
    assert (again.status_code, again.json()) == (202, first.json())


@pytest.mark.parametrize("key", ["", "with space", "x" * 201, "\x7f"])
def test_a_bad_idempotency_key_is_422(idle: Gate, key: str) -> None:
    problem(idle.post(png(), **{"Idempotency-Key": key}), 422, "input_invalid")


def test_a_full_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, max_queued=1) as gate:
        assert gate.post(png(), "?wait=0").status_code == 202
        gate.stack.forget_counts()
        response = gate.post(png(shade=1), "?wait=0")
        problem(response, 503, "overloaded")
        assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v1/images", "/v1/images:batch"])
def test_a_request_that_waits_holds_no_bytes(
    idle: Gate, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    alive: list[weakref.ref[Upload]] = []

    class Watched(Upload):
        """Without slots, so that it can be referred to weakly."""

        def __init__(self, data: bytes, source: str | None = None) -> None:
            super().__init__(data, source)
            alive.append(weakref.ref(self))

    monkeypatch.setattr("api.routes.images.Upload", Watched)
    held: list[bool] = []

    def late() -> None:
        job_id = idle.stack.producer.queue.get(timeout=10)
        assert job_id is not None
        until = time.monotonic() + 5
        while any(one() is not None for one in alive) and time.monotonic() < until:
            time.sleep(0.01)
        held.extend(one() is not None for one in alive)
        idle.stack.finish_one(job_id)

    thread = threading.Thread(target=late)
    thread.start()
    response = idle.client.post(f"{path}?wait=30", files=[("file", ("a.png", png()))])
    thread.join()
    assert response.status_code == 200, response.text
    assert held == [False]


def test_more_uploads_at_once_than_there_is_room_for_are_503(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, max_upload_bytes=1500) as gate:
        entered, let_go = threading.Event(), threading.Event()
        blobs = gate.stack.app.state.gateway.blobs
        put = blobs.put

        def slow(key: str, data: bytes) -> None:
            entered.set()
            assert let_go.wait(30)
            put(key, data)

        blobs.put = slow
        answers: list[Response] = []
        first = png(comment=b"x" * 800)
        thread = threading.Thread(target=lambda: answers.append(gate.post(first, "?wait=0")))
        thread.start()
        assert entered.wait(30)
        problem(gate.post(png(comment=b"y" * 800), "?wait=0"), 503, "overloaded")
        let_go.set()
        thread.join()
        assert [answer.status_code for answer in answers] == [202]
        larger_than_all = gate.post(png(comment=b"z" * 2000), "?wait=0")
        assert larger_than_all.status_code == 202, "alone it may pass"


# --- batch ------------------------------------------------------------------------------


def test_a_batch_answers_every_part_in_order(gate: Gate) -> None:
    parts = [
        ("file", ("a.png", png(shade=1))),
        ("files", ("notes.txt", b"no picture")),
        ("file", ("empty", b"")),
        ("file", ("d.png", png(shade=2))),
    ]
    response = gate.client.post("/v1/images:batch?data_id=b", files=parts)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [r["index"] for r in results] == [0, 1, 2, 3]
    assert [r["source"] for r in results] == ["a.png", "notes.txt", "empty", "d.png"]
    assert [r["status"] for r in results] == [200, 415, 422, 200]
    assert results[0]["verdict"]["data_id"] == "b"
    assert results[1]["problem"]["code"] == "unsupported_format"
    assert results[1]["problem"]["request_id"] == response.headers["x-request-id"]
    for result in results:
        assert sum(result[k] is not None for k in ("verdict", "accepted", "problem")) == 1


def test_parts_that_are_not_ready_are_accepted(idle: Gate) -> None:
    parts = [("file", (f"{i}.png", png(shade=i))) for i in range(30)]
    began = time.monotonic()
    response = idle.client.post("/v1/images:batch?wait=1", files=parts)
    assert time.monotonic() - began < 20.0, "the parts share one wait"
    results = response.json()["results"]
    assert [r["status"] for r in results] == [202] * 30
    assert len({r["accepted"]["id"] for r in results}) == 30


def test_batch_caps(tmp_path: Path) -> None:
    caps = {"max_batch_parts": 2, "max_batch_bytes": 5000, "max_image_bytes": 2000}
    with running(tmp_path / "home", **caps) as gate:
        send = gate.client.post
        many = [("file", (str(i), png(shade=i))) for i in range(3)]
        problem(send("/v1/images:batch", files=many), 413, "too_many_parts")
        wide = [("file", (str(i), png(comment=b"x" * 4000))) for i in range(2)]
        problem(send("/v1/images:batch", files=wide), 413, "too_large")
        one = [("file", ("a", png())), ("file", ("b", png(comment=b"x" * 3000)))]
        results = send("/v1/images:batch", files=one).json()["results"]
        assert [r["status"] for r in results] == [200, 413]


def test_a_batch_needs_multipart_with_files(idle: Gate) -> None:
    raw = idle.client.post("/v1/images:batch", content=png())
    problem(raw, 415, "unsupported_content_type")
    fields = {"Content-Type": "multipart/form-data; boundary=b"}
    empty = idle.client.post("/v1/images:batch", content=b"--b--\r\n", headers=fields)
    problem(empty, 422, "file_missing")


def test_a_repeated_batch_answers_the_same_items(gate: Gate) -> None:
    parts = [("file", ("a", png())), ("file", ("a", png()))]
    headers = {"Idempotency-Key": "b-1"}
    first = gate.client.post("/v1/images:batch", files=parts, headers=headers).json()
    again = gate.client.post("/v1/images:batch", files=parts, headers=headers).json()
    ids = [r["verdict"]["id"] for r in first["results"]]
    assert len(set(ids)) == 2
    assert [r["verdict"]["id"] for r in again["results"]] == ids


def test_the_answer_is_the_stored_verdict(gate: Gate) -> None:
    response = gate.post(png())
    stored = gate.stack.verdict(response.json()["job_id"])
    assert stored is not None
    assert response.json() == json.loads(stored.model_dump_json())
