"""The media worker: it reads videos, makes pictures for people, sends callbacks and sweeps.

It loads no models.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from moderation.blobs import open_blobs
from moderation.decoders import DecoderPool
from moderation.packs import open_packs
from moderation.settings import Settings
from moderation.tasks.app import make_app
from moderation.tasks.deliver import Deliverer
from moderation.tasks.derive import Deriver
from moderation.tasks.enqueue import Producer
from moderation.tasks.files import LocalFiles, own_folder
from moderation.tasks.messages import DELIVER, DERIVE, LIGHT, READ, VIDEO
from moderation.tasks.reading import Reading
from moderation.tasks.sweep import Sweeper
from moderation.tasks.working import Working
from moderation.wake import Waker
from workers.consumer import Consumer
from workers.hands import Hands, end_hands
from workers.heartbeat import Heartbeat, abandon, new_row, release
from workers.process import (
    EXIT_FAILED,
    EXIT_OK,
    on_stop_signals,
    open_ready,
    run_worker,
    vital,
)

log = logging.getLogger(__name__)

ROLE: Final = "media"
CONCURRENCY: Final = 2
DERIVERS: Final = 2
"""Pictures for people that are made at a time, one film at most among them."""
MAKERS_WAIT_S: Final = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker until SIGTERM or SIGINT; returns the exit code."""
    return run_worker(ROLE, __doc__, serve, argv)


def serve(settings: Settings, name: str) -> int:
    """Read, sweep, deliver and consume until stopped. Raises ConfigError, ServiceError."""
    stop = threading.Event()
    on_stop_signals(stop.set)
    with ExitStack() as stack:
        db = open_ready(settings)
        stack.callback(db.close)
        working = Working()
        heartbeat = Heartbeat(db, new_row(name, ROLE), working, lease_s=settings.lease_seconds)
        heartbeat.start()
        stack.callback(heartbeat.stop)
        stack.callback(release, db, name)
        producer = Producer(settings.broker)
        stack.callback(producer.close)
        deliverer = Deliverer(db, settings)
        stack.callback(deliverer.close)
        waker = Waker(settings.redis)
        stack.callback(waker.close)
        packs = open_packs(settings.packs)
        folder = stack.enter_context(own_folder(settings.home / "run" / "films"))
        blobs = open_blobs(settings.blobs, endpoint=settings.s3_endpoint)
        files = stack.enter_context(LocalFiles(blobs, folder))
        reading = Reading.from_settings(
            settings,
            db=db,
            files=files,
            packs=packs,
            waker=waker,
            producer=producer,
            owner=name,
            working=working,
        )
        deriver = Deriver(
            db=db,
            blobs=blobs,
            files=files,
            waker=waker,
            pool=stack.enter_context(DecoderPool.from_settings(settings)),
            settings=settings,
            folder=folder,
        )
        makers = Hands("deriver", DERIVERS, deriver.once)
        hands = Hands("reader", settings.readers or os.cpu_count() or 1, reading.once)
        sweeper = Sweeper(
            db, producer, waker, settings, packs=packs, blobs=blobs, on_swept=deliverer.poke
        )
        loops = [
            vital(label, partial(loop, stop))
            for label, loop in (("sweeper", sweeper.run), ("deliverer", deliverer.run))
        ]
        for thread in loops:
            thread.start()

        def stopping() -> None:
            makers.stop()
            hands.stop()
            heartbeat.report("stopping")

        consumer = Consumer(
            make_app(settings),
            producer,
            name=name,
            queue=LIGHT,
            concurrency=CONCURRENCY,
            handlers={
                DELIVER: lambda _job_id: deliverer.poke(),
                VIDEO: lambda _job_id: hands.poke(),
                READ: lambda _chunk: hands.poke(),
                DERIVE: lambda _derivative: makers.poke(),
            },
            on_ready=lambda: heartbeat.report("ready"),
            on_stopping=stopping,
            on_abandon=lambda: abandon(db, name, heartbeat),
        )
        on_stop_signals(consumer.stop)
        if stop.is_set():
            return EXIT_OK
        hands.start()
        makers.start()
        consumer.run()
        end_hands(hands, lambda: abandon(db, name, heartbeat))
        # A film in the making is begun anew by somebody else.
        end_hands(makers, lambda: abandon(db, name, heartbeat), wait_s=MAKERS_WAIT_S)
        stop.set()
        deliverer.poke()
        for thread in loops:
            thread.join(settings.sweep_seconds)
        return EXIT_OK if consumer.stopping else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
