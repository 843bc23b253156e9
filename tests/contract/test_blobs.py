"""One contract for both blob stores: a folder, and S3 (a look-alike on loopback)."""

from __future__ import annotations

import errno
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moderation.blobs import BlobStore, FolderBlobs, blob_key, open_blobs
from moderation.errors import BlobError, ConfigError, NotFoundError
from tests.contract.store_data import together
from tests.servers import free_port

SHA = "ab" + "0" * 62


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["folder", "s3", "s3-prefix"])
def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, s3_credentials: None
) -> Iterator[BlobStore]:
    if request.param == "folder":
        yield open_blobs((tmp_path / "some media").as_uri())
        return
    prefix = "/deep/er" if request.param == "s3-prefix" else ""
    endpoint = request.getfixturevalue("s3_endpoint")
    store = open_blobs(f"s3://media{prefix}", endpoint=endpoint)
    yield store
    store.delete(blob_key("default", SHA))


def test_what_is_put_can_be_got(blobs: BlobStore) -> None:
    key = blob_key("default", SHA)
    assert key == f"default/ab/{SHA}"
    assert not blobs.exists(key)
    data = bytes(range(256)) * 1000
    blobs.put(key, data)
    assert blobs.exists(key)
    assert blobs.get(key) == data
    blobs.put(key, b"other")
    assert blobs.get(key) == b"other"


def test_what_is_deleted_is_gone(blobs: BlobStore) -> None:
    key = blob_key("default", SHA)
    blobs.put(key, b"x")
    blobs.delete(key)
    blobs.delete(key)
    assert not blobs.exists(key)
    with pytest.raises(NotFoundError) as error:
        blobs.get(key)
    assert error.value.code == "blob_missing"


def test_a_file_can_be_put_and_is_read_by_ranges(blobs: BlobStore, tmp_path: Path) -> None:
    key = blob_key("default", SHA)
    data = random.Random(1).randbytes(9 * 1024 * 1024 + 17)  # more than one part of an upload
    path = tmp_path / "film"
    path.write_bytes(data)
    blobs.put(key, b"what was there before")
    blobs.put_file(key, path)
    blobs.put_file(key, path)
    path.unlink()
    assert blobs.size(key) == len(data)
    assert blobs.get(key) == data
    for start, length in ((0, len(data)), (5, 10), (len(data) - 3, 3), (2**20 - 1, 2**20 + 2)):
        chunks = list(blobs.open_range(key, start, length))
        assert b"".join(chunks) == data[start : start + length]
        assert max(map(len, chunks)) <= 2**20
    assert b"".join(blobs.open_range(key, len(data) - 3, 100)) == data[-3:]
    assert list(blobs.open_range(key, len(data), 5)) == []
    assert list(blobs.open_range(key, 7, 0)) == []


def test_an_empty_file_is_a_blob(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    blobs.put_file("a/b", tmp_path / "empty")
    assert (blobs.size("a/b"), blobs.get("a/b")) == (0, b"")
    assert list(blobs.open_range("a/b", 0, 10)) == []


def test_a_local_file_is_there_for_as_long_as_it_is_used(blobs: BlobStore, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    blobs.put("a/b", b"film")
    with blobs.local("a/b", folder) as path:
        assert path.read_bytes() == b"film"
    assert list(folder.iterdir()) == []
    assert blobs.get("a/b") == b"film"


def test_what_is_missing_is_told_in_each_way(blobs: BlobStore, tmp_path: Path) -> None:
    def local() -> None:
        with blobs.local("not/there", tmp_path):
            pass

    calls: list[Callable[[], object]] = [
        lambda: blobs.size("not/there"),
        lambda: list(blobs.open_range("not/there", 0, 1)),
        local,
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as error:
            call()
        assert error.value.code == "blob_missing"


def test_what_lies_below_a_prefix_is_deleted_together(blobs: BlobStore) -> None:
    for key in ("up/one/0", "up/one/x/5", "up/one-more/0", "up/two/0"):
        blobs.put(key, b"piece")
    blobs.delete_below("up/one")
    blobs.delete_below("up/one")
    left = [k for k in ("up/one/0", "up/one/x/5", "up/one-more/0", "up/two/0") if blobs.exists(k)]
    assert left == ["up/one-more/0", "up/two/0"]


def test_a_store_that_works_answers_a_ping(blobs: BlobStore) -> None:
    blobs.ping()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".x", "a\nb"])
def test_keys_cannot_leave_the_store(blobs: BlobStore, key: str) -> None:
    calls: list[Callable[[str], object]] = [
        *(blobs.get, blobs.exists, blobs.size, blobs.delete, blobs.delete_below),
        lambda k: blobs.put(k, b"x"),
        lambda k: list(blobs.open_range(k, 0, 1)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="blob key"):
            call(key)


@pytest.mark.parametrize(
    ("tenant", "sha256"), [("a/../b", SHA), ("", SHA), ("t", "AB" * 32), ("t", "../..")]
)
def test_a_key_is_made_of_a_tenant_and_a_digest(tenant: str, sha256: str) -> None:
    with pytest.raises(ValueError, match=r"blob key|sha256"):
        blob_key(tenant, sha256)


def test_readers_see_whole_files_alone(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    key = blob_key("default", SHA)
    versions = [bytes([n]) * 200_000 for n in range(4)]
    blobs.put(key, versions[0])

    def work(number: int) -> None:
        for _ in range(20):
            if number < 2:
                blobs.put(key, versions[number])
            else:
                assert blobs.get(key) in versions

    together(work, 4)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [tmp_path / key]
    assert stat.S_IMODE(left[0].stat().st_mode) & 0o007 == 0, "media are nobody else's business"


def test_a_file_of_another_file_system_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    blobs = FolderBlobs(tmp_path / "media")
    film = tmp_path / "film"
    film.write_bytes(b"x" * 3_000_000)
    blobs.put_file("a/b", film)
    film.write_bytes(b"another one")
    assert blobs.get("a/b") == b"x" * 3_000_000
    assert list((tmp_path / "media" / ".partial").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "media" / "a" / "b").stat().st_mode) == 0o600


def test_a_file_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "media")
    blobs.put("a/b", b"kept")
    with pytest.raises(BlobError):
        blobs.put_file("a/b", tmp_path / "none")
    assert blobs.get("a/b") == b"kept"
    assert list((tmp_path / "media" / ".partial").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_blob_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobError):
        open_blobs((tmp_path / "file" / "media").as_uri())
    blobs = FolderBlobs(tmp_path / "media")
    (tmp_path / "media" / "default").write_bytes(b"in the way")
    with pytest.raises(BlobError):
        blobs.put(blob_key("default", SHA), b"x")
    assert list((tmp_path / "media" / ".partial").iterdir()) == []


def test_a_bucket_that_is_missing_or_does_not_answer(
    s3_endpoint: str, s3_credentials: None
) -> None:
    missing = open_blobs("s3://nowhere", endpoint=s3_endpoint)
    for call in (missing.ping, lambda: missing.put("a", b"x"), lambda: missing.get("a")):
        with pytest.raises(BlobError):
            call()
    silent = open_blobs("s3://media", endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BlobError, match="does not answer"):
        silent.ping()


@pytest.mark.parametrize("url", ["", "media", "file://host/x", "s3://", "http://h/x", "file:"])
def test_unusable_urls_are_told_at_start(url: str) -> None:
    with pytest.raises(ConfigError, match="blob_url"):
        open_blobs(url)
