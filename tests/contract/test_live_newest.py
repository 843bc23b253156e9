"""Newest frames of streams on a real Redis and a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from moderation.errors import BrokerError
from moderation.ids import new_id
from moderation.live.newest import KEPT_S, MAX_BYTES, PREFIX, NewestFrame, NewestStore
from tests import servers
from tests.servers import free_port

pytestmark = pytest.mark.usefixtures("patient_clients")

FRAME = NewestFrame(1_800_000_000_123, b"RIFF....WEBP")


@pytest.fixture(params=["redis_server", "valkey_server"])
def server(request: pytest.FixtureRequest) -> servers.Redis:
    found: servers.Redis = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(server: servers.Redis) -> Iterator[NewestStore]:
    made = NewestStore(server.url)
    yield made
    made.close()


def test_written_read_and_gone_in_a_minute(server: servers.Redis, store: NewestStore) -> None:
    one, other, none = (new_id("stream") for _ in range(3))
    later = NewestFrame(FRAME.captured_ms + 10_000, b"RIFF.")
    store.write({})
    store.write({one: FRAME, other: FRAME})
    store.write({one: later})
    assert store.captured([one, none, other]) == {
        one: later.captured_ms,
        other: FRAME.captured_ms,
    }
    assert store.captured([]) == {}
    assert (store.read(one), store.read(other), store.read(none)) == (later, FRAME, None)
    with redis.Redis.from_url(server.url) as client:
        assert 0 < int(client.ttl(PREFIX + one)) <= KEPT_S
        client.delete(PREFIX + one, PREFIX + other)


def test_what_is_too_large_or_broken_is_not_there(
    server: servers.Redis, store: NewestStore
) -> None:
    large, broken = new_id("stream"), new_id("stream")
    store.write({large: NewestFrame(1, bytes(MAX_BYTES + 1))})
    with redis.Redis.from_url(server.url) as client:
        client.set(PREFIX + broken, b"short", ex=60)
        assert store.captured([large, broken]) == {}
        assert (store.read(large), store.read(broken)) == (None, None)
        client.delete(PREFIX + broken)


def test_a_broker_that_is_away_is_an_error() -> None:
    store = NewestStore(f"redis://127.0.0.1:{free_port()}/0")
    for call in (
        lambda: store.write({"stream_1": FRAME}),
        lambda: store.captured(["stream_1"]),
        lambda: store.read("stream_1"),
    ):
        with pytest.raises(BrokerError):
            call()
    store.close()
