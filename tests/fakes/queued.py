"""Picture jobs through a real broker to one infer worker, a process of its own.

No gateway: the jobs are put into the database and announced as the gateway does it.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.photos import photographs
from benchmarks.verdicts import here
from moderation.blobs import blob_key, open_blobs
from moderation.policy import Policy, Rule
from moderation.settings import Settings, load_settings
from moderation.store import items, jobs
from moderation.store.engine import Database, migrate, open_database
from moderation.store.records import DEFAULT_TENANT, JobState, NewItem, NewMedia
from moderation.store.submit import submit
from moderation.tasks.enqueue import Producer
from moderation.tasks.messages import IMAGE, JobMessage
from moderation.types import Verdict
from tests.servers import wait_for

SAMPLE = 40
REVIEWED, BLOCKED = 0.75, 0.92
"""Shares of ordinary pictures below the thresholds of `dividing`, for each label."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a worker made of the jobs: one verdict each, in their order. seconds: from its being
    ready to the last verdict."""

    verdicts: tuple[Verdict, ...]
    seconds: float


def pictures(count: int) -> list[bytes]:
    """`count` distinct JPEGs: three quarters crops of photographs, the rest painted."""
    painted = count // 4
    return [*photographs(count - painted), *(_painted(seed) for seed in range(painted))]


def _painted(seed: int) -> bytes:
    random = Random(seed)
    picture = Image.new("RGB", (640, 480), tuple(random.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randrange(4, 24)):
        left, top = random.randrange(560), random.randrange(400)
        box = (left, top, left + random.randrange(20, 300), top + random.randrange(20, 300))
        paint = draw.ellipse if random.random() < 0.5 else draw.rectangle
        paint(box, fill=tuple(random.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def dividing(bodies: Sequence[bytes], settings: Settings) -> Policy:
    """A policy whose thresholds lie among the scores that the pictures have: the shipped ones
    pass every ordinary picture, and then agreement would say nothing. Scores a sample here."""
    found = [one.scores for one in here(bodies[:: max(1, len(bodies) // SAMPLE)], settings)]
    scores = {label: np.array([one[label] for one in found]) for label in found[0]}
    rules = tuple(
        Rule(label=x, review_at=_between(v, REVIEWED), block_at=_between(v, BLOCKED))
        for x, v in scores.items()
    )
    return Policy(id="dividing", version=1, rules=rules)


def _between(values: NDArray[np.float64], share: float) -> float:
    """Half way between two neighbouring scores, of which so many lie below."""
    ordered = np.sort(values)
    index = min(int(len(ordered) * share), len(ordered) - 2)
    return float((ordered[index] + ordered[index + 1]) / 2)


def answered(
    bodies: Sequence[bytes],
    policy: Policy,
    *,
    home: Path,
    broker: str,
    words: Sequence[str] = (),
    env: Mapping[str, str],
    timeout_s: float,
) -> Answered:
    """Queue a job a picture, then run `moderation worker WORDS` until all are done.

    broker: a database of a Redis that nobody else uses. Raises TimeoutError, and RuntimeError
    with the worker's log where it ends before or does not stop cleanly.
    """
    settings = load_settings(home=home, broker_url=broker)
    home.mkdir(parents=True)
    migrate(settings.database)
    db = open_database(settings.database)
    producer = Producer(settings.broker)
    try:
        queued = [_submit(db, settings, body, policy) for body in bodies]
        for job_id, _ in queued:
            producer.enqueue(JobMessage(IMAGE, job_id))
        with _worker(settings, words, env) as process:
            log = home / "worker.log"

            def done() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(log.read_text("utf-8", "replace")[-2000:])
                return jobs.counts(db).get(JobState.DONE, 0) == len(queued)

            wait_for(lambda: done() or _begun(db), "a first job begins", timeout_s)
            started = time.perf_counter()
            wait_for(done, f"{len(queued)} jobs done", timeout_s)
            seconds = time.perf_counter() - started
        found = [items.get_item(db, DEFAULT_TENANT, item_id).verdict for _, item_id in queued]
    finally:
        producer.close()
        db.close()
    return Answered(tuple(verdict for verdict in found if verdict is not None), seconds)


def _begun(db: Database) -> bool:
    counts = jobs.counts(db)
    return counts.get(JobState.RUNNING, 0) + counts.get(JobState.DONE, 0) > 0


def _submit(db: Database, settings: Settings, body: bytes, policy: Policy) -> tuple[str, str]:
    sha = hashlib.sha256(body).hexdigest()
    key = blob_key(DEFAULT_TENANT, sha)
    open_blobs(settings.blobs).put(key, body)
    media = NewMedia(sha256=sha, size=len(body), format="jpeg", blob_key=key)
    done = submit(db, NewItem(tenant=DEFAULT_TENANT, media=media, policy=policy))
    return done.job_id, done.item_id


@contextmanager
def _worker(
    settings: Settings, words: Sequence[str], env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    log = settings.home / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "moderation.cli", "worker", *words],
            env={
                **env,
                "MODERATION_HOME": str(settings.home),
                "MODERATION_BROKER_URL": settings.broker,
            },
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
        process.terminate()
        if process.wait(40) != 0:
            raise RuntimeError(log.read_text("utf-8", "replace")[-2000:])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
