"""/v1/uploads by the letter of tus 1.0, against the real store on SQLite."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from httpx import Response

from api import tus
from moderation.blobs import FolderBlobs
from moderation.errors import BlobError, StoreError
from moderation.store import uploads
from moderation.store.records import JobState
from tests.fakes.gateway import Gate, running
from tests.unit.test_api_images import problem
from tests.unit.test_api_videos import film, finish, stored

V = {"Tus-Resumable": "1.0.0"}
TYPE = {"Content-Type": "application/offset+octet-stream"}
NONE = f"upload_{'0' * 32}"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False) as gate:
        gate.stack.worker()
        yield gate
        assert list((tmp_path / "home" / "incoming").iterdir()) == []


def create(gate: Gate, length: int, data: bytes | None = None, **headers: str) -> Response:
    sent = V | {"Upload-Length": str(length)} | headers
    if data is None:
        return gate.client.post("/v1/uploads", headers=sent)
    return gate.client.post("/v1/uploads", headers=sent | TYPE, content=data)


def begin(gate: Gate, length: int, **headers: str) -> str:
    response = create(gate, length, **headers)
    assert response.status_code == 201, response.text
    return response.headers["location"]


def patch(gate: Gate, path: str, offset: int, data: bytes, **headers: str) -> Response:
    sent = V | TYPE | {"Upload-Offset": str(offset)} | headers
    return gate.client.request("PATCH", path, headers=sent, content=data)


def offset(gate: Gate, path: str) -> int:
    response = gate.client.request("HEAD", path, headers=V)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return int(response.headers["upload-offset"])


def take(gate: Gate, path: str, query: str = "", **headers: str) -> Response:
    body = {"upload": path.rpartition("/")[2]}
    return gate.client.post(f"/v1/videos{query}", json=body, headers=headers)


def pieces(gate: Gate) -> list[Path]:
    folder = gate.stack.settings.home / "media" / "uploads"
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_server_says_what_it_can_without_a_key(gate: Gate) -> None:
    for path in ("/v1/uploads", f"/v1/uploads/{NONE}"):
        response = gate.client.request("OPTIONS", path, headers={"Authorization": ""})
        assert response.status_code == 204
        assert response.headers["tus-version"] == response.headers["tus-resumable"] == "1.0.0"
        assert int(response.headers["tus-max-size"]) == gate.stack.settings.max_video_bytes
        assert "creation-with-upload" in response.headers["tus-extension"].split(",")
        assert "sha1" in response.headers["tus-checksum-algorithm"].split(",")


def test_a_film_in_pieces_becomes_an_item(gate: Gate) -> None:
    data = film(300_000)
    name = base64.b64encode(b"mein Film.mp4").decode()
    path = begin(gate, len(data), **{"Upload-Metadata": f"filename {name},is_x"})
    assert offset(gate, path) == 0
    for start, end in ((0, 1), (1, 100_000), (100_000, len(data))):
        response = patch(gate, path, start, data[start:end])
        assert response.status_code == 204, response.text
        assert response.headers["upload-offset"] == str(end)
        assert parsedate_to_datetime(response.headers["upload-expires"]) is not None
        assert offset(gate, path) == end
    head = gate.client.request("HEAD", path, headers=V).headers
    assert head["upload-length"] == str(len(data))
    assert head["upload-metadata"] == f"filename {name},is_x"
    assert len(pieces(gate)) == 3
    answer = take(gate, path, "?data_id=d&fps=2")
    assert answer.status_code == 202, answer.text
    item = gate.client.get(answer.headers["location"]).json()
    assert (item["source"], item["data_id"]) == ("mein Film.mp4", "d")
    assert item["media"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert stored(gate, answer) == data
    assert pieces(gate) == []
    problem(
        gate.client.request("PATCH", path, headers=V | TYPE | {"Upload-Offset": "0"}),
        404,
        "not_found",
    )


def test_bytes_may_come_with_the_creation(gate: Gate) -> None:
    data = film(1000)
    response = create(gate, len(data), data[:400])
    assert (response.status_code, response.headers["upload-offset"]) == (201, "400")
    path = response.headers["location"]
    assert patch(gate, path, 400, data[400:]).status_code == 204
    assert stored(gate, take(gate, path)) == data


def test_a_long_body_is_kept_in_pieces(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.tus.PIECE_BYTES", 70_000)
    data = film(300_000)
    path = begin(gate, len(data))
    assert patch(gate, path, 0, data[:210_000]).headers["upload-offset"] == "210000"
    assert sorted(piece.stat().st_size for piece in pieces(gate)) == [70_000] * 3
    assert patch(gate, path, 210_000, data[210_000:]).status_code == 204
    assert stored(gate, take(gate, path)) == data


def test_the_wrong_place_is_409_and_nothing_is_kept(gate: Gate) -> None:
    path = begin(gate, 100)
    patch(gate, path, 0, b"x" * 10)
    for wrong in (0, 9, 11, 100):
        body = problem(patch(gate, path, wrong, b"y" * 5), 409, "upload_offset")
        assert "goes on at 10" in str(body["detail"])
    assert offset(gate, path) == 10
    assert len(pieces(gate)) == 1


def test_of_two_pieces_for_one_place_one_is_kept(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes while the first one's bytes are on their way to the store."""
    path = begin(gate, 10)
    put_file = FolderBlobs.put_file

    def slow(self: FolderBlobs, key: str, file: Path) -> None:
        monkeypatch.setattr(FolderBlobs, "put_file", put_file)
        row = uploads.get(gate.stack.db, "default", path.rpartition("/")[2])
        other = uploads.Part(0, 4, uploads.part_key(row.id, 0))
        self.put(other.blob_key, b"hers")
        uploads.append(gate.stack.db, row, other, expires=row.expires)
        put_file(self, key, file)

    monkeypatch.setattr(FolderBlobs, "put_file", slow)
    problem(patch(gate, path, 0, b"his"), 409, "upload_offset")
    assert offset(gate, path) == 4
    assert [piece.read_bytes() for piece in pieces(gate)] == [b"hers"]


