"""Events as they come, over a real socket: woken, resumed, bounded, ended."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

from api.__main__ import Server
from moderation.errors import StoreError
from moderation.store import alerts, events, keys, stream_leases, streams
from moderation.store.live_records import StreamLease
from moderation.types import Decision, StreamState
from tests.contract.live_data import new_stream, segment
from tests.fakes.gateway import KEY, Stack, png, running
from tests.integration.test_gateway_server import free_port, serving, until

AUTH = {"Authorization": f"Bearer {KEY}"}
NEVER_S = 600.0
SOON_S = 20.0


class Reader:
    """Reads events in a thread. `blocks`: what came between blank lines, as its fields."""

    def __init__(self, port: int, path: str, last_id: int | None = None, key: str = KEY) -> None:
        self.blocks: queue.Queue[dict[str, str]] = queue.Queue()
        self.status = 0
        headers = {"Authorization": f"Bearer {key}"}
        headers |= {} if last_id is None else {"Last-Event-ID": str(last_id)}
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=SOON_S
        )
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path,), daemon=True)
        self._thread.start()

    def _run(self, path: str) -> None:
        with self._client.stream("GET", path) as response:
            self.status = response.status_code
            block: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    block[name] = value
                    continue
                self.blocks.put(block)
                block = {}
                if self._leave.is_set():
                    return

    def first(self) -> int:
        """The id that it begins after; then it is connected."""
        block = self.blocks.get(timeout=SOON_S)
        assert block["retry"] == "2000"
        assert set(block) == {"retry", "id"}
        return int(block["id"])

    def next(self) -> dict[str, Any]:
        """The next event."""
        while "data" not in (block := self.blocks.get(timeout=SOON_S)):
            pass
        told: dict[str, Any] = json.loads(block["data"])
        assert (block["id"], block["event"]) == (str(told["id"]), told["type"])
        return told

    def leave_after_the_next(self) -> None:
        self._leave.set()

    def join(self) -> None:
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        self._client.close()


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "home")


@pytest.fixture
def port(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    # What comes was woken: nobody looks by himself within the time of a test.
    monkeypatch.setattr("api.sse.LOOK_AGAIN_S", NEVER_S)
    with serving(stack) as port:
        yield port


def make(stack: Stack) -> StreamLease:
    """A stream that is owned for longer than a test takes."""
    made = streams.create(stack.db, new_stream())
    taken = stream_leases.take(stack.db, "sup-1", 10, 600.0)
    return next(one.lease for one in taken if one.lease.stream_id == made.id)


def report(stack: Stack, lease: StreamLease, state: StreamState) -> None:
    """As a supervisor does: write, then wake."""
    assert stream_leases.report_state(stack.db, lease, state)
    stack.listener.wake(lease.stream_id)


def test_what_is_there_is_read_and_the_answer_ends(stack: Stack, port: int) -> None:
    lease = make(stack)
    report(stack, lease, StreamState.LIVE)
    alerts.record(stack.db, lease, [segment(decision=Decision.BLOCK)])
    url = f"http://127.0.0.1:{port}/v1/streams/{lease.stream_id}/events?seconds=0"
    answer = httpx.get(url, headers=AUTH | {"Last-Event-ID": "0"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    lines = [line.partition(": ") for line in answer.text.splitlines()]
    told = [json.loads(value) for name, _, value in lines if name == "data"]
    assert [one["type"] for one in told] == ["stream.state", "stream.state", "alert.opened"]
    assert {one["stream_id"] for one in told} == {lease.stream_id}
    assert told[2]["data"]["decision"] == "block"
    ids = [int(value) for name, _, value in lines if name == "id"]
    assert ids == [0, *(one["id"] for one in told)]
    assert ids == sorted(set(ids))
    nothing = httpx.get(url, headers=AUTH)
    assert nothing.text == f"retry: 2000\nid: {ids[-1]}\n\n"


def test_a_reader_is_woken_by_its_stream_and_sees_no_other(stack: Stack, port: int) -> None:
    lease, other = make(stack), make(stack)
    reader = Reader(port, f"/v1/streams/{lease.stream_id}/events")
    everything = Reader(port, "/v1/events")
    begin = reader.first()
    assert everything.first() == begin
    report(stack, other, StreamState.LIVE)
    assert everything.next()["stream_id"] == other.stream_id
    report(stack, lease, StreamState.LIVE)
    told = reader.next()
    assert (told["stream_id"], told["data"]["state"]) == (lease.stream_id, "live")
    assert everything.next() == told
    for one in (reader, everything):
        one.leave_after_the_next()
    report(stack, lease, StreamState.STALLED)
    reader.join()
    everything.join()


def test_all_events_are_those_of_items_too(stack: Stack, port: int) -> None:
    stack.finish()
    everything = Reader(port, "/v1/events")
    everything.first()
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/images?wait=10", content=png(), headers=AUTH)
    told = [everything.next(), everything.next()]
    assert [one["type"] for one in told] == ["item.queued", "item.decided"]
    assert {one["item_id"] for one in told} == {answer.json()["id"]}
    everything.leave_after_the_next()
    report(stack, make(stack), StreamState.LIVE)
    everything.join()


def test_a_reader_that_was_cut_off_goes_on_where_it_was(stack: Stack, port: int) -> None:
    lease = make(stack)
    path = f"/v1/streams/{lease.stream_id}/events"
    reader = Reader(port, path, 0)
    reader.leave_after_the_next()
    assert reader.first() == 0
    reader.join()
    states = [StreamState.LIVE, StreamState.STALLED, StreamState.RETRYING, StreamState.LIVE]
    for state in states:
        report(stack, lease, state)
    seen: list[str] = []
    last = 0
    for _ in range(5):  # it is cut off after each
        reader = Reader(port, path, last)
        assert reader.first() == last
        told = reader.next()
        last = told["id"]
        seen.append(told["data"]["state"])
        reader.leave_after_the_next()
    assert seen == ["connecting", *(state.value for state in states)]
    report(stack, lease, StreamState.ENDED)


def test_more_than_a_page_is_read_at_once(
    stack: Stack, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.AT_ONCE", 3)
    lease = make(stack)
    for number in range(10):
        state = (StreamState.LIVE, StreamState.STALLED)[number % 2]
        stream_leases.report_state(stack.db, lease, state)
    reader = Reader(port, "/v1/events", 0)
    told = [reader.next()["id"] for _ in range(11)]
    assert told == sorted(set(told))
    reader.leave_after_the_next()
    report(stack, lease, StreamState.ENDED)
    reader.join()


def test_a_wake_up_that_was_lost_costs_a_moment(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.LOOK_AGAIN_S", 0.2)
    lease = make(stack)
    with serving(stack) as port:
        reader = Reader(port, "/v1/events")
        reader.first()
        assert stream_leases.report_state(stack.db, lease, StreamState.LIVE)
        assert reader.next()["data"]["state"] == "live"
        reader.leave_after_the_next()
        report(stack, lease, StreamState.STALLED)
        reader.join()


def test_who_lost_the_key_reads_no_more(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sse.LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr("api.sse.KEY_TTL_S", 0.1)
    lease = make(stack)
    row, secret = keys.create_key(
        stack.db, tenant="default", name="reader", scopes={"results:read"}
    )
    with serving(stack) as port:
        reader, other = Reader(port, "/v1/events", key=secret), Reader(port, "/v1/events")
        reader.first()
        other.first()
        report(stack, lease, StreamState.LIVE)
        assert reader.next()["data"]["state"] == "live"
        keys.revoke_key(stack.db, row.id)
        reader.join()
        other.leave_after_the_next()
        report(stack, lease, StreamState.STALLED)
        other.join()


def test_silence_is_broken_by_comments(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.sse.LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr("api.sse.KEEP_ALIVE_S", 0.1)
    with serving(stack) as port:
        reader = Reader(port, "/v1/events")
        reader.first()
        assert reader.blocks.get(timeout=SOON_S) == {"": ""}, "a colon alone"
        reader.leave_after_the_next()
        reader.join()


def test_a_database_that_is_away_is_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.LOOK_AGAIN_S", 0.1)
    lease = make(stack)
    after, failures = events.after, [StoreError("The database does not answer.")] * 3

    def flaky(*args: Any, **options: Any) -> list[events.EventRow]:
        if failures:
            raise failures.pop()
        return after(*args, **options)

    with serving(stack) as port:
        monkeypatch.setattr("api.sse.events.after", flaky)
        reader = Reader(port, "/v1/events", 0)
        assert reader.next()["stream_id"] == lease.stream_id
        assert failures == []
        reader.leave_after_the_next()
        report(stack, lease, StreamState.LIVE)
        reader.join()


def test_readers_have_places_and_give_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app.MAX_READERS", 1)
    stack = Stack(tmp_path / "home")
    lease = make(stack)
    with serving(stack) as port:
        reader = Reader(port, "/v1/events")
        reader.first()
        url = f"http://127.0.0.1:{port}/v1/events?seconds=0"
        refused = httpx.get(url, headers=AUTH)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        reader.leave_after_the_next()
        report(stack, lease, StreamState.LIVE)
        reader.join()
        until(lambda: httpx.get(url, headers=AUTH).status_code == 200)
        until(lambda: not any(stack.listener.waiting.values()))


def test_bad_last_ids_are_refused(stack: Stack, port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1/events?seconds=0"
    for last in ("x", "-1", "1" * 19, "1.5"):
        answer = httpx.get(url, headers=AUTH | {"Last-Event-ID": last})
        assert (answer.status_code, answer.json()["code"]) == (422, "input_invalid")
    huge = httpx.get(url, headers=AUTH | {"Last-Event-ID": "9" * 18})
    assert huge.status_code == 200


def test_a_stop_ends_all_readers(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    port = free_port()
    config = uvicorn.Config(
        stack.app, host="127.0.0.1", port=port, lifespan="on", log_config=None, access_log=False
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    readers = [Reader(port, "/v1/events") for _ in range(3)]
    for reader in readers:
        reader.first()
    began = time.monotonic()
    server.handle_exit(signal.SIGTERM, None)
    for reader in readers:
        reader.join()
    thread.join(20)
    stack.close()
    assert not thread.is_alive()
    assert time.monotonic() - began < 10.0


def test_a_client_that_does_not_read_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.sse.STUCK_S", 0.2)
    with running(tmp_path / "home", finish=False) as gate:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "path": "/v1/events",
            "raw_path": b"/v1/events",
            "query_string": b"seconds=0.1",
            "headers": [(b"authorization", f"Bearer {KEY}".encode())],
            "state": {},
        }
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError("unreachable")

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                await anyio.sleep_forever()

        async def ask() -> bool:
            with anyio.move_on_after(SOON_S) as late:
                await gate.stack.app(scope, receive, send)
            return late.cancelled_caught

        assert gate.client._portal.call(ask) is False
        assert sent == ["http.response.start", "http.response.body"]
        assert not any(gate.stack.listener.waiting.values())
        assert "moderation_event_readers 0.0" in gate.client.get("/metrics").text
