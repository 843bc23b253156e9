"""The queue on real brokers: the embedded Valkey and a Redis server."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moderation.errors import BrokerError
from moderation.settings import load_settings
from moderation.tasks.enqueue import Producer
from moderation.tasks.messages import IMAGE, INFER, LIGHT, JobMessage
from moderation.wake import ANY, WakeListener, Waker
from workers import broker
from workers.process import EXIT_QUIET

pytestmark = pytest.mark.usefixtures("patient_clients")

WORKER = Path(__file__).resolve().parents[1] / "fakes" / "queue_worker.py"
PATIENCE_S = 40.0


class Broker:
    """A broker that can be killed and started again at the same address."""

    def __init__(self, command: list[str], url: str, prepare: Callable[[], None]) -> None:
        self.url = url
        self._command = command
        self._prepare = prepare
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def redis_url(self) -> str:
        return self.url.replace("redis+socket://", "unix://")

    def start(self) -> None:
        self._prepare()
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        producer = Producer(self.url)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                producer.ping()
                break
            except BrokerError:
                assert self.process.poll() is None, "the broker ended"
                assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.01)
        producer.close()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(params=["embedded", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="mq") as folder:
        home = Path(folder)
        if request.param == "embedded":
            settings = load_settings(home=home / "a home")  # a space has to survive the URL
            made = Broker(
                broker.command(settings),
                settings.broker,
                lambda: broker.prepare_socket(settings.broker_socket),
            )
        else:
            program = shutil.which("redis-server")
            if program is None:
                pytest.skip("redis-server is not installed")
            port = free_port()
            words = f"--port {port} --bind 127.0.0.1 --appendonly no --loglevel warning".split()
            made = Broker(
                [program, *words, "--save", "", "--dir", folder],
                f"redis://127.0.0.1:{port}/0",
                lambda: None,
            )
        made.start()
        yield made
        made.kill()


class Worker:
    """tests/fakes/queue_worker.py, with its lines. `kept`: started again when it ends because
    it had gone quiet, as the supervisor does."""

    def __init__(self, home: Path, url: str, *words: str, kept: bool = False) -> None:
        self._command = [sys.executable, str(WORKER), str(home), url, *words]
        self._kept = kept
        self.lines: queue.Queue[str] = queue.Queue()
        self._start()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def _read(self) -> None:
        while True:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self.lines.put(line.strip())
            self.process.stdout.close()
            if not self._kept or self.process.wait() != EXIT_QUIET:
                return
            self._start()

    def line(self) -> str:
        return self.lines.get(timeout=PATIENCE_S)

    def wait_for(self, line: str) -> list[str]:
        """The lines up to and with this one."""
        seen = [self.line()]
        while seen[-1] != line:
            seen.append(self.line())
        return seen

    def end(self) -> None:
        self._kept = False
        self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def worker(home: Path, url: str, *words: str, kept: bool = False) -> Iterator[Worker]:
    made = Worker(home, url, *words, kept=kept)
    try:
        made.wait_for("ready")
        yield made
    finally:
        made.end()


def test_every_message_arrives(server: Broker, tmp_path: Path) -> None:
    producer = Producer(server.url)
    with worker(tmp_path, server.url) as consumer:
        sent = {f"j{number}" for number in range(100)}
        for job_id in sorted(sent):
            producer.enqueue(JobMessage(IMAGE, job_id))
        assert {consumer.line().removeprefix("job ") for _ in sent} == sent
        assert producer.waiting(INFER) == 0
    producer.close()


def test_urgent_messages_come_first(server: Broker, tmp_path: Path) -> None:
    producer = Producer(server.url)
    for number in range(40):
        producer.enqueue(JobMessage(IMAGE, f"usual{number}"))
    for number in range(5):
        producer.enqueue(JobMessage(IMAGE, f"urgent{number}"), priority=9)
    assert (producer.waiting(INFER), producer.waiting(LIGHT)) == (45, 0)
    with worker(tmp_path, server.url, "0.02") as consumer:
        first = {consumer.line() for _ in range(9)}  # four run at once
        assert {f"job urgent{number}" for number in range(5)} <= first
    producer.close()


def test_messages_are_taken_after_kills_of_the_broker(server: Broker, tmp_path: Path) -> None:
    producer = Producer(server.url)
    with worker(tmp_path, server.url, kept=True) as consumer:
        runs = {producer.run_id()}
        for number, idle in enumerate((True, False, False)):
            if not idle:  # killed with messages under way
                for extra in range(20):
                    producer.enqueue(JobMessage(IMAGE, f"lost{number}-{extra}"))
            server.kill()
            with pytest.raises(BrokerError):
                producer.enqueue(JobMessage(IMAGE, "nobody is there"))
            server.start()
            runs.add(producer.run_id())
            producer.enqueue(JobMessage(IMAGE, f"after{number}"))
            # Celery goes deaf now and then; the worker then notices, ends, and is replaced.
            consumer.wait_for(f"job after{number}")
        assert len(runs) == 4, "every run of the broker has an id of its own"
        assert consumer.process.poll() is None
    producer.close()


def test_a_consumer_that_has_gone_deaf_ends_to_be_started_again(
    server: Broker, tmp_path: Path
) -> None:
    producer = Producer(server.url)
    with worker(tmp_path, server.url, "0", "deaf") as deaf:
        producer.enqueue(JobMessage(IMAGE, "j"))
        assert deaf.process.wait(PATIENCE_S) == EXIT_QUIET
    with worker(tmp_path, server.url) as next_one:
        next_one.wait_for("job j")
    producer.close()


def test_a_stopping_consumer_finishes_and_leaves_the_rest(server: Broker, tmp_path: Path) -> None:
    producer = Producer(server.url)
    count = 300  # more than it finishes before it hears that it is to stop
    for number in range(count):
        producer.enqueue(JobMessage(IMAGE, f"j{number}"))
    with worker(tmp_path, server.url, "0.5") as first:
        done = [first.line()]
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(PATIENCE_S) == 0
        first._reader.join()
        while not first.lines.empty():
            done.append(first.lines.get())
    finished = [line for line in done if line.startswith("job ")]
    assert "stopping" in done
    assert "abandoned" not in done
    assert len(finished) < count
    with worker(tmp_path, server.url) as second:
        rest = {second.line() for _ in range(count - len(finished))}
    assert {*finished, *rest} == {f"job j{number}" for number in range(count)}
    producer.close()


def test_a_hung_broker_costs_a_sender_seconds_not_minutes(
    server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the time-outs are those in earnest
    producer = Producer(server.url)
    producer.enqueue(JobMessage(IMAGE, "j"))
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(BrokerError):
            producer.enqueue(JobMessage(IMAGE, "j"))
        with pytest.raises(BrokerError):
            producer.ping()
        assert time.monotonic() - started < 30
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    producer.close()


def test_waiters_are_woken_and_never_miss_a_new_subscription(
    server: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        listener, waker = WakeListener(server.redis_url), Waker(server.redis_url)
        await listener.start()
        assert await listener.ready(PATIENCE_S)

        with listener.register("a") as waiter:
            waker.wake("a")  # before the wait: kept
            started = time.monotonic()
            await waiter.wait(PATIENCE_S)
            assert time.monotonic() - started < 30

        with listener.register(ANY) as waiter:
            waker.wake("whoever")
            started = time.monotonic()
            await waiter.wait(PATIENCE_S)
            assert time.monotonic() - started < 30

        started = time.monotonic()
        waker.wake("somebody else")
        await listener.wait("b", 0.3)
        assert time.monotonic() - started >= 0.3

        waiting = asyncio.create_task(listener.wait("c", PATIENCE_S))
        await asyncio.sleep(0)
        server.kill()
        waker.wake("c")  # into the void: logged, not raised
        await asyncio.to_thread(server.start)
        started = time.monotonic()
        await waiting
        assert time.monotonic() - started < 30
        await listener.stop()
        assert not listener._waiting
        waker.close()

    asyncio.run(scene())
    assert "wake c not sent" in caplog.text