def test_a_piece_that_counts_although_the_answer_was_lost_has_its_bytes(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database commits, and the connection to it breaks before it can say so."""
    data = film(1000)
    path = begin(gate, len(data))
    append = uploads.append

    def lost(*args: object, **kwargs: object) -> uploads.UploadRow:
        append(*args, **kwargs)  # type: ignore[arg-type]
        raise StoreError("The database does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "append", lost)
        problem(patch(gate, path, 0, data[:600]), 503, "store_unavailable")
    assert offset(gate, path) == 600
    assert patch(gate, path, 600, data[600:]).status_code == 204
    assert stored(gate, take(gate, path)) == data


def test_more_than_announced_is_413(gate: Gate) -> None:
    path = begin(gate, 10)
    problem(patch(gate, path, 0, b"x" * 11), 413, "too_large")
    chunks = (b"x" * 4 for _ in range(3))
    headers = V | TYPE | {"Upload-Offset": "0"}
    response = gate.client.request("PATCH", path, headers=headers, content=chunks)
    problem(response, 413, "too_large")
    problem(create(gate, 10, b"x" * 11), 413, "too_large")
    assert offset(gate, path) == 0
    assert patch(gate, path, 0, b"x" * 10).status_code == 204
    problem(patch(gate, path, 10, b"x"), 413, "too_large")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_checksum_is_held_to(gate: Gate, algorithm: str) -> None:
    digest = base64.b64encode(hashlib.new(algorithm, b"right").digest()).decode()
    path = begin(gate, 10)
    check = {"Upload-Checksum": f"{algorithm} {digest}"}
    problem(patch(gate, path, 0, b"wrong", **check), 460, "checksum_mismatch")
    assert offset(gate, path) == 0
    assert pieces(gate) == []
    assert patch(gate, path, 0, b"right", **check).status_code == 204
    assert offset(gate, path) == 5


@pytest.mark.parametrize("told", ["crc32 AAAA", "sha1", "sha1 !", "sha1 A", ""])
def test_an_unknown_checksum_is_400(gate: Gate, told: str) -> None:
    path = begin(gate, 10)
    response = patch(gate, path, 0, b"right", **{"Upload-Checksum": told})
    problem(response, 400, "checksum_unsupported")
    assert offset(gate, path) == 0


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", [None, "0.2.2"])
def test_another_version_is_412(gate: Gate, method: str, version: str | None) -> None:
    path = "/v1/uploads" if method == "POST" else begin(gate, 10)
    headers = {"Upload-Length": "5", "Upload-Offset": "0"} | TYPE
    headers |= {"Tus-Resumable": version} if version else {}
    response = gate.client.request(method, path, headers=headers)
    assert response.status_code == 412
    assert response.headers["tus-version"] == "1.0.0"
    if method != "HEAD":
        problem(response, 412, "tus_version")


def test_every_answer_names_the_version(gate: Gate) -> None:
    path = begin(gate, 10)
    for response in (
        patch(gate, path, 3, b"x"),
        patch(gate, path, 0, b"x", **{"Content-Type": "video/mp4"}),
        gate.client.request("PATCH", path, headers=V | TYPE),
        gate.client.request("HEAD", f"/v1/uploads/{NONE}", headers=V),
        gate.client.post("/v1/uploads", headers=V | {"Authorization": "Bearer no"}),
        gate.client.put(path, headers=V),
    ):
        assert response.is_client_error
        assert response.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "1e3", "99999999999999999999"])
def test_lengths_and_offsets_are_whole_numbers(gate: Gate, value: str) -> None:
    headers = V | {"Upload-Length": value}
    problem(gate.client.post("/v1/uploads", headers=headers), 422, "input_invalid")
    path = begin(gate, 10)
    response = patch(gate, path, 0, b"x", **{"Upload-Offset": value})
    problem(response, 422, "input_invalid")


@pytest.mark.parametrize("told", ["a b c", "film €", "a !", ",", "a,,b"])
def test_metadata_have_a_form(gate: Gate, told: str) -> None:
    response = gate.client.post(
        "/v1/uploads",
        headers=[*V.items(), ("Upload-Length", "5"), ("Upload-Metadata", told.encode())],
    )
    problem(response, 422, "input_invalid")


@pytest.mark.parametrize("name", ["!!", "/w==", "AAA", ""])
def test_a_name_that_cannot_be_read_is_none(name: str) -> None:
    assert tus.file_name({"filename": name}) in (None, "\ufffd")


def test_what_is_too_long_or_not_bytes_is_refused(gate: Gate) -> None:
    problem(create(gate, gate.stack.settings.max_video_bytes + 1), 413, "too_large")
    path = begin(gate, 10)
    wrong = {"Content-Type": "video/mp4"}
    problem(patch(gate, path, 0, b"x", **wrong), 415, "unsupported_content_type")
    assert create(gate, 10, b"", **{"Content-Type": "text/plain"}).status_code == 201
    response = gate.client.post(
        "/v1/uploads", headers=V | wrong | {"Upload-Length": "5"}, content=b"x"
    )
    problem(response, 415, "unsupported_content_type")


def test_the_method_may_be_told_in_a_header(gate: Gate) -> None:
    path = begin(gate, 10)
    told = V | TYPE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert gate.client.post(path, headers=told, content=b"abc").status_code == 204
    assert offset(gate, path) == 3
    told = V | {"X-HTTP-Method-Override": "DELETE"}
    assert gate.client.post(path, headers=told).status_code == 204
    assert gate.client.request("HEAD", path, headers=V).status_code == 404


def test_an_upload_can_be_given_up(gate: Gate) -> None:
    path = begin(gate, 10)
    patch(gate, path, 0, b"abc")
    assert gate.client.delete(path, headers=V).status_code == 204
    assert pieces(gate) == []
    problem(gate.client.delete(path, headers=V), 404, "not_found")
    problem(take(gate, path), 404, "not_found")


def test_uploads_of_two_tenants_do_not_meet(gate: Gate) -> None:
    path = begin(gate, 10)
    other = gate.stack.key("media:write", tenant="other")
    assert gate.client.request("HEAD", path, headers=V | other).status_code == 404
    problem(patch(gate, path, 0, b"x", **other), 404, "not_found")
    problem(gate.client.delete(path, headers=V | other), 404, "not_found")
    patch(gate, path, 0, b"x" * 10)
    problem(take(gate, path, **other), 404, "not_found")
    assert offset(gate, path) == 10


def test_a_key_that_may_only_read_may_not_upload(gate: Gate) -> None:
    path = begin(gate, 10)
    reader = gate.stack.key("results:read")
    problem(create(gate, 10, **reader), 403, "forbidden")
    problem(patch(gate, path, 0, b"x", **reader), 403, "forbidden")
    problem(gate.client.delete(path, headers=V | reader), 403, "forbidden")
    assert gate.client.request("HEAD", path, headers=V | reader).status_code == 403


def test_an_expired_upload_is_pruned_with_its_bytes(gate: Gate) -> None:
    path, other = begin(gate, 10), begin(gate, 10)
    patch(gate, path, 0, b"abc")
    patch(gate, other, 0, b"abc")
    row = uploads.get(gate.stack.db, "default", path.rpartition("/")[2])
    later = row.expires + timedelta(hours=1)
    uploads.append(
        gate.stack.db,
        uploads.get(gate.stack.db, "default", other.rpartition("/")[2]),
        uploads.Part(3, 1, "uploads/x"),
        expires=later + timedelta(hours=1),
    )
    assert uploads.prune(gate.stack.db, gate.blobs) == 0
    assert uploads.prune(gate.stack.db, gate.blobs, now=later) == 1
    assert len(pieces(gate)) == 1
    problem(patch(gate, path, 3, b"x"), 404, "not_found")
    assert offset(gate, other) == 4


def test_what_a_tenant_announces_is_bounded(tmp_path: Path) -> None:
    with running(tmp_path / "home", finish=False, max_pending_bytes=100) as gate:
        path = begin(gate, 60)
        problem(create(gate, 41), 503, "overloaded")
        assert create(gate, 40).status_code == 201
        other = gate.stack.key("media:write", tenant="other")
        assert create(gate, 100, **other).status_code == 201
        gate.client.delete(path, headers=V)
        assert create(gate, 60).status_code == 201


# --- becoming a video -------------------------------------------------------------------


def uploaded(gate: Gate, data: bytes) -> str:
    return create(gate, len(data), data).headers["location"]


def test_an_unfinished_upload_is_409(gate: Gate) -> None:
    path = begin(gate, 10)
    patch(gate, path, 0, b"abc")
    problem(take(gate, path), 409, "upload_incomplete")
    assert offset(gate, path) == 3


def test_an_upload_that_is_no_video_is_refused_and_stays(gate: Gate) -> None:
    path = uploaded(gate, b"this is no film")
    problem(take(gate, path), 415, "unsupported_format")
    path = begin(gate, 0)
    problem(take(gate, path), 422, "empty_file")
    assert offset(gate, path) == 0


def test_it_may_be_asked_again_under_a_key(gate: Gate) -> None:
    path = uploaded(gate, film())
    key = {"Idempotency-Key": "k"}
    first = take(gate, path, **key)
    assert first.status_code == 202
    again = take(gate, path, **key)
    assert again.json() == first.json()
    finish(gate, first)
    assert take(gate, path, **key).status_code == 200
    problem(take(gate, path, "?fps=3", **key), 409, "idempotency_conflict")
    problem(take(gate, path), 404, "not_found")
    assert len(gate.stack.producer.sent) == 1


def test_who_comes_second_under_a_key_has_the_firsts_answer(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is through while the second one joins the pieces."""
    path = uploaded(gate, film())
    key = {"Idempotency-Key": "k"}
    answers: list[Response] = []
    get = uploads.get

    def between(*args: object, **kwargs: object) -> uploads.UploadRow:
        monkeypatch.setattr("moderation.store.uploads.get", get)
        row = get(*args, **kwargs)  # type: ignore[arg-type]
        answers.append(take(gate, path, **key))
        return row

    monkeypatch.setattr("moderation.store.uploads.get", between)
    second = take(gate, path, **key)
    assert [answer.status_code for answer in answers] == [202]
    assert second.json() == answers[0].json()


def test_a_store_that_does_not_delete_harms_nobody(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FolderBlobs, prefix: str) -> None:
        raise BlobError("The media store does not answer.")

    path = uploaded(gate, film())
    with monkeypatch.context() as patched:
        patched.setattr(FolderBlobs, "delete_below", refuse)
        answer = take(gate, path)
    assert answer.status_code == 202
    job = gate.client.get(f"/v1/jobs/{answer.json()['job_id']}").json()
    assert job["state"] == JobState.QUEUED.value
    assert len(pieces(gate)) == 1
    assert uploads.prune(gate.stack.db, gate.blobs) == 1
    assert pieces(gate) == []


def test_pieces_and_film_may_lie_in_s3(
    tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = {"blob_url": "s3://media/uploads-test", "s3_endpoint": s3_endpoint}
    data = film(300_000)
    with running(tmp_path / "home", finish=False, **store) as gate:
        path = begin(gate, len(data))
        assert patch(gate, path, 0, data[:100_000]).status_code == 204
        assert patch(gate, path, 100_000, data[100_000:]).status_code == 204
        row = uploads.get(gate.stack.db, "default", path.rpartition("/")[2])
        keys = [part.blob_key for part in uploads.parts(gate.stack.db, row.id)]
        assert [gate.blobs.size(key) for key in keys] == [100_000, len(data) - 100_000]
        answer = take(gate, path)
        assert answer.status_code == 202
        assert stored(gate, answer) == data
        assert not any(gate.blobs.exists(key) for key in keys)
        assert list((tmp_path / "home" / "incoming").iterdir()) == []
