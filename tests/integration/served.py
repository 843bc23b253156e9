"""`moderation serve` as a process in a temporary data folder, and what the tests do to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

KEY = "mod_faulttest_0123456789abcdef0123456789abcdef"
BACKEND = os.environ.get("MODERATION_TEST_BACKEND", "fake")
TITLES = {
    "infer": "workers.infer",
    "media": "workers.media",
    "live": "workers.live",
    "gateway": "api",
    "broker": "valkey-server",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition that other processes bring about; fail with `what` in the end."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def children(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= {int(word) for word in task.read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descendants(pid: int) -> set[int]:
    below = children(pid)
    return below.union(*map(descendants, below))


def picture(number: int) -> bytes:
    """A small PNG of its own for every number: blocks of seeded colours."""
    random = np.random.default_rng(number)
    blocks = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((160, 120), Image.Resampling.NEAREST).save(file, "png")
    return file.getvalue()


class Served:
    """One `serve`. `home` stays over restarts; `seen` are all processes it ever had."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.parent / "serve.log"
        self.seen: set[int] = set()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MODERATION_")}
        self.env = kept | {
            "MODERATION_HOME": str(home),
            "MODERATION_PORT": str(self.port),
            "MODERATION_BACKEND": BACKEND,
            "MODERATION_BOOTSTRAP_KEY": KEY,
            "MODERATION_FETCH_ALLOW": "127.0.0.1",
            "MODERATION_SWEEP_SECONDS": "1",
            "MODERATION_REPUBLISH_SECONDS": "4",
            "MODERATION_LEASE_SECONDS": "6",
        }
        self.env |= {f"MODERATION_{name.upper()}": value for name, value in settings.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.supervisor"], env=self.env, stdout=log, stderr=log
            )
        if ready:
            until(self.is_ready, 60, "GET /ready is 200\n" + self.tail())

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.tail()
        self.look()
        try:
            return httpx.get(f"{self.url}/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def look(self) -> set[int]:
        """All processes that it has now."""
        assert self.process is not None
        now = descendants(self.process.pid)
        self.seen |= now
        return now

    def pid_of(self, name: str) -> int | None:
        """The process of a role, None while it is away."""
        assert self.process is not None
        self.look()
        # Not of a role's own children: until it executes its program, one looks like the role.
        for pid in children(self.process.pid):
            try:
                # The broker changes its title, but not its program.
                program = Path(f"/proc/{pid}/exe").readlink().name
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if TITLES[name] == program or TITLES[name] in words[2:3]:
                return pid
        return None

    def kill(self, name: str) -> None:
        """kill -9 a role, waiting for it to be there first; it is gone afterwards."""
        found: list[int] = []

        def runs() -> bool:
            pid = self.pid_of(name)
            if pid is not None and alive(pid):  # no zombie of the last time
                found.append(pid)
            return bool(found)

        until(runs, 30, f"{name} runs\n{self.tail()}")
        os.kill(found[-1], signal.SIGKILL)
        until(lambda: not alive(found[-1]), 10, f"{name} was killed")

    def pause(self, pid: int) -> None:
        """SIGSTOP, but never in the middle of a write: with SQLite nobody else could write then."""

        def stopped() -> bool:
            os.kill(pid, signal.SIGSTOP)
            file = self.home / "moderation.db"
            try:
                with closing(sqlite3.connect(file, timeout=0.5, isolation_level=None)) as database:
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                return False
            return True

        until(stopped, 20, f"process {pid} is paused between two writes")

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code. Fails when a process is left."""
        assert self.process is not None
        self.look()
        self.process.terminate()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running {seconds} s after SIGTERM\n{self.tail()}"
            ) from None
        left = {pid for pid in self.seen if alive(pid)}
        assert not left, f"left running: {left}\n{self.tail()}"
        self.process = None
        return code

    def destroy(self) -> None:
        """For the end of a test, whatever happened."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def send(
        self, number: int, callback: str, *, data: bytes | None = None, patience_s: float = 60.0
    ) -> dict[str, Any]:
        """POST a picture until it is accepted, with the same Idempotency-Key every time."""
        data = picture(number) if data is None else data
        deadline = time.monotonic() + patience_s
        last = ""
        while time.monotonic() < deadline:
            try:
                answer = httpx.post(
                    f"{self.url}/v1/images",
                    params={
                        "wait": 0,
                        "dedupe": "false",
                        "data_id": f"picture-{number}",
                        "callback_url": callback,
                    },
                    headers={
                        "Authorization": f"Bearer {KEY}",
                        "Idempotency-Key": f"fault-{number}",
                        "Content-Type": "image/png",
                    },
                    content=data,
                    timeout=15,
                )
            except httpx.HTTPError as error:
                last = type(error).__name__
            else:
                if answer.status_code in (200, 202):
                    accepted: dict[str, Any] = answer.json()
                    return accepted
                last = f"{answer.status_code} {answer.text[:200]}"
                assert answer.status_code >= 500 or answer.status_code == 429, last
            time.sleep(0.1)
        raise AssertionError(f"picture {number} was never accepted: {last}\n{self.tail()}")


class Receiver:
    """A loopback receiver of callbacks that fails the first attempt of every tenth event."""

    def __init__(self, secret: Callable[[], str]) -> None:
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.deliveries: set[str] = set()
        self.problems: list[str] = []
        self._order: list[str] = []
        self._lock = threading.Lock()
        self._secret = secret
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(outer.take(dict(self.headers.items()), body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/callback"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        headers = {name.lower(): value for name, value in headers.items()}
        event, sent = headers["webhook-id"], headers["webhook-timestamp"]
        key = base64.b64decode(self._secret().removeprefix("whsec_"))
        digest = hmac.digest(key, f"{event}.{sent}.".encode() + body, hashlib.sha256)
        with self._lock:
            if headers["webhook-signature"] != "v1," + base64.b64encode(digest).decode():
                self.problems.append(f"wrong signature of {event}")
            if abs(time.time() - int(sent)) > 30:
                self.problems.append(f"old timestamp of {event}")
            if headers["webhook-delivery"] in self.deliveries:
                self.problems.append(f"delivery id used twice for {event}")
            self.deliveries.add(headers["webhook-delivery"])
            if event not in self._order:
                self._order.append(event)
                if len(self._order) % 10 == 0:
                    return 503
            self.events[event].append(json.loads(body))
            return 204

    def count(self) -> int:
        with self._lock:
            return len(self.events)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
