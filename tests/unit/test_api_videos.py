"""POST /v1/videos, against the real store on SQLite. The bytes are no real videos: the gateway
reads their head alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from httpx import Response

from moderation.errors import FetchError
from moderation.store import jobs
from moderation.store.records import Claim, JobState
from moderation.types import Verdict
from tests.fakes.gateway import Gate, fake_verdict, png, running
from tests.unit.test_api_images import problem

MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"
URL = "https://example.org/film.mp4"


def film(size: int = 5000, seed: int = 0) -> bytes:
    """What looks like an MP4 at its beginning."""
    return MP4 + random.Random(seed).randbytes(size)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gateway whose jobs nobody runs."""
    with running(tmp_path / "home", finish=False, fetch_enabled=True) as gate:
        gate.stack.worker()
        yield gate
        assert list((tmp_path / "home" / "incoming").iterdir()) == []


def post(gate: Gate, data: bytes, query: str = "", **headers: str) -> Response:
    return gate.client.post(f"/v1/videos{query}", content=data, headers=headers)


def stored(gate: Gate, answer: Response) -> bytes:
    """The bytes in the media store that the worker of this job will get."""
    claim = jobs.claim(gate.stack.db, answer.json()["job_id"], "test", 30.0)
    assert claim is not None
    assert (claim.media.kind, claim.media.size) == ("video", gate.blobs.size(claim.media.blob_key))
    return gate.blobs.get(claim.media.blob_key)


def raw(gate: Gate, data: bytes, query: str) -> Response:
    return post(gate, data, query, **{"Content-Type": "video/mp4"})


def untyped(gate: Gate, data: bytes, query: str) -> Response:
    return post(gate, data, query)


def chunked(gate: Gate, data: bytes, query: str) -> Response:
    pieces = (data[i : i + 70_001] for i in range(0, len(data), 70_001))
    return gate.client.post(f"/v1/videos{query}", content=pieces)


def multipart(gate: Gate, data: bytes, query: str) -> Response:
    files = {"file": ("some/film.mp4", data, "video/mp4")}
    return gate.client.post(f"/v1/videos{query}", files=files, data={"note": "passed over"})


WAYS = [raw, untyped, chunked, multipart]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [10, 3_500_000])
def test_the_bytes_arrive_whole_and_a_job_waits(
    gate: Gate, way: Callable[..., Response], size: int
) -> None:
    data = film(size)
    response = way(gate, data, "?data_id=up-1&priority=3")
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/items/{response.json()['id']}"
    [(message, priority)] = gate.stack.producer.sent
    assert (message.kind, message.job_id, priority) == ("video", response.json()["job_id"], 3)
    item = gate.client.get(response.headers["location"]).json()
    assert (item["data_id"], item["media"]["format"]) == ("up-1", "mp4")
    assert item["source"] == ("some/film.mp4" if way is multipart else None)
    assert stored(gate, response) == data


def test_how_to_look_travels_with_the_job(gate: Gate) -> None:
    query = "?mode=interval&interval_ms=250&max_frames=999999&stop_on=block"
    job_id = post(gate, film(), query).json()["job_id"]
    claim = jobs.claim(gate.stack.db, job_id, "test", 30.0)
    assert claim is not None
    assert claim.video.to_json() == {
        "mode": "interval",
        "interval_s": 0.25,
        "max_frames": gate.stack.settings.video_max_frames,
        "stop_on": "block",
    }
    job_id = post(gate, film(), "?fps=2.5").json()["job_id"]
    claim = jobs.claim(gate.stack.db, job_id, "test", 30.0)
    assert claim is not None
    assert claim.video.to_json() == {"mode": "fps", "rate": 2.5}


@pytest.mark.parametrize(
    "query",
    [
        "mode=fast",
        "interval_ms=99",
        "interval_ms=x",
        "max_frames=1",
        "fps=0",
        "fps=NaN",
        "stop_on=pass",
        "mode=scene&interval_ms=500",
        "mode=interval&fps=2",
        "fps=2&interval_ms=500",
        "wait=-1",
    ],
)
def test_bad_parameters_are_422(gate: Gate, query: str) -> None:
    problem(post(gate, film(), f"?{query}"), 422, "input_invalid")
    assert gate.stack.producer.sent == []


def test_it_does_not_wait_unless_it_is_told_to(gate: Gate) -> None:
    began = time.monotonic()
    assert post(gate, film()).status_code == 202
    assert time.monotonic() - began < 20.0
    gate.stack.finish()
    response = post(gate, film(seed=1), "?wait=20")
    assert response.status_code == 200, response.text
    assert response.json()["decision"] == "pass"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"this is no film", 415, "unsupported_format"),
        (png(), 415, "unsupported_format"),
        (b"#EXTM3U\nfile:///etc/passwd\n", 415, "playlist"),
    ],
)
def test_a_bad_head_is_refused_at_once(gate: Gate, data: bytes, status: int, code: str) -> None:
    for way in WAYS:
        problem(way(gate, data, ""), status, code)
    assert gate.stack.producer.sent == []


