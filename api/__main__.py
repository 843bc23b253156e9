"""The gateway process: `python -m api`, or `moderation gateway`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import logging.config
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from api.app import create_app
from api.deps import Gateway
from moderation.errors import ConfigError, ServiceError
from moderation.settings import Settings, load_settings

NOISY = ("alembic", "boto3", "botocore", "celery", "kombu", "s3transfer", "urllib3")
STOP_WITHIN_S = 20
"""After SIGTERM, requests in flight have this long to end; waits are answered at once."""


class Server(uvicorn.Server):
    """uvicorn, which ends waits for verdicts when it is told to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        gateway: Gateway | None = getattr(self.config.app.state, "gateway", None)  # type: ignore[union-attr]
        if gateway is not None:
            self._loop.call_soon_threadsafe(self._stop_waiting, gateway)

    async def serve(self, sockets: list[Any] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Task[None] | None = None
        await super().serve(sockets)

    def _stop_waiting(self, gateway: Gateway) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(gateway.stop_waiting())


def build_server(settings: Settings) -> Server:
    """A server for these settings. Raises ConfigError and BlobError as `create_app` does."""
    return Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            lifespan="on",
            log_config=None,
            access_log=False,  # api.middleware writes its own, with the request's id
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            backlog=2048,
        )
    )


def configure_logging(level: str) -> None:
    """Everything, the access log included, goes to stderr; libraries from WARNING on."""
    quiet = max(logging.WARNING, logging.getLevelNamesMapping()[level])
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(asctime)s gateway %(levelname)-7s %(message)s"}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stderr",
                    "formatter": "plain",
                }
            },
            "loggers": {name: {"level": quiet} for name in NOISY},
            "root": {"level": level, "handlers": ["stderr"]},
        }
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Exit status: 0 stopped, 1 could not start, 2 bad settings."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--config", type=Path, help="TOML file of settings")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    given = parser.parse_args(argv)
    chosen = {"host": given.host, "port": given.port}
    try:
        settings = load_settings(
            given.config, **{name: value for name, value in chosen.items() if value is not None}
        )
        configure_logging(settings.log_level)
        server = build_server(settings)
    except (ConfigError, ServiceError) as error:
        print(f"moderation gateway: {error.message}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, ConfigError) else 1
    stop_on_signals(server)
    try:
        server.run()
    except SystemExit:  # uvicorn has logged why it cannot listen, and has a status of its own
        return 1
    return 0 if server.started else 1


def stop_on_signals(server: Server) -> None:
    """Stop in order on signals that come before uvicorn listens to them. It also raises them
    again when it has ended, which then changes nothing: the exit status stays ours."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
