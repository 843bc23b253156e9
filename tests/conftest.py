"""Fixtures that several folders share: real servers, and databases on both engines.

A server whose program is not installed skips its tests, with the reason named.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

from moderation.store.engine import Database, migrate, open_database
from tests import live_servers, servers
from tests.fakes.databases import migrated

S = TypeVar("S")
# A busy machine is no fault of the code; what is too slow shows in the benchmarks. Where a change
# is judged (`CI` is set) every run draws the same few examples, so that chance judges nobody;
# elsewhere each run draws new ones, and what they find is kept in `.hypothesis`.
hypothesis.settings.register_profile(
    "moderation",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=40 if "CI" in os.environ else 100,
    print_blob=True,
)
hypothesis.settings.load_profile("moderation")
TORCH = ("torch", "safetensors", "onnx")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--need-torch",
        action="store_true",
        help="fail unless a test marked `torch` has passed: skipped ones prove nothing",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--need-torch"):
        absent = [name for name in TORCH if importlib.util.find_spec(name) is None]
        if absent:
            raise pytest.UsageError(f"--need-torch, and not installed: {', '.join(absent)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("--need-torch"):
        terminalreporter.section("torch")
        terminalreporter.line(f"{len(_torch_passed(terminalreporter))} tests of torch passed")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--need-torch"):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if not _torch_passed(reporter):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _torch_passed(reporter: pytest.TerminalReporter | None) -> list[pytest.TestReport]:
    passed = [] if reporter is None else reporter.stats.get("passed", [])
    return [report for report in passed if "torch" in report.keywords]


def _running(server: AbstractContextManager[S]) -> Iterator[S]:
    try:
        started = server.__enter__()
    except servers.Missing as reason:
        pytest.skip(str(reason))
    try:
        yield started
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    """A PostgreSQL for the whole run. Its database `migrated` is a template with the tables."""
    for server in _running(servers.postgres()):
        server.sql("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


@pytest.fixture(scope="session")
def shared_database(postgres_server: servers.Postgres) -> str:
    """URL of the database that tests have one after the other, emptied between them."""
    return postgres_server.new_database(template="migrated")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    """The system's Redis, shared: keep to databases or keys of your own."""
    yield from _running(servers.redis_server())


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.Redis]:
    """The embedded Valkey, shared."""
    yield from _running(servers.valkey())


@pytest.fixture
def patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of a broker do not give it up as hung, however long a busy machine holds it up.
    `monkeypatch.undo()` gives them back the time-outs that they have in earnest."""
    for name in (
        "moderation.tasks.enqueue.SEND_TIMEOUT_S",
        "moderation.tasks.enqueue.CONNECT_TIMEOUT_S",
        "moderation.tasks.config.CONNECT_TIMEOUT_S",
        "moderation.wake.SOCKET_TIMEOUT_S",
        "moderation.wake.CONNECT_TIMEOUT_S",
        "moderation.live_queue.SOCKET_TIMEOUT_S",
        "moderation.live_queue.CONNECT_TIMEOUT_S",
        "moderation.live.figures.TIMEOUT_S",
        "moderation.live.newest.TIMEOUT_S",
    ):
        monkeypatch.setattr(name, 30.0)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 look-alike with a bucket named `media`."""
    yield from _running(servers.s3("media"))


@pytest.fixture(scope="session")
def live_server() -> Iterator[live_servers.LiveServer]:
    """nginx with RTMP and HLS, shared: keep to stream names of your own, and leave it running."""
    yield from _running(live_servers.live_server())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database with the tables in it, on each engine in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
        yield migrated(url)
        return
    server: servers.Postgres = request.getfixturevalue("postgres_server")
    url = request.getfixturevalue("shared_database")
    yield url
    server.empty(url, keep="alembic_version")


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An open database on each engine in turn."""
    database = open_database(database_url)
    yield database
    database.close()
