"""Callbacks from the outbox to loopback receivers: fast, slow, moved, gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select

from moderation.errors import FetchError
from moderation.policy import load_policies
from moderation.settings import load_settings
from moderation.store import jobs
from moderation.store.engine import Database
from moderation.store.records import DEFAULT_TENANT, NewItem, NewMedia
from moderation.store.tables import outbox
from moderation.tasks.deliver import PER_RECEIVER, Deliverer, Send, judge

POLICY = load_policies()["default"]
PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def no_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """None within the time of a test, that is."""
    monkeypatch.setattr("moderation.tasks.webhooks.FIRST_DELAY_S", 600.0)


def add_callback(db: Database, url: str, number: int = 0) -> None:
    """A cancelled job has a verdict, and so a callback."""
    media = NewMedia(sha256=f"{number:064x}", size=1, format="png", blob_key=f"k{number}")
    new = NewItem(tenant=DEFAULT_TENANT, media=media, policy=POLICY, callback_url=url)
    jobs.cancel(db, DEFAULT_TENANT, jobs.submit(db, new).job_id)


def states(db: Database) -> list[tuple[str, int, str | None]]:
    query = select(outbox.c.state, outbox.c.attempts, outbox.c.error).where(
        outbox.c.kind == "callback"
    )
    with db.connect() as connection:
        return [(row.state, row.attempts, row.error) for row in connection.execute(query)]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


@contextmanager
def delivering(db: Database, home: Path, send: Send | None = None) -> Iterator[Deliverer]:
    settings = load_settings(home=home, fetch_allow="127.0.0.1", callback_timeout=30.0)
    deliverer = Deliverer(db, settings, **({} if send is None else {"send": send}))
    stop = threading.Event()
    thread = threading.Thread(target=deliverer.run, args=(stop,))
    thread.start()
    try:
        yield deliverer
    finally:
        stop.set()
        deliverer.close()
        thread.join()


class Web:
    """A receiver that answers one status to everything, with a Location."""

    def __init__(self, status: int) -> None:
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append(self.path)
                self.send_response(status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        (204, "sent", None),
        (307, "pending", "HTTP 307"),
        (410, "dead", "HTTP 410"),
        (500, "pending", "HTTP 500"),
    ],
)
def test_what_a_receiver_answers_decides(
    db: Database, tmp_path: Path, status: int, state: str, error: str | None
) -> None:
    with Web(status) as web, delivering(db, tmp_path) as deliverer:
        add_callback(db, web.url)
        deliverer.poke()
        until(lambda: states(db) == [(state, 1, error)], f"it is {state}")
        assert web.paths == ["/hook"], "redirects are not followed"


def test_a_private_target_that_is_not_allowed_is_never_connected(
    db: Database, tmp_path: Path
) -> None:
    with Web(204) as web, delivering(db, tmp_path) as deliverer:
        add_callback(db, web.url.replace("127.0.0.1", "127.0.0.2"))
        deliverer.poke()
        until(lambda: states(db) == [("pending", 1, "fetch_forbidden")], "it is refused")
        assert web.paths == []


def test_a_slow_receiver_does_not_hold_up_others(db: Database, tmp_path: Path) -> None:
    let_go = threading.Event()
    lock = threading.Lock()
    slow_now, slow_most, slow, fast = 0, 0, 0, 0

    def send(
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        allow: Sequence[str],
        timeout_s: float,
    ) -> int:
        nonlocal slow_now, slow_most, slow, fast
        if "slow" not in url:
            with lock:
                fast += 1
            return 204
        with lock:
            slow += 1
            slow_now += 1
            slow_most = max(slow_most, slow_now)
        let_go.wait(PATIENCE_S)
        with lock:
            slow_now -= 1
        raise FetchError("too slow", code="fetch_timeout")

    for number in range(60):
        add_callback(db, "http://slow.example/", number)
    for number in range(20):
        add_callback(db, "http://fast.example/", 100 + number)
    with delivering(db, tmp_path, send):
        until(lambda: fast == 20, "all of the fast receiver's callbacks are there")
        until(lambda: slow_now == PER_RECEIVER, "the slow receiver gets as many as it may")
        assert slow_most == PER_RECEIVER
        let_go.set()
    attempts = sum(attempts for _, attempts, _ in states(db))
    assert attempts == fast + slow, "to wait in line is no attempt"


def test_two_deliverers_never_send_the_same_at_once(db: Database, tmp_path: Path) -> None:
    seen: list[str] = []

    def send(
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        allow: Sequence[str],
        timeout_s: float,
    ) -> int:
        seen.append(headers["webhook-id"])
        return 200

    for number in range(40):
        add_callback(db, f"http://{number}.example/", number)
    with delivering(db, tmp_path, send), delivering(db, tmp_path, send):
        until(lambda: [state for state, _, _ in states(db)] == ["sent"] * 40, "all sent")
    assert len(seen) == len(set(seen)) == 40


@pytest.mark.parametrize("status", range(200, 300, 33))
def test_only_2xx_is_accepted(status: int) -> None:
    assert judge(status).error is None
    assert judge(status + 100).error == f"HTTP {status + 100}"
    assert judge(status + 200).gone is (status + 200 == 410)
