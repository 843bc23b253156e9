"""The newest frames of live streams on the console's wall."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from api.console import links
from moderation.errors import BrokerError
from moderation.live.newest import NewestFrame
from moderation.store import stream_leases
from moderation.store.review_records import Role
from moderation.types import StreamState
from tests.contract.live_data import make
from tests.fakes.browsing import Browser, signed_in
from tests.fakes.gateway import Gate, running

FRAME = NewestFrame(1_800_000_000_123, b"RIFF....WEBP")


class FakeNewest:
    """`down`: every call raises BrokerError."""

    def __init__(self) -> None:
        self.down = False
        self.frames: dict[str, NewestFrame] = {}
        self.asked: list[str] = []

    def captured(self, streams: Sequence[str]) -> Mapping[str, int]:
        self._answers()
        self.asked += streams
        return {key: self.frames[key].captured_ms for key in streams if key in self.frames}

    def read(self, stream: str) -> NewestFrame | None:
        self._answers()
        return self.frames.get(stream)

    def close(self) -> None:
        pass

    def _answers(self) -> None:
        if self.down:
            raise BrokerError("the broker is away")


@pytest.fixture
def newest() -> FakeNewest:
    return FakeNewest()


@pytest.fixture
def gate(tmp_path: Path, newest: FakeNewest) -> Iterator[Gate]:
    with running(tmp_path / "home", finish=False, newest=newest) as gate:
        yield gate


def live(gate: Gate, **changes: str) -> str:
    """A stream that is watched, and whose frames come; its id."""
    (row,) = make(gate.stack.db, **changes)
    (owned,) = stream_leases.take(gate.stack.db, "sup-1", 1, 60.0)
    assert stream_leases.report_state(gate.stack.db, owned.lease, StreamState.LIVE, "frames come")
    return row.id


def shown(browser: Browser) -> list[str]:
    answer = browser.get("/console/streams")
    assert answer.status_code == 200
    return re.findall(r'<img src="([^"]+)"', answer.text)


def test_a_live_stream_shows_its_newest_frame(gate: Gate, newest: FakeNewest) -> None:
    stream = live(gate)
    newest.frames[stream] = FRAME
    (waiting,) = make(gate.stack.db)
    viewer = signed_in(gate, "vera", Role.VIEWER)
    (address,) = shown(viewer)
    assert address.endswith(f"/{stream}/newest/{FRAME.captured_ms}")
    assert waiting.id not in newest.asked
    answer = viewer.get(address)
    assert (answer.status_code, answer.content) == (200, FRAME.picture)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, max-age=60"
    newest.frames[stream] = NewestFrame(FRAME.captured_ms + 10_000, b"RIFF")
    assert shown(viewer) != [address]  # a browser asks for it anew
    del newest.frames[stream]
    assert viewer.get(address).status_code == 404


def test_an_address_is_for_its_session_and_its_stream(gate: Gate, newest: FakeNewest) -> None:
    stream = live(gate)
    newest.frames[stream] = FRAME
    anna, ben = (signed_in(gate, name, Role.VIEWER) for name in ("anna", "ben"))
    (address,) = shown(anna)
    other = address.replace(stream, "stream_" + "0" * 32)
    later = address.replace(str(FRAME.captured_ms), "1")
    assert [anna.get(path).status_code for path in (address, other, later)] == [200, 404, 404]
    assert ben.get(address).status_code == 404
    assert Browser(gate).get(address).headers["location"] == "/console/sign-in"


def test_another_tenants_stream_is_not_there_whoever_signs(
    gate: Gate, newest: FakeNewest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = live(gate, tenant="other")
    newest.frames[stream] = FRAME
    viewer = signed_in(gate, "vera", Role.VIEWER)
    assert shown(viewer) == []
    # A session's secret is in its own cookie, so its holder can sign any address.
    monkeypatch.setattr(links, "check_newest", lambda *told: None)
    assert viewer.get(f"/console/media/1-0/{stream}/newest/1").status_code == 404


def test_a_later_page_of_the_wall_stays_one(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.console.routes.streams.PAGE", 1)
    for _ in range(2):
        make(gate.stack.db)
    viewer = signed_in(gate, "vera", Role.VIEWER)
    first = viewer.get("/console/streams").text
    (more,) = re.findall(r'href="([^"]+)" rel="next"', first)
    assert 'hx-get="/console/streams"' in first
    # What the wall asks for every three seconds is what it shows.
    assert f'hx-get="{more}"' in viewer.get(more).text


def test_without_the_broker_the_wall_stands(gate: Gate, newest: FakeNewest) -> None:
    live(gate)
    newest.down = True
    assert shown(signed_in(gate, "vera", Role.VIEWER)) == []
