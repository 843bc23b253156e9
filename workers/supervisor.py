"""`moderation serve`: every process of one machine, under one that restarts and stops them.

Start: lock the data folder, broker, migrations, first key, then infer, media and live worker and
gateway. Stop (SIGTERM, Ctrl-C): the four are asked to stop together, the broker comes last.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

from moderation.errors import ConfigError, ModerationError, ServiceError
from moderation.oidc import client_of
from moderation.settings import Settings, load_settings
from moderation.store import accounts, fleet, jobs, stream_leases
from moderation.store.engine import Database, migrate, open_database
from workers import broker
from workers.children import Child
from workers.firststart import (
    announce,
    check_media,
    choose_port,
    ensure_key,
    lock_home,
)
from workers.process import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_OK,
    set_up_logging,
    worker_id,
)

log = logging.getLogger(__name__)

BROKER_START_S: Final = 10.0
STOP_S: Final = 24.0
BROKER_STOP_S: Final = 4.0


class Supervisor:
    """Owns the children. `run` returns the exit code."""

    def __init__(self, settings: Settings, db: Database, env: dict[str, str]) -> None:
        self._settings = settings
        self._db = db
        self._stop = False
        self._fatal: int | None = None
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        self._infer_id = ""
        self._media_id = ""
        self._live_id = ""
        python = sys.executable
        self._broker = Child(
            "broker",
            lambda: broker.command(settings),
            env=env,
            before=lambda: broker.prepare_socket(settings.broker_socket),
            died=lambda code: self._died("broker", code),
        )
        self._children = (
            Child(
                "infer",
                lambda: [python, "-m", "workers.infer", "--id", self._new_infer_id()],
                env=env,
                died=self._infer_died,
            ),
            Child(
                "media",
                lambda: [python, "-m", "workers.media", "--id", self._new_media_id()],
                env=env,
                died=self._media_died,
            ),
            Child(
                "live",
                lambda: [python, "-m", "workers.live", "--id", self._new_live_id()],
                env=env,
                died=self._live_died,
            ),
            Child(
                "gateway",
                lambda: [python, "-m", "api"],
                env=env,
                died=lambda code: self._died("gateway", code),
            ),
        )

    def start_broker(self) -> None:
        """Start the embedded broker and wait until it answers; nothing when one is configured.

        Raises ConfigError when it does not answer in time.
        """
        if self._settings.broker_url is not None:
            return
        self._broker.start()
        deadline = time.monotonic() + BROKER_START_S
        while not broker.answers(self._settings):
            if self._broker.reap() is not None or time.monotonic() > deadline:
                log_file = self._settings.broker_socket.with_name("broker.log")
                raise ConfigError(f"the embedded broker did not start: see {log_file}")
            self._pause(0.02)

    def watch_signals(self) -> None:
        """From now on SIGTERM and SIGINT stop `run`, and the end of a child wakes it."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self) -> int:
        """Start the workers and the gateway, and keep everything running until stopped."""
        embedded = (self._broker,) if self._settings.broker_url is None else ()
        children = (*embedded, *self._children)
        while not self._stop and self._fatal is None:
            for child in children:
                child.reap()
                if self._fatal is None and child.due_in_s() == 0.0:
                    start(child)
            due = [left for child in children if (left := child.due_in_s()) is not None]
            self._pause(min(due, default=60.0))
        self.stop()
        return EXIT_OK if self._fatal is None else self._fatal

    def stop(self) -> None:
        """Stop everything: nothing is left running afterwards. Takes 28 s at most."""
        log.info("stopping")
        deadline = time.monotonic() + STOP_S
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(deadline)
        for owner in (self._infer_id, self._media_id, self._live_id):
            self._release(owner)
        self._broker.terminate()
        self._broker.wait(time.monotonic() + BROKER_STOP_S)
        log.info("stopped")

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    def _pause(self, seconds: float) -> None:
        """Sleep until a signal arrives, or for so long."""
        ready, _, _ = select.select([self._read_end], [], [], seconds)
        if ready:
            os.read(self._read_end, 4096)

    def _new_infer_id(self) -> str:
        self._infer_id = worker_id("infer")
        return self._infer_id

    def _new_media_id(self) -> str:
        self._media_id = worker_id("media")
        return self._media_id

    def _new_live_id(self) -> str:
        self._live_id = worker_id("live")
        return self._live_id

    def _infer_died(self, code: int) -> None:
        self._release(self._infer_id)
        self._died("infer", code)

    def _media_died(self, code: int) -> None:
        self._release(self._media_id)
        self._died("media", code)

    def _live_died(self, code: int) -> None:
        self._release(self._live_id)
        self._died("live", code)

    def _died(self, name: str, code: int) -> None:
        if self._stop:
            return
        if code == EXIT_CONFIG:
            log.critical("%s cannot start (see its line above): giving up", name)
            self._fatal = EXIT_CONFIG
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.warning("%s ended with %s and is started again", name, how)

    def _release(self, owner: str) -> None:
        """Give back at once what a dead worker held, instead of after its lease."""
        if not owner:
            return
        try:
            released = jobs.release_owner(self._db, owner)
            streams = stream_leases.release_owner(self._db, owner)
            fleet.forget(self._db, owner)
        except ServiceError as error:
            log.warning("leases of %s run out by themselves: %s", owner, error)
            return
        if released:
            log.warning("%d jobs of %s given back", released, owner)
        if streams:
            log.warning("%d streams of %s given back", streams, owner)


def start(child: Child) -> None:
    """Where the system has no room for a process just now, it is tried again later: the others go
    on. Raises ConfigError."""
    try:
        child.start()
    except OSError as error:
        log.error("%s could not be started: %s", child.name, error)
        child.failed()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    argparse.ArgumentParser(prog="python -m workers.supervisor", description=__doc__).parse_args(
        argv
    )
    try:
        settings = load_settings()
        set_up_logging(settings, "serve")
        return serve(settings)
    except ModerationError as error:
        sys.stderr.write(f"moderation serve: {error}\n")
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED


def serve(settings: Settings) -> int:
    """Everything on one machine. Raises ConfigError, ServiceError before it runs."""
    with lock_home(settings.home):
        port = choose_port(settings.host, settings.port)
        env = {
            **os.environ,
            "MODERATION_HOME": str(settings.home),
            "MODERATION_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
        check_media(settings)
        client_of(settings)  # the gateway would give up on it, once all the others run
        migrate(settings.database)
        db = open_database(settings.database)
        supervisor = Supervisor(settings, db, env)
        supervisor.watch_signals()
        try:
            supervisor.start_broker()
            key = ensure_key(db, settings)
            announce(settings, port, key, people=accounts.are_there(db))
            return supervisor.run()
        except BaseException:
            supervisor.stop()
            raise
        finally:
            db.close()


if __name__ == "__main__":
    sys.exit(main())
