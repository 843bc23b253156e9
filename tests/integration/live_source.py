"""Live streams for tests, published by the bundled ffmpeg on loopback, and what is left of them."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from moderation.video.ffmpeg import program

WAIT_S = 30.0
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10", "-crf", "12")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with closing(socket.socket(socket.AF_INET, kind)) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition that nothing tells of. Raises AssertionError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def stands_still(count: Callable[[], int], seconds: float, what: str) -> None:
    """Wait until a count has not changed for so long. Raises AssertionError after WAIT_S."""
    seen, since = count(), time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        if seen != (seen := count()):
            since = time.monotonic()
        return time.monotonic() - since >= seconds

    until(still, what)


def listens(port: int) -> bool:
    """Whether a TCP port of loopback is listened on; connecting would use up a single listener."""
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in lines)


def is_bound(port: int) -> bool:
    """Whether a UDP port of loopback is taken: what listens by SRT answers nobody else."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(line.split()[1] == f"0100007F:{port:04X}" for line in lines)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def published(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg with these words, killed at the end. Its standard input is open."""
    process = subprocess.Popen(
        [program(), "-hide_banner", "-v", "error", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def pattern(seconds: int, *, size: str = "320x180", rate: int = 10) -> tuple[str, ...]:
    """Input of a moving test picture, at its own speed."""
    source = f"testsrc=size={size}:rate={rate}:duration={seconds}"
    return ("-re", "-f", "lavfi", "-i", source)


class Served:
    """A TCP server of one connection that answers a GET with `data`, at `rate` bytes a second, and
    then keeps the connection and is silent. A context manager."""

    def __init__(self, data: bytes, rate: float, *, head: bytes | None = None) -> None:
        self._data, self._rate = data, rate
        self._head = head or b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n"
        self._over = threading.Event()
        self.silent = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(WAIT_S)
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(WAIT_S)
        self._server.close()

    def _serve(self) -> None:
        try:
            connection, _ = self._server.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(WAIT_S)
            connection.recv(65536)
            try:
                connection.sendall(self._head)
                step = max(1, int(self._rate / 20))
                for at in range(0, len(self._data), step):
                    connection.sendall(self._data[at : at + step])
                    if self._over.wait(0.05):
                        return
            except (BrokenPipeError, ConnectionResetError):
                return  # the reader has left: that is what some tests are about
            self.silent.set()
            self._over.wait(WAIT_S)
