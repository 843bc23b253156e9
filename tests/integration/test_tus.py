"""Resumable uploads over real sockets, by a client that somebody else wrote (tuspy)."""

from __future__ import annotations

import hashlib
import io
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tusclient.client import TusClient

from tests.fakes.gateway import KEY, Stack
from tests.integration.test_gateway_server import AUTH, serving, until
from tests.unit.test_api_videos import film

DATA = film(700_000)
SLACK = 512 * 1024
"""Bytes that the server may have read from its socket and not handed on when a client leaves."""


class Ends(logging.Handler):
    """The PATCH requests that have ended, by the access log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.statuses: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage().split()
        if words[0] == "PATCH":
            self.statuses.append(int(words[2]))


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway on a port. `ends`: what became of each PATCH."""

    port: int
    home: Path
    ends: Ends = field(default_factory=Ends)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> TusClient:
        return TusClient(f"{self.url}/v1/uploads", headers=AUTH)

    def offset(self, location: str) -> int:
        head = httpx.head(location, headers=AUTH | {"Tus-Resumable": "1.0.0"})
        assert head.status_code == 200
        return int(head.headers["upload-offset"])

    def break_off(self, location: str, start: int, count: int) -> None:
        """Send `count` bytes of a PATCH that announces all that is left, and leave."""
        self.begin(location, start, count).close()

    def begin(self, location: str, start: int, count: int) -> socket.socket:
        """The same without leaving. It goes out at once: no pause comes before the last byte."""
        path = httpx.URL(location).path
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Tus-Resumable: 1.0.0\r\nUpload-Offset: {start}\r\n"
            f"Content-Type: application/offset+octet-stream\r\n"
            f"Content-Length: {len(DATA) - start}\r\n\r\n".encode()
            + DATA[start : start + count]
        )
        return connection

    def sha256(self, location: str) -> str:
        """The content of the item that the upload becomes."""
        body = {"upload": location.rpartition("/")[2]}
        answer = httpx.post(f"{self.url}/v1/videos?dedupe=false", json=body, headers=AUTH)
        assert answer.status_code == 202, answer.text
        item = httpx.get(self.url + answer.headers["location"], headers=AUTH).json()
        sha256: str = item["media"]["sha256"]
        return sha256


def whole_answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


@contextmanager
def opened(home: Path, stall_s: float) -> Iterator[Site]:
    stack = Stack(home, stall_timeout=stall_s)
    access = logging.getLogger("api.access")
    with serving(stack) as port:
        made = Site(port, home)
        before = access.level
        access.setLevel(logging.INFO)  # not the attribute: loggers remember what they let through
        access.addHandler(made.ends)
        try:
            yield made
        finally:
            access.removeHandler(made.ends)
            access.setLevel(before)
        until(lambda: not list((made.home / "incoming").iterdir()))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.tus.PIECE_BYTES", 100_000)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "home", 30.0) as made:
        yield made


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Site]:
    """One that soon leaves a sender who falls silent."""
    with opened(tmp_path / "home", 1.5) as made:
        yield made


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("chunk_size", [len(DATA), 123_457])
def test_an_independent_client_uploads(site: Site, chunk_size: int, checksum: bool) -> None:
    uploader = site.client().uploader(
        file_stream=io.BytesIO(DATA),
        chunk_size=chunk_size,
        metadata={"filename": "film.mp4"},
        upload_checksum=checksum,
    )
    uploader.upload()
    assert site.sha256(uploader.url) == hashlib.sha256(DATA).hexdigest()
    assert not list((site.home / "media").glob("uploads/*/*"))


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(0, len(DATA)), min_size=1, max_size=4))
def test_an_upload_broken_off_anywhere_goes_on(site: Site, cuts: list[int]) -> None:
    location = site.client().uploader(file_stream=io.BytesIO(DATA)).create_url()
    for count in cuts:
        start = site.offset(location)
        sent = min(count, len(DATA) - start)
        ended = len(site.ends.statuses)
        site.break_off(location, start, sent)
        until(lambda ended=ended: len(site.ends.statuses) > ended)  # type: ignore[misc]
        kept = site.offset(location)
        assert max(start, start + sent - SLACK) <= kept <= start + sent
    uploader = site.client().uploader(
        file_stream=io.BytesIO(DATA), url=location, chunk_size=200_000
    )
    assert uploader.offset == site.offset(location)
    uploader.upload()
    assert site.sha256(location) == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("count", [0, 1, 99_999, 100_000, 345_678])
def test_a_sender_that_falls_silent_is_left_and_every_byte_is_kept(hasty: Site, count: int) -> None:
    location = hasty.client().uploader(file_stream=io.BytesIO(DATA)).create_url()
    with hasty.begin(location, 0, count) as connection:
        answer = whole_answer(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"upload_stalled" in answer
    assert hasty.offset(location) == count


def test_two_gateways_take_turns(site: Site, tmp_path: Path) -> None:
    """They share database and media store, and nothing else."""
    shared = tmp_path / "home"
    other = Stack(
        tmp_path / "other",
        database_url=f"sqlite:///{shared / 'moderation.db'}",
        blob_url=(shared / "media").as_uri(),
    )
    with serving(other) as port:
        location = site.client().uploader(file_stream=io.BytesIO(DATA)).create_url()
        uploader = site.client().uploader(
            file_stream=io.BytesIO(DATA), url=location, chunk_size=150_000
        )
        uploader.upload(stop_at=300_000)
        second = location.replace(f":{site.port}/", f":{port}/")
        site.client().uploader(
            file_stream=io.BytesIO(DATA), url=second, chunk_size=150_000
        ).upload()
        assert site.sha256(location) == hashlib.sha256(DATA).hexdigest()
