"""The infer worker: all models of one device, image jobs from the queue.

The runtime is complete before the first message is taken: a missing or corrupt weight file
ends the process with exit code 2 and one line that says how to mend it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from moderation.analyse import Analyser
from moderation.blobs import open_blobs
from moderation.decoders import DecoderPool
from moderation.errors import ConfigError, ServiceError
from moderation.models.runner import Scorer, load_scorer
from moderation.settings import Settings, load_settings
from moderation.store import jobs
from moderation.store.engine import Database, migrate, open_database, schema_is_current
from moderation.tasks.app import make_app
from moderation.tasks.enqueue import Producer
from moderation.tasks.image import ImageRuntime, run_image
from moderation.tasks.messages import IMAGE, INFER
from moderation.wake import Waker
from workers.consumer import Consumer
from workers.heartbeat import Heartbeat, new_row
from workers.process import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_HUNG,
    EXIT_OK,
    exit_now,
    on_stop_signals,
    set_up_logging,
    worker_id,
)

log = logging.getLogger(__name__)

ROLE: Final = "infer"
WATCH_S: Final = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.infer", description=__doc__)
    parser.add_argument("--id", help="the worker's id, which owns its leases")
    options = parser.parse_args(argv)
    try:
        settings = load_settings()
        set_up_logging(settings, ROLE)
        return serve(settings, options.id or worker_id(ROLE))
    except ConfigError as error:
        sys.stderr.write(f"infer worker: {error}\n")
        return EXIT_CONFIG
    except ServiceError as error:
        sys.stderr.write(f"infer worker: {error}\n")
        return EXIT_FAILED


def serve(settings: Settings, owner: str) -> int:
    """Load, consume, drain. Raises ConfigError, and ServiceError while starting."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    with ExitStack() as stack:
        db = open_ready(settings)
        stack.callback(db.close)
        heartbeat = Heartbeat(db, new_row(owner, ROLE), lease_s=settings.lease_seconds)
        heartbeat.start()
        stack.callback(heartbeat.stop)
        stack.callback(release, db, owner)
        scorer = load_scorer(settings)
        stack.callback(scorer.close)
        pool = stack.enter_context(DecoderPool.from_settings(settings))
        pool.warm()  # ready means ready: the first picture does not wait for children to start
        producer = Producer(settings.broker)
        stack.callback(producer.close)
        waker = Waker(settings.redis)
        stack.callback(waker.close)
        runtime = ImageRuntime(
            db=db,
            blobs=open_blobs(settings.blobs, endpoint=settings.s3_endpoint),
            analyser=Analyser(scorer, pool, settings),
            waker=waker,
            producer=producer,
            owner=owner,
            models=scorer.models,
            device=scorer.device,
            lease_s=settings.lease_seconds,
            max_attempts=settings.max_attempts,
        )
        consumer = Consumer(
            make_app(settings),
            producer,
            name=owner,
            queue=INFER,
            concurrency=settings.worker_concurrency,
            handlers={IMAGE: lambda job_id: run_image(job_id, runtime)},
            on_ready=lambda: heartbeat.report(
                "ready",
                device=scorer.device,
                precision=scorer.precision,
                models=scorer.describe(),
            ),
            on_stopping=lambda: heartbeat.report("stopping"),
            on_abandon=lambda: abandon(db, owner, heartbeat),
        )
        watch(scorer, settings.infer_timeout, db, owner)
        on_stop_signals(consumer.stop)
        if stop.is_set():
            return EXIT_OK
        consumer.run()
        return EXIT_OK if consumer.stopping else EXIT_FAILED


def open_ready(settings: Settings) -> Database:
    """The database, with the schema of this version. Raises ConfigError, StoreError."""
    db = open_database(settings.database)
    if not schema_is_current(db):
        migrate(settings.database)
    return db


def release(db: Database, owner: str) -> None:
    """Give all leases of this worker back."""
    try:
        released = jobs.release_owner(db, owner)
    except ServiceError as error:
        log.warning("leases run out by themselves: %s", error)
        return
    if released:
        log.warning("%d unfinished jobs given back", released)


def abandon(db: Database, owner: str, heartbeat: Heartbeat) -> None:
    """What is still to be said before the process ends with work unfinished."""
    heartbeat.stop()
    release(db, owner)


def watch(scorer: Scorer, limit_s: float, db: Database, owner: str) -> None:
    """End the process when a forward pass hangs: threads cannot be stopped otherwise."""

    def look() -> None:
        # An Event that nobody sets: a wait with an end, in a daemon thread.
        pause = threading.Event()
        while not pause.wait(WATCH_S):
            seconds = scorer.oldest_running_s
            if seconds > limit_s:
                log.critical("a forward pass runs for %.1f s: starting again", seconds)
                release(db, owner)
                exit_now(EXIT_HUNG)

    threading.Thread(target=look, name="watchdog", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
