from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moderation.blobs import blob_key, open_blobs
from moderation.errors import NotFoundError
from moderation.tasks.files import KEPT, LocalFiles, own_folder
from tests.contract.store_data import together


class Far:
    """A store whose files have to be fetched; how often is counted."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    @contextmanager
    def local(self, key: str, folder: Path) -> Iterator[Path]:
        if key == "gone":
            raise NotFoundError("gone", code="blob_missing")
        self.fetched.append(key)
        path = folder / f"{key}-{len(self.fetched)}"
        path.write_text(key)
        try:
            yield path
        finally:
            path.unlink()


def local(far: Far, folder: Path) -> LocalFiles:
    return LocalFiles(far, folder)  # type: ignore[arg-type]


def test_a_file_is_fetched_once_for_all_who_read_it(tmp_path: Path) -> None:
    far = Far()
    with local(far, tmp_path) as files:

        def read(_number: int) -> str:
            with files.open("a") as path:
                return path.read_text()

        assert together(read) == ["a"] * 8
        read(0)
        assert far.fetched == ["a"]
    assert list(tmp_path.iterdir()) == []


def test_few_are_kept_and_the_latest_longest(tmp_path: Path) -> None:
    far = Far()
    with local(far, tmp_path) as files:
        for key in ("a", "b", "c", "b", "d", "b"):
            with files.open(key) as path:
                assert path.read_text() == key
            assert len(list(tmp_path.iterdir())) <= KEPT
        assert far.fetched == ["a", "b", "c", "d"]


def test_one_that_is_read_is_not_deleted(tmp_path: Path) -> None:
    far = Far()
    with local(far, tmp_path) as files, files.open("a") as path:
        for key in "bcde":
            with files.open(key):
                pass
        assert path.read_text() == "a"


def test_what_is_gone_is_looked_for_again(tmp_path: Path) -> None:
    far = Far()
    with local(far, tmp_path) as files:
        for _ in range(2):
            with pytest.raises(NotFoundError), files.open("gone"):
                pytest.fail("it was there")


def test_a_folder_s_file_is_read_where_it_lies(tmp_path: Path) -> None:
    blobs = open_blobs((tmp_path / "media").as_uri())
    key = blob_key("default", "ab" * 32)
    blobs.put(key, b"film")
    with LocalFiles(blobs, tmp_path / "own") as files:
        with files.open(key) as path:
            assert path == tmp_path / "media" / key
        blobs.delete(key)
        with pytest.raises(NotFoundError), files.open(key):
            pytest.fail("it was there")


def test_what_lies_in_s3_is_fetched_and_deleted_in_the_end(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    blobs = open_blobs("s3://media/films", endpoint=s3_endpoint)
    key = blob_key("default", "cd" * 32)
    blobs.put(key, b"film")
    with LocalFiles(blobs, tmp_path) as files:
        with files.open(key) as first:
            assert first.read_bytes() == b"film"
        with files.open(key) as second:
            assert second == first, "it was kept"
    blobs.delete(key)
    assert list(tmp_path.iterdir()) == []


def test_what_dead_processes_left_is_deleted(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "film").write_bytes(b"x" * 100)
    with own_folder(tmp_path) as mine:
        assert not dead.exists()
        (mine / "film").touch()
        with own_folder(tmp_path) as other:
            assert mine.exists(), "its process lives"
            assert other != mine
    assert list(tmp_path.iterdir()) == []
