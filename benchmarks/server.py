"""`moderation serve` on a free loopback port in a temporary folder, for a measurement."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = "benchmark-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    key: str
    log: Path
    pid: int


@contextmanager
def serving(home: Path, extra: Mapping[str, str], *, ready_s: float = 120.0) -> Iterator[Server]:
    """Start everything, wait for `/ready`, stop it at the end. RuntimeError with the log's
    tail when it does not come up."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "serve.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "MODERATION_HOME": str(home),
        "MODERATION_HOST": "127.0.0.1",
        "MODERATION_PORT": str(port),
        "MODERATION_BOOTSTRAP_KEY": KEY,
        **extra,
    }
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.supervisor"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + ready_s
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > end:
                tail = log.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"the server did not become ready:\n{tail}")
            time.sleep(0.2)
        yield Server(port, KEY, log, process.pid)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(35)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
