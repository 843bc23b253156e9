"""The gateway with a real broker: messages go out, wake-ups come in, a dead broker is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from moderation.tasks.enqueue import Producer
from moderation.tasks.messages import INFER
from moderation.wake import Waker
from tests.fakes.gateway import Gate, Stack, png, running
from tests.servers import Missing, Redis, valkey

pytestmark = pytest.mark.usefixtures("patient_clients")


@pytest.fixture(scope="module")
def broker() -> Iterator[Redis]:
    """A Valkey of this module alone: it is killed here."""
    try:
        with valkey() as server:
            yield server
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def gate(tmp_path: Path, broker: Redis) -> Iterator[Gate]:
    def real(stack: Stack) -> None:
        stack.app = create_app(stack.settings)

    with running(tmp_path / "home", finish=False, prepare=real, broker_url=broker.url) as gate:
        yield gate


def end_the_next_job(gate: Gate, broker: Redis, after_s: float) -> threading.Thread:
    """Stands for a worker: waits for the message, ends the job, wakes the gateway."""

    def run() -> None:
        producer, waker = Producer(broker.url), Waker(broker.url)
        deadline = time.monotonic() + 30.0
        while producer.waiting(INFER) == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        items = gate.client.get("/v1/items?state=queued").json()["items"]
        time.sleep(after_s)
        gate.stack.finish_silently(items[0]["job_id"])
        waker.wake(items[0]["job_id"])
        waker.close()
        producer.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def post(gate: Gate, wait: float, shade: int) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    response = gate.post(png(shade=shade), f"?wait={wait}")
    return response, time.monotonic() - began


def test_a_wake_through_the_broker_ends_the_wait(gate: Gate, broker: Redis) -> None:
    worker = end_the_next_job(gate, broker, 0.2)
    response, seconds = post(gate, 30.0, 1)
    worker.join(20)
    assert response.status_code == 200, response.text
    assert seconds < 15.0


def test_a_broker_that_dies_costs_no_job_and_is_told(gate: Gate, broker: Redis) -> None:
    names = {one["name"] for one in gate.client.get("/ready").json()["missing"]}
    assert names == {"infer_worker"}
    broker.stop()
    try:
        response, _ = post(gate, 0.0, 2)
        assert response.status_code == 202
        names = {one["name"] for one in gate.client.get("/ready").json()["missing"]}
        assert names == {"infer_worker", "broker"}
        metrics = gate.client.get("/metrics").text
        assert "moderation_unpublished_jobs_total 1.0" in metrics
    finally:
        broker.start()
    job = gate.client.get(f"/v1/jobs/{response.json()['job_id']}").json()
    assert job["state"] == "queued"
    # Both sides come back by themselves. The newest queued item is the one just posted.
    worker = end_the_next_job(gate, broker, 0.5)
    second, seconds = post(gate, 30.0, 3)
    worker.join(20)
    assert second.status_code == 200, second.text
    assert seconds < 15.0