def test_too_many_bytes_are_413_in_each_way(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, finish=False, max_video_bytes=200_000) as gate:
        for way in WAYS:
            problem(way(gate, film(200_000), ""), 413, "too_large")
            problem(way(gate, film(2_000_000), ""), 413, "too_large")
            assert way(gate, film(199_000), "").status_code == 202
        assert list((home / "incoming").iterdir()) == []


def test_room_on_the_disk_is_bounded_and_given_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, finish=False, max_incoming_bytes=200_000) as gate:
        for _ in range(3):
            for way in WAYS:
                problem(way(gate, film(2_000_000), ""), 503, "overloaded")
        for way in WAYS:
            assert way(gate, film(190_000), "").status_code == 202
        assert list((home / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", film(), 415, "unsupported_content_type"),
        ("multipart/form-data", b"x", 422, "malformed_multipart"),
        ("multipart/form-data; boundary=b", b"no boundary", 422, "malformed_multipart"),
        ("multipart/form-data; boundary=b", b"", 422, "file_missing"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "file_missing"),
        ("multipart/form-data; boundary=" + "b" * 300, b"x", 422, "malformed_multipart"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            422,
            "file_missing",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + MP4,
            422,
            "malformed_multipart",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: video/mp4\r\n\r\nx\r\n--b--\r\n",
            422,
            "malformed_multipart",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 70_000,
            422,
            "malformed_multipart",
        ),
        ("application/json", b"", 422, "input_invalid"),
        ("application/json", b'{"url": "https://a/", "upload": "x"}', 422, "input_invalid"),
        ("application/json", b'{"upload": "../x"}', 422, "input_invalid"),
        ("application/json", b'{"url": "file:///etc/passwd"}', 422, "input_invalid"),
    ],
)
def test_unusable_bodies(
    gate: Gate, content_type: str, body: bytes, status: int, code: str
) -> None:
    problem(post(gate, body, **{"Content-Type": content_type}), status, code)


def test_one_file_is_read_of_a_form(gate: Gate) -> None:
    two = [("file", ("a.mp4", film())), ("file", ("b.mp4", film()))]
    problem(gate.client.post("/v1/videos", files=two), 413, "too_many_parts")
    many = [("x", (None, b"1"))] * 20 + [("file", ("a.mp4", film()))]
    problem(gate.client.post("/v1/videos", files=many), 413, "too_many_parts")


def test_a_key_without_the_scope_is_refused_before_its_body(gate: Gate) -> None:
    response = gate.client.post(
        "/v1/videos", content=film(), headers=gate.stack.key("results:read")
    )
    problem(response, 403, "forbidden")


# --- once -------------------------------------------------------------------------------


def finish(gate: Gate, answer: Response, of: Callable[[Claim], Verdict] = fake_verdict) -> None:
    gate.stack.finish_one(answer.json()["job_id"], of)


def sweep(gate: Gate) -> tuple[str, ...]:
    return jobs.sweep(gate.stack.db, republish_after_s=10.0, max_attempts=5).ended


def test_a_film_that_was_decided_is_answered_at_once(gate: Gate) -> None:
    finish(gate, post(gate, film(), "?interval_ms=500"))
    again = post(gate, film(), "?interval_ms=500&data_id=mine")
    assert again.status_code == 200
    assert (again.json()["decided_by"], again.json()["data_id"]) == ("duplicate", "mine")
    assert post(gate, film(), "?interval_ms=500").status_code == 200
    assert len(gate.stack.producer.sent) == 1


@pytest.mark.parametrize("query", ["", "?interval_ms=400", "?interval_ms=500&dedupe=false"])
def test_looked_at_in_another_way_it_is_looked_at_again(gate: Gate, query: str) -> None:
    finish(gate, post(gate, film(), "?interval_ms=500"))
    assert post(gate, film(), query).status_code == 202
    assert len(gate.stack.producer.sent) == 2


def test_a_moving_picture_is_another_thing_as_a_video(gate: Gate) -> None:
    gif = b"GIF89a\x08\0\x08\0" + bytes(200)
    finish(gate, gate.client.post("/v1/images?wait=0", content=gif))
    assert post(gate, gif).status_code == 202
    kinds = [message.kind for message, _ in gate.stack.producer.sent]
    assert kinds == ["image", "video"]
    finish(gate, post(gate, gif, "?dedupe=false"))
    assert gate.client.post("/v1/images?wait=0", content=gif).status_code == 200
    other = b"GIF89a\x09\0\x08\0" + bytes(200)
    finish(gate, post(gate, other))
    assert gate.client.post("/v1/images?wait=0", content=other).status_code == 202


