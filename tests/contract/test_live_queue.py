"""The queue of live frames, and the figures of supervisors, on a real Redis and a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from api.metrics import Metrics
from moderation.errors import BrokerError
from moderation.live.figures import BUCKETS_S, PREFIX, Counting, Figures, FigureStore
from moderation.live_queue import ANSWERS, KEPT_S, PACK, QUEUE, Answer, Ask, Asked, RedisLiveQueue
from moderation.store.live_records import StreamCount
from moderation.types import LabelScore
from tests import servers
from tests.servers import free_port

pytestmark = pytest.mark.usefixtures("patient_clients")

ASK = Ask("live_1", "live-test", 25.0, {"porn.explicit": 0.5, "violence.gore": 0.25})
SCORE = LabelScore("porn.explicit", 0.75, "m@1", "x", boxes=((0.1, 0.2, 0.3, 0.4, 0.5),))


@pytest.fixture(params=["redis_server", "valkey_server"])
def server(request: pytest.FixtureRequest) -> servers.Redis:
    found: servers.Redis = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(server: servers.Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.delete(QUEUE, ANSWERS + "live-test", PACK + "live_1")
        yield client
        client.delete(QUEUE, ANSWERS + "live-test", PACK + "live_1")


@pytest.fixture
def queue(server: servers.Redis, client: redis.Redis) -> Iterator[RedisLiveQueue]:
    del client  # it empties the queue
    made = RedisLiveQueue(server.url)
    yield made
    made.close()


def test_a_pack_goes_out_and_its_scores_come_back(queue: RedisLiveQueue) -> None:
    data = bytes(range(256)) * 10_000
    queue.ask(ASK, data)
    assert queue.waiting() == 1
    found = queue.next_ask(1.0)
    assert found is not None
    assert (found.ask, found.pack) == (ASK, data)
    assert 0 < found.left_s <= ASK.wait_s
    answer = Answer("live_1", ({"porn.explicit": SCORE}, None))
    queue.answer("live-test", answer)
    back = queue.next_answer("live-test", 1.0)
    assert back is not None
    assert (back.id, tuple(back.peaks)) == ("live_1", tuple(answer.peaks))


def test_waiting_ends(queue: RedisLiveQueue) -> None:
    assert queue.next_ask(0.05) is None
    assert queue.next_answer("live-test", 0.05) is None


def test_what_is_withdrawn_is_gone(queue: RedisLiveQueue, client: redis.Redis) -> None:
    queue.ask(ASK, b"x")
    queue.withdraw(ASK)
    queue.withdraw(ASK)
    assert queue.waiting() == 0
    assert client.exists(PACK + "live_1") == 0


def test_a_pack_that_ran_out_is_told(queue: RedisLiveQueue, client: redis.Redis) -> None:
    queue.ask(ASK, b"x")
    client.delete(PACK + "live_1")
    assert queue.next_ask(1.0) == Asked(ASK, 0, None)
    # Of itself, once nobody waits for its answer any more: by the broker's own clock.
    queue.ask(replace(ASK, wait_s=0.05), b"x")
    deadline = time.monotonic() + 10
    while client.exists(PACK + "live_1"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert queue.next_ask(1.0) == Asked(replace(ASK, wait_s=0.05), 0, None)


def test_nothing_is_kept_for_long(queue: RedisLiveQueue, client: redis.Redis) -> None:
    queue.ask(ASK, b"x")
    queue.answer("live-test", Answer("live_1", (None,)))
    for key in (QUEUE, PACK + "live_1", ANSWERS + "live-test"):
        assert 0 < int(client.ttl(key)) <= KEPT_S
    queue.next_ask(1.0)
    assert client.exists(PACK + "live_1") == 0


def test_a_message_that_cannot_be_read_is_said(queue: RedisLiveQueue, client: redis.Redis) -> None:
    client.rpush(QUEUE, b"{}")
    with pytest.raises(BrokerError):
        queue.next_ask(1.0)
    assert queue.waiting() == 0


def test_a_broker_that_is_away_is_an_error() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    queue, figures = RedisLiveQueue(url), FigureStore(url)
    for call in (
        lambda: queue.ask(ASK, b"x"),
        lambda: queue.withdraw(ASK),
        lambda: queue.next_ask(0.1),
        lambda: queue.answer("live-test", Answer("live_1", ())),
        lambda: queue.next_answer("live-test", 0.1),
        lambda: queue.waiting(),
        lambda: figures.write("live-1", counted()),
        lambda: figures.read(),
    ):
        with pytest.raises(BrokerError):
            call()


AGE = "moderation_live_stream_frame_age_seconds"


def counted() -> Figures:
    counting = Counting()
    counting.frames(scored=7, dropped=1)
    counting.alert(0.1)
    counting.alert(0.3)
    counting.alert(99.0)
    return counting.figures(streams=3, under_way=2, age_s=0.5, share=0.875, overtaken=4)


def test_figures_of_supervisors_are_in_the_metrics(
    server: servers.Redis, client: redis.Redis
) -> None:
    store = FigureStore(server.url)
    stream = StreamCount("stream_1", 12, 2, 3, datetime.now(UTC) - timedelta(seconds=5))
    silent = StreamCount("stream_2", 0, 0, 0, None)
    try:
        store.write("live-1", counted())
        client.set(PREFIX + "live-2", b'{"of": "another version"}', ex=60)
        assert dict(store.read()) == {"live-1": counted()}
        metrics = Metrics()
        metrics.observe_streams({}, 0, store.read(), [stream, silent])
        text = metrics.text().decode()
    finally:
        client.delete(PREFIX + "live-1", PREFIX + "live-2")
        store.close()
    for line in (
        'moderation_live_frames_total{outcome="scored",worker="live-1"} 7.0',
        'moderation_live_frames_total{outcome="dropped",worker="live-1"} 5.0',
        'moderation_live_alert_seconds_bucket{le="0.1",worker="live-1"} 1.0',
        f'moderation_live_alert_seconds_bucket{{le="{BUCKETS_S[-1]}",worker="live-1"}} 2.0',
        'moderation_live_alert_seconds_bucket{le="+Inf",worker="live-1"} 3.0',
        'moderation_live_alert_seconds_count{worker="live-1"} 3.0',
        'moderation_live_queue_age_seconds{worker="live-1"} 0.5',
        'moderation_live_scored_share{worker="live-1"} 0.875',
        'moderation_live_streams{worker="live-1"} 3.0',
        'moderation_live_stream_frames_total{stream="stream_1"} 12.0',
        'moderation_live_stream_dropped_total{stream="stream_1"} 2.0',
        'moderation_live_stream_reconnects_total{stream="stream_1"} 3.0',
        'moderation_live_stream_frames_total{stream="stream_2"} 0.0',
    ):
        assert line in text.splitlines()
    (age,) = (line for line in text.splitlines() if line.startswith(AGE))
    name, seconds = age.split()
    assert name == f'{AGE}{{stream="stream_1"}}'
    assert 5 <= float(seconds) < 60
