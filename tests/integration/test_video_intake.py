"""Videos over real sockets: what a broken request leaves, what it costs, and the whole way."""

from __future__ import annotations

import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tusclient.client import TusClient

from tests.fakes.gateway import KEY as STACK_KEY
from tests.fakes.gateway import Stack
from tests.integration.media import PICTURE, SOUND, write
from tests.integration.served import KEY, Served, until
from tests.integration.test_gateway_server import AUTH, ROOT, free_port, serving
from tests.integration.test_tus import whole_answer
from tests.unit.test_api_videos import MP4, film

HEADERS = {"Authorization": f"Bearer {KEY}"}


def parts(body: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    return head + body


@pytest.mark.parametrize("kind", ["video/mp4", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("size", [0, 100, 3_000_000])
def test_a_request_that_breaks_off_leaves_nothing(tmp_path: Path, kind: str, size: int) -> None:
    stack = Stack(tmp_path / "home")
    incoming = tmp_path / "home" / "incoming"
    body = parts(film(size)) if "multipart" in kind else film(size)
    with serving(stack) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(
                f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {STACK_KEY}\r\n"
                f"Content-Type: {kind}\r\nContent-Length: 9000000\r\n\r\n".encode()
            )
            client.sendall(body)
            until(lambda: bool(list(incoming.iterdir())), 20, "a file is written")
        until(lambda: not list(incoming.iterdir()), 20, "the file is gone")
        assert stack.producer.sent == []
        assert not [path for path in (tmp_path / "home" / "media").rglob("*") if path.is_file()]
        again = httpx.post(f"http://127.0.0.1:{port}/v1/videos", content=film(), headers=AUTH)
        assert again.status_code == 202


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("videos", "video/mp4"),
        ("videos", "multipart/form-data; boundary=b"),
        ("images", "image/png"),
        ("images", "multipart/form-data; boundary=b"),
        ("images:batch", "multipart/form-data; boundary=b"),
    ],
)
def test_a_sender_that_falls_silent_is_left(tmp_path: Path, path: str, kind: str) -> None:
    stack = Stack(tmp_path / "home", stall_timeout=1.0)
    body = parts(film(100)) if "multipart" in kind else film(100)
    with serving(stack) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(
                f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {STACK_KEY}\r\n"
                f"Content-Type: {kind}\r\nContent-Length: 9000000\r\n\r\n".encode()
                + body
            )
            answer = whole_answer(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"upload_stalled" in answer
        assert list((tmp_path / "home" / "incoming").iterdir()) == []
        assert stack.producer.sent == []


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway in a process of its own, and its port."""
    Stack(tmp_path / "home").close()  # migrated
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODERATION_")}
    env |= {"MODERATION_HOME": str(tmp_path / "home"), "MODERATION_BOOTSTRAP_KEY": KEY}
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--port", str(port)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def alive() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/live").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(alive, 60, "the gateway is alive")
        yield process, port
    finally:
        process.kill()
        process.wait(20)


def peak_mib(pid: int) -> float:
    [kib] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) / 1024


def test_a_large_video_is_never_in_memory(
    gateway: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = gateway
    size = 300 * 2**20
    piece = os.urandom(2**20)

    def body() -> Iterator[bytes]:
        yield MP4
        for _ in range(size // len(piece)):
            yield piece

    before = peak_mib(process.pid)
    raw = httpx.post(
        f"http://127.0.0.1:{port}/v1/videos", content=body(), headers=HEADERS, timeout=120
    )
    assert raw.status_code == 202, raw.text
    whole = tmp_path / "film.mp4"
    with whole.open("wb") as file:
        file.writelines(body())
    client = TusClient(f"http://127.0.0.1:{port}/v1/uploads", headers=HEADERS)
    with whole.open("rb") as file:
        uploader = client.uploader(file_stream=file, chunk_size=128 * 2**20)
        uploader.upload()
    joined = httpx.post(
        f"http://127.0.0.1:{port}/v1/videos?dedupe=false",
        json={"upload": uploader.url.rpartition("/")[2]},
        headers=HEADERS,
        timeout=120,
    )
    assert joined.status_code == 202, joined.text
    assert peak_mib(process.pid) - before < 40


def test_a_gateway_that_is_killed_loses_a_piece_at_most(
    gateway: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = gateway
    length = 200 * 2**20
    uploader = TusClient(f"http://127.0.0.1:{port}/v1/uploads", headers=HEADERS).uploader(
        file_stream=io.BytesIO(bytes(length))
    )
    path = httpx.URL(uploader.create_url()).path
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.putrequest("PATCH", path)
        for name, value in HEADERS.items():
            connection.putheader(name, value)
        connection.putheader("Tus-Resumable", "1.0.0")
        connection.putheader("Upload-Offset", "0")
        connection.putheader("Content-Type", "application/offset+octet-stream")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        for _ in range(100):
            connection.send(bytes(2**20))
        incoming = tmp_path / "home" / "incoming"
        media = tmp_path / "home" / "media" / "uploads"
        until(lambda: bool(list(media.rglob("0-*"))), 60, "the first piece is stored")
        until(lambda: bool(list(incoming.iterdir())), 60, "the second one is being written")
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert len(list(incoming.iterdir())) == 1
    stack = Stack(tmp_path / "home")
    with serving(stack) as second:
        assert list(incoming.iterdir()) == []
        head = httpx.head(
            f"http://127.0.0.1:{second}{path}", headers=AUTH | {"Tus-Resumable": "1.0.0"}
        )
        assert int(head.headers["upload-offset"]) == 64 * 2**20


@pytest.mark.slow
def test_a_film_in_each_way_is_looked_at_once(tmp_path: Path) -> None:
    data = write(tmp_path / "film.mp4", *PICTURE, *SOUND, "-shortest").read_bytes()
    served = Served(tmp_path / "home")
    served.start()

    def post(query: str = "", **body: Any) -> Any:
        answer = httpx.post(
            f"{served.url}/v1/videos?wait=40{query}", headers=HEADERS, timeout=60, **body
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    try:
        first = post(content=data)
        assert (first["status"], first["decided_by"]) == ("done", "policy")
        assert first["coverage"]["complete"]
        assert post(files={"file": ("b.mp4", data)})["decided_by"] == "duplicate"
        uploader = TusClient(f"{served.url}/v1/uploads", headers=HEADERS).uploader(
            file_stream=io.BytesIO(data), chunk_size=10_000, metadata={"filename": "c.mp4"}
        )
        uploader.upload()
        third = post("&dedupe=false", json={"upload": uploader.url.rpartition("/")[2]})
        assert (third["source"], third["decided_by"]) == ("c.mp4", "policy")
        assert third["decision"] == first["decision"]
        # While one is looked at, others with the same bytes wait for its verdict.
        source = "testsrc2=size=320x240:rate=25:duration=60"
        long = write(tmp_path / "long.mp4", "-f", "lavfi", "-i", source).read_bytes()
        url = f"{served.url}/v1/videos"
        locations = [
            httpx.post(url, content=long, headers=HEADERS, timeout=60).headers["location"]
            for _ in range(3)
        ]

        def verdicts() -> list[Any]:
            answers = (httpx.get(served.url + at, headers=HEADERS).json() for at in locations)
            return [answer["verdict"] for answer in answers]

        until(lambda: all(verdicts()), 60, "three verdicts\n" + served.tail())
        assert [v["decided_by"] for v in verdicts()] == ["policy", "duplicate", "duplicate"]
        assert not list((served.home / "incoming").iterdir())
        assert not [p for p in (served.home / "media" / "uploads").rglob("*") if p.is_file()]
        assert served.stop() == 0
    finally:
        served.destroy()