def test_a_film_in_work_is_looked_at_once(gate: Gate) -> None:
    first = post(gate, film(), "?stop_on=block")
    second = post(gate, film(), "?stop_on=block&data_id=two")
    third = post(gate, film(), "?stop_on=block&data_id=three")
    other = post(gate, film(), "?stop_on=review")
    assert [a.status_code for a in (first, second, third, other)] == [202] * 4
    sent = [message.job_id for message, _ in gate.stack.producer.sent]
    assert sent == [first.json()["job_id"], other.json()["job_id"]]
    assert sweep(gate) == ()
    finish(gate, first)
    followed = [answer.json()["job_id"] for answer in (second, third)]
    assert list(sweep(gate)) == followed
    for answer, data_id in ((second, "two"), (third, "three")):
        verdict = gate.client.get(answer.headers["location"]).json()["verdict"]
        assert (verdict["id"], verdict["data_id"]) == (answer.json()["id"], data_id)
        assert (verdict["decided_by"], verdict["decision"]) == ("duplicate", "pass")
        assert verdict["job_id"] == answer.json()["job_id"]
    job = gate.client.get(f"/v1/jobs/{other.json()['job_id']}").json()
    assert job["state"] == JobState.QUEUED.value


def test_who_followed_a_job_that_failed_is_looked_at(gate: Gate) -> None:
    def failed(claim: Claim) -> Verdict:
        changes = {
            "status": "failed",
            "decision": "review",
            "error": {"title": "Lost", "status": 503, "code": "attempts_exhausted"},
        }
        return Verdict.model_validate(fake_verdict(claim).to_json() | changes)

    first, second, third = (post(gate, film()) for _ in range(3))
    finish(gate, first, failed)
    swept = jobs.sweep(gate.stack.db, republish_after_s=10.0, max_attempts=5)
    assert [hint.job_id for hint in swept.republish] == [second.json()["job_id"]]
    assert [hint.kind for hint in swept.republish] == ["video"]
    finish(gate, second)
    assert list(sweep(gate)) == [third.json()["job_id"]]


def test_a_follower_can_be_called_off(gate: Gate) -> None:
    first, second = post(gate, film()), post(gate, film())
    assert gate.client.delete(f"/v1/jobs/{second.json()['job_id']}").status_code == 200
    finish(gate, first)
    assert sweep(gate) == ()


def test_a_leader_that_is_called_off_leaves_its_follower(gate: Gate) -> None:
    first, second = post(gate, film()), post(gate, film())
    assert gate.client.delete(f"/v1/jobs/{first.json()['job_id']}").status_code == 200
    swept = jobs.sweep(gate.stack.db, republish_after_s=10.0, max_attempts=5)
    assert [hint.job_id for hint in swept.republish] == [second.json()["job_id"]]


def test_films_of_two_tenants_do_not_meet(gate: Gate) -> None:
    other = gate.stack.key("media:write", tenant="other")
    post(gate, film())
    assert gate.client.post("/v1/videos", content=film(), headers=other).status_code == 202
    assert len(gate.stack.producer.sent) == 2


def test_a_key_that_is_repeated_answers_the_first_outcome(gate: Gate) -> None:
    key = {"Idempotency-Key": "k1"}
    first = post(gate, film(), **key)
    assert post(gate, film(), **key).json() == first.json()
    problem(post(gate, film(seed=1), **key), 409, "idempotency_conflict")
    problem(post(gate, film(), "?fps=1", **key), 409, "idempotency_conflict")
    assert len(gate.stack.producer.sent) == 1


# --- URLs -------------------------------------------------------------------------------


def test_a_url_is_read_into_a_file_and_not_again(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pour(url: str, write: Callable[[bytes], object], **limits: object) -> None:
        asked.append(url)
        assert limits["max_bytes"] == gate.stack.settings.max_video_bytes
        for start in range(0, len(film()), 999):
            write(film()[start : start + 999])

    monkeypatch.setattr("moderation.fetch.pour", pour)
    answers = [
        gate.client.post("/v1/videos", json={"url": URL}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert asked == [URL]
    assert gate.client.get(answers[0].headers["location"]).json()["source"] == URL
    assert stored(gate, answers[0]) == film()
    changed = {"json": {"url": f"{URL}?2"}, "headers": {"Idempotency-Key": "k"}}
    problem(gate.client.post("/v1/videos", **changed), 409, "idempotency_conflict")


def test_a_url_that_fails_leaves_nothing(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def pour(url: str, write: Callable[[bytes], object], **limits: object) -> None:
        write(b"x" * 1000)
        raise FetchError("the answer ended early")

    monkeypatch.setattr("moderation.fetch.pour", pour)
    problem(gate.client.post("/v1/videos", json={"url": URL}), 422, "fetch_failed")


def test_urls_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False) as gate:
        problem(gate.client.post("/v1/videos", json={"url": URL}), 403, "fetch_disabled")


# --- what a crash left ------------------------------------------------------------------


def test_files_of_a_dead_gateway_are_swept_and_those_of_a_living_one_are_not(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    with running(home, finish=False) as gate:
        stale = home / "incoming" / "in_dead.part"
        stale.write_bytes(b"half a film")
        incoming = gate.stack.app.state.gateway.incoming
        with incoming.file(1000) as file:
            file.write(b"x")
            assert incoming.sweep() == 1
            assert not stale.exists()
            assert file.path.exists()
        assert list((home / "incoming").iterdir()) == []
        stale.write_bytes(b"half a film")
    with running(home, finish=False):
        assert not stale.exists()
