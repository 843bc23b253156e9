"""`moderation serve` under `kill -9`, restarts and misconfiguration.

Runs on the fake backend; MODERATION_TEST_BACKEND=openvino runs it on the real weights.
"""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from served import BACKEND, Receiver, Served, alive, picture, until

from moderation.analyse import Analyser, to_verdict
from moderation.decoders import DecoderPool
from moderation.models.runner import load_scorer
from moderation.policy import load_policies
from moderation.settings import Settings, load_settings
from moderation.store import items, jobs
from moderation.store.engine import Database, migrate, open_database
from moderation.store.records import DEFAULT_TENANT, ItemFilter, ItemRow, JobState
from moderation.types import Decision, Status, Verdict

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the supervisor ties its children to itself on Linux alone"
)

SEED = int(os.environ.get("MODERATION_TEST_SEED", "7"))
PICTURES = 80
CLIENTS = 8
KILLS = ("infer", "broker", "gateway")
SETTLE_S = 60.0


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mf") as folder:
        yield Path(folder) / "home"


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    db = open_database(settings.database)
    try:
        yield db
    finally:
        db.close()


def settings_of(served: Served) -> Settings:
    return load_settings(home=served.home, backend=BACKEND)


def undisturbed(settings: Settings, numbers: range) -> dict[str, Verdict]:
    """The verdicts that the pictures have when nothing goes wrong: computed here, in process."""
    policy = load_policies(settings.policy_dir)["default"]
    scorer = load_scorer(settings)
    with DecoderPool.from_settings(settings) as pool:
        analyser = Analyser(scorer, pool, settings)
        verdicts = {
            f"picture-{number}": to_verdict(
                analyser.analyse(picture(number), policy),
                id="undisturbed",
                policy=policy,
                models=scorer.models,
                device=scorer.device,
            )
            for number in numbers
        }
    scorer.close()
    return verdicts


def all_items(db: Database) -> list[ItemRow]:
    found: list[ItemRow] = []
    cursor: str | None = None
    while True:
        page = items.list_items(db, DEFAULT_TENANT, ItemFilter(), limit=100, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def open_jobs(db: Database) -> int:
    counts = jobs.counts(db)
    return counts.get(JobState.QUEUED, 0) + counts.get(JobState.RUNNING, 0)


def check_outcome(served: Served, receiver: Receiver, count: int) -> None:
    """Every accepted picture ended exactly once, with the right verdict, told exactly once."""
    settings = settings_of(served)
    with opened(settings) as db:
        until(lambda: open_jobs(db) == 0, SETTLE_S, "nothing queued or running")
        until(lambda: receiver.count() >= count, SETTLE_S, f"{count} callbacks")
        rows = all_items(db)
        assert sorted(row.data_id or "" for row in rows) == sorted(
            f"picture-{number}" for number in range(count)
        ), "one item for each picture"
        histories = {row.id: items.history(db, DEFAULT_TENANT, row.id) for row in rows}
        counts = jobs.counts(db)
    assert counts.get(JobState.DONE, 0) == count
    expected = undisturbed(settings, range(count))
    for row in rows:
        verdict, right = row.verdict, expected[row.data_id or ""]
        assert verdict is not None
        assert len(histories[row.id]) == 1, "decided once"
        assert verdict.status is Status.DONE
        assert verdict.decision is right.decision
        assert [r.label for r in verdict.reasons] == [r.label for r in right.reasons]
        assert verdict.scores == pytest.approx(right.scores, abs=2e-3)
        assert verdict.models == right.models
    assert receiver.problems == []
    told: dict[str, set[str]] = {}
    by_id = {row.id: row for row in rows}
    for event, bodies in receiver.events.items():
        assert all(body == bodies[0] for body in bodies), "every attempt says the same"
        data = bodies[0]["data"]
        told.setdefault(data["id"], set()).add(event)
        verdict = by_id[data["id"]].verdict
        assert verdict is not None
        assert data == verdict.to_json()
    assert set(told) == set(by_id)
    assert all(len(events) == 1 for events in told.values()), "one event for each item"


@contextmanager
def receiving(served: Served) -> Iterator[Receiver]:
    receiver = Receiver(lambda: (served.home / "webhook-secret").read_text().strip())
    try:
        yield receiver
    finally:
        receiver.close()


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Served]:
    served = Served(home, **settings)
    try:
        served.start()
        yield served
    finally:
        served.destroy()


