"""The gateway over real sockets: bodies that never end, stops, log lines."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.__main__ import Server
from tests.fakes.gateway import KEY, Stack, png

ROOT = Path(__file__).resolve().parents[2]
AUTH = {"Authorization": f"Bearer {KEY}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: object, seconds: float = 20.0) -> None:
    """Bounded wait for a condition that another thread or process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


@contextmanager
def serving(stack: Stack) -> Iterator[int]:
    """The stack's app on a loopback port, by uvicorn in a thread."""
    port = free_port()
    config = uvicorn.Config(
        stack.app, host="127.0.0.1", port=port, lifespan="on", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield port
    finally:
        server.should_exit = True
        thread.join(20)
        stack.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    stack = Stack(tmp_path / "home", max_image_bytes=100_000)
    stack.finish()
    with serving(stack) as port:
        yield port


def test_a_chunked_body_over_the_cap_is_413(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        pieces = (b"x" * 10_000 for _ in range(100))
        connection.request("POST", "/v1/images", body=pieces, headers=AUTH, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 413
        assert json.loads(response.read())["code"] == "too_large"


def test_a_declared_body_over_the_cap_is_refused_before_it_is_sent(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
            b"Authorization: Bearer " + KEY.encode() + b"\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_without_a_key_the_body_is_not_asked_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_client_that_leaves_in_the_middle_harms_nobody(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
            b"Authorization: Bearer " + KEY.encode() + b"\r\n\r\n\x89PNG"
        )
    response = httpx.post(f"http://127.0.0.1:{port}/v1/images", content=png(), headers=AUTH)
    assert response.status_code == 200
    until(lambda: any("/v1/images 499" in record.getMessage() for record in caplog.records))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_many_clients_at_once(port: int) -> None:
    answers: list[int] = []

    def client(number: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=AUTH, timeout=30) as http:
            for step in range(5):
                body = png(shade=number, comment=str(step).encode())
                answers.append(http.post("/v1/images", content=body).status_code)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 40


def test_a_stop_ends_waits_with_202(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    port = free_port()
    config = uvicorn.Config(
        stack.app, host="127.0.0.1", port=port, lifespan="on", log_config=None, access_log=False
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    answers: list[httpx.Response] = []

    def wait_long() -> None:
        url = f"http://127.0.0.1:{port}/v1/images?wait=60"
        answers.append(httpx.post(url, content=png(), headers=AUTH, timeout=60))

    client = threading.Thread(target=wait_long)
    client.start()
    until(lambda: stack.producer.sent)
    began = time.monotonic()
    server.handle_exit(signal.SIGTERM, None)
    client.join(20)
    thread.join(20)
    stack.close()
    assert [answer.status_code for answer in answers] == [202]
    assert not thread.is_alive()
    assert time.monotonic() - began < 10.0


def test_the_process_starts_without_broker_logs_to_stderr_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    port = free_port()
    Stack(tmp_path / "home").close()  # migrated
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODERATION_")}
    env |= {"MODERATION_HOME": str(tmp_path / "home"), "MODERATION_BOOTSTRAP_KEY": KEY}
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--port", str(port)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def alive() -> bool:
            assert process.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/live").status_code == 200
            except httpx.TransportError:
                return False

        until(alive, 60.0)
        posted = httpx.post(
            f"http://127.0.0.1:{port}/v1/images?wait=0",
            content=png(),
            headers=AUTH | {"X-Request-ID": "seen-in-log"},
        )
        assert posted.status_code == 202
        ready = httpx.get(f"http://127.0.0.1:{port}/ready")
        assert {one["name"] for one in ready.json()["missing"]} == {"broker", "infer_worker"}
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert "POST /v1/images 202" in err
    assert "seen-in-log" in err


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("DEFAULT_POLICY", "none", 2, "no policy 'none'"),
        ("BLOB_URL", "nowhere", 2, "blob_url is neither"),
        ("DATABASE_URL", "postgresql://host:port/x", 2, "database_url is not a URL"),
        ("BLOB_URL", "file:///dev/null/media", 1, "The media folder does not work"),
    ],
)
def test_bad_settings_are_one_line_and_an_exit_status(
    name: str, value: str, status: int, words: str, tmp_path: Path
) -> None:
    env = os.environ | {"MODERATION_HOME": str(tmp_path), f"MODERATION_{name}": value}
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"moderation gateway: {words}")


def test_a_port_in_use_is_an_exit_status_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = os.environ | {"MODERATION_HOME": str(tmp_path), "MODERATION_PORT": port}
        done = subprocess.run(
            [sys.executable, "-m", "api"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
