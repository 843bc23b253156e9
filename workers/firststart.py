"""What `serve` settles before its children start: one server per data folder, port, key."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moderation.blobs import open_blobs
from moderation.errors import BlobError, ConfigError
from moderation.settings import Settings
from moderation.store import keys
from moderation.store.engine import Database
from moderation.store.records import DEFAULT_TENANT


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Hold the data folder (made when missing) for this process alone.

    The kernel drops the lock however the process ends. Raises ConfigError when another
    `serve` holds it, or when the folder cannot be written.
    """
    path = home / "run" / "serve.lock"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)  # users' pictures lie in it
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the data folder {home}: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                f"another `moderation serve` (pid {holder}) runs on the data folder {home}"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def check_media(settings: Settings) -> None:
    """See that the media folder can be made. Raises ConfigError, which names it."""
    try:
        open_blobs(settings.blobs, endpoint=settings.s3_endpoint)
    except BlobError as error:
        raise ConfigError(f"cannot keep media in {settings.blobs}: {error}") from error


def choose_port(host: str, port: int) -> int:
    """The port to listen on; 0 chooses a free one. Raises ConfigError when it is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use by another program: "
                "stop it or set MODERATION_PORT"
            ) from error
        raise ConfigError(f"cannot listen on {host} port {port}: {error}") from error


def ensure_key(db: Database, settings: Settings) -> str | None:
    """See that an admin key exists; returns one that was made just now, to be shown once.

    Only its hash is stored. A configured bootstrap key is accepted as it is, and not shown.
    """
    if settings.bootstrap_key is not None:
        keys.ensure_bootstrap(db, settings.bootstrap_key.get_secret_value())
        return None
    if any("admin" in row.scopes and row.revoked is None for row in keys.list_keys(db)):
        return None
    _, secret = keys.create_key(db, tenant=DEFAULT_TENANT, name="admin", scopes=keys.SCOPES)
    return secret


def announce(settings: Settings, port: int, made_key: str | None, *, people: bool) -> None:
    """Say on stdout where the server and the console are and how to send a first picture; without
    `people`, how to make the first account too."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}"
    lines = [
        f"moderation serves on {address}, data in {settings.home}",
        f"The console is at {address}/console",
    ]
    if not people:
        lines += [
            "Nobody can sign in yet; a first account: moderation users create NAME --role admin"
        ]
    if made_key is not None:
        lines += [
            "",
            f"Admin key (shown this once): {made_key}",
            "",
            "Send a first picture:",
            f"  curl -H 'Authorization: Bearer {made_key}' -F file=@photo.jpg {address}/v1/images",
            "",
        ]
    elif settings.bootstrap_key is not None:
        lines += ["The admin key is the one in MODERATION_BOOTSTRAP_KEY."]
    else:
        lines += ["Keys were made before; a new one: moderation keys create"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