@pytest.mark.slow
def test_kills_while_pictures_go_in_change_nothing(home: Path) -> None:
    chance = random.Random(SEED)
    kills = list(KILLS)
    chance.shuffle(kills)
    moments = sorted(chance.sample(range(5, PICTURES - 10), len(kills)))
    accepted = 0
    lock = threading.Lock()
    with serving(home) as served, receiving(served) as receiver:

        def client(number: int) -> None:
            nonlocal accepted
            served.send(number, receiver.url)
            with lock:
                accepted += 1

        with ThreadPoolExecutor(CLIENTS) as clients:
            sent = [clients.submit(client, number) for number in range(PICTURES)]
            for name, moment in zip(kills, moments, strict=True):
                until(
                    lambda moment=moment: accepted >= moment or all(f.done() for f in sent),
                    SETTLE_S,
                    f"{moment} pictures accepted",
                )
                served.kill(name)
            for future in sent:
                future.result()
        log = served.log.read_text(errors="replace")
        # Who was about to end, since the broker was away, may have done so by itself.
        assert log.count("ended with signal 9") >= len(kills) - 1, log[-3000:]
        check_outcome(served, receiver, PICTURES)
        assert served.stop() == 0


@pytest.mark.slow
def test_stop_migrate_restart_with_queued_jobs(home: Path) -> None:
    count = 50
    with serving(home) as served, receiving(served) as receiver:
        infer = served.pid_of("infer")
        assert infer is not None
        served.pause(infer)  # so that the jobs stay queued
        with ThreadPoolExecutor(CLIENTS) as clients:
            for answer in clients.map(lambda n: served.send(n, receiver.url), range(count)):
                assert answer["status"] == "queued"
        settings = settings_of(served)
        with opened(settings) as db:
            assert jobs.counts(db).get(JobState.QUEUED, 0) == count
        assert served.process is not None
        served.process.terminate()
        os.kill(infer, signal.SIGTERM)  # stays pending: it is told to stop before it goes on
        os.kill(infer, signal.SIGCONT)
        assert served.stop() == 0
        with opened(settings) as db:
            counts = jobs.counts(db)
            assert counts.get(JobState.RUNNING, 0) == 0, "leases were given back"
            assert counts.get(JobState.QUEUED, 0) >= count - 16, "nothing new was claimed"
        migrate(settings.database)
        served.start()
        check_outcome(served, receiver, count)
        assert served.stop() == 0


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "fake", reason="only the fake backend crashes on request")
def test_a_picture_that_kills_the_worker_ends_in_review_and_the_next_one_runs(home: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (10, 200, 30)).save(file, "png")
    with (
        serving(home, fake_crash="10,200,30", max_attempts="2") as served,
        receiving(served) as receiver,
        opened(settings_of(served)) as db,
    ):
        deadly = served.send(0, receiver.url, data=file.getvalue())["job_id"]
        until(lambda: items.verdict_of_job(db, deadly) is not None, SETTLE_S, "it was given up")
        verdict = items.verdict_of_job(db, deadly)
        assert verdict is not None
        assert verdict.error is not None
        assert (verdict.error.code, verdict.decision) == ("attempts_exhausted", Decision.REVIEW)
        harmless = served.send(1, receiver.url)["job_id"]
        until(lambda: items.verdict_of_job(db, harmless) is not None, SETTLE_S, "the next one")
        until(lambda: receiver.count() == 2, SETTLE_S, "both callbacks")
        assert jobs.counts(db)[JobState.DONE] == 1
        assert served.log.read_text().count("infer ended with exit code 70") == 2
        assert served.stop() == 0


def run_once(served: Served) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.supervisor"],
        env=served.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use_is_one_clear_line(home: Path) -> None:
    served = Served(home)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", served.port))
        taken.listen()
        ended = run_once(served)
    assert ended.returncode == 2
    assert f"port {served.port} on 127.0.0.1 is in use" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_missing_weight_stops_everything_and_says_why(home: Path) -> None:
    empty = home.parent / "no-weights"
    empty.mkdir()
    served = Served(home, backend="openvino", weights_cache=str(empty))
    started = time.monotonic()
    ended = run_once(served)
    assert ended.returncode == 2
    assert "moderation weights pull" in ended.stderr
    assert "infer cannot start" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - started < 45


@pytest.mark.slow
def test_a_server_has_its_folder_alone_shows_its_key_once_and_leaves_no_process(home: Path) -> None:
    served = Served(home)
    del served.env["MODERATION_BOOTSTRAP_KEY"]
    try:
        served.start()
        first = served.log.read_text()
        assert "curl -H 'Authorization: Bearer mod_" in first
        key = first.partition("Admin key (shown this once): ")[2].split()[0]
        for secret, status in ((key, 200), (key[:-1] + "?", 401)):
            answer = httpx.get(
                f"{served.url}/v1/items", headers={"Authorization": f"Bearer {secret}"}
            )
            assert answer.status_code == status

        assert served.process is not None
        second = run_once(served)
        assert second.returncode == 2
        assert f"another `moderation serve` (pid {served.process.pid}) runs" in second.stderr
        assert second.stdout == ""
        assert served.is_ready()

        assert len(served.seen) >= 4
        served.process.kill()
        served.process.wait()
        until(lambda: not any(map(alive, served.seen)), 10, "every process ended")
        served.seen.clear()

        served.start()
        assert served.log.read_text().count("Admin key") == 1
        assert key not in served.log.read_text()[len(first) :]
        assert served.stop() == 0
    finally:
        served.destroy()
    for file in served.home.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes(), f"{file} holds the key"
