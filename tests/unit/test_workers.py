from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moderation.errors import ConfigError
from moderation.live.supervise import Supervision
from moderation.settings import MAX_SOCKET_PATH, load_settings
from workers import broker, live
from workers.children import MAX_DELAY_S, Child, restart_delay_s
from workers.consumer import QuietCheck
from workers.firststart import announce, check_media, choose_port, lock_home
from workers.process import EXIT_CLOCK, EXIT_FAILED, EXIT_OK, worker_id
from workers.supervisor import start


def test_restarts_back_off_up_to_a_cap() -> None:
    delays = [restart_delay_s(failures) for failures in range(1, 40)]
    assert delays[0] <= 0.2
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S


def test_a_child_that_cannot_be_started_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    now = time.monotonic()
    monkeypatch.setattr("workers.children.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("workers.children.subprocess.Popen", no_room)
    child = Child("media", lambda: [sys.executable])
    for failures in (1, 2):
        start(child)
        due = child.due_in_s()
        assert due is not None
        assert due == pytest.approx(restart_delay_s(failures))
    assert child.pid is None


class Supervising:
    """A `Supervision` of no streams, which stops the worker in its first turn."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def turn(self) -> None:
        self._stop.set()

    def report(self) -> None: ...

    def tick(self) -> None: ...


@pytest.mark.parametrize(
    ("off_s", "code"), [(0.0, EXIT_OK), (-60.0, EXIT_CLOCK), (9.0, EXIT_CLOCK)]
)
def test_a_live_worker_begins_anew_where_the_clock_was_set(off_s: float, code: int) -> None:
    stop = threading.Event()
    none = cast(Supervision, Supervising(stop))
    assert live.watch(none, stop, (), lambda: time.time() + off_s) == code


def test_a_worker_id_is_never_used_twice() -> None:
    assert len({worker_id("infer") for _ in range(100)}) == 100
    assert worker_id("infer").startswith("infer-")
    assert f"-{os.getpid()}-" in worker_id("infer")


def test_a_consumer_that_takes_nothing_is_found_out() -> None:
    check = QuietCheck(limit_s=10)
    assert not check.look(waiting=3, busy=0, taken=5, now=0)
    assert not check.look(waiting=3, busy=0, taken=5, now=1)
    assert not check.look(waiting=3, busy=0, taken=5, now=10.9)
    assert check.look(waiting=3, busy=0, taken=5, now=11)


@pytest.mark.parametrize(
    "between",
    [
        {"waiting": 0, "busy": 0, "taken": 5},  # nothing to do, or no broker
        {"waiting": 3, "busy": 1, "taken": 5},  # at work
        {"waiting": 3, "busy": 0, "taken": 6},  # took one meanwhile
    ],
)
def test_a_consumer_with_a_sign_of_life_is_left_alone(between: dict[str, int]) -> None:
    check = QuietCheck(limit_s=10)
    check.look(waiting=3, busy=0, taken=5, now=0)
    check.look(waiting=3, busy=0, taken=5, now=1)
    assert not check.look(**between, now=9)
    taken = between["taken"]
    assert not check.look(waiting=3, busy=0, taken=taken, now=12)
    assert not check.look(waiting=3, busy=0, taken=taken, now=21)
    assert check.look(waiting=3, busy=0, taken=taken, now=23)


def test_one_server_per_data_folder(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    with (
        lock_home(home),
        pytest.raises(ConfigError, match=f"pid {os.getpid()}"),
        lock_home(home),
    ):
        pytest.fail("locked twice")
    with lock_home(home):
        assert home.stat().st_mode & 0o777 == 0o700


def test_a_media_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    check_media(load_settings(home=tmp_path))
    (tmp_path / "file").touch()
    url = (tmp_path / "file" / "media").as_uri()
    with pytest.raises(ConfigError, match=f"{url}.*Not a directory"):
        check_media(load_settings(home=tmp_path, blob_url=url))


VITAL = """
import threading
from workers.process import vital
vital("sweeper", lambda: 1 // 0).start()
threading.Event().wait(60)
"""


def test_a_thread_that_fails_takes_its_process_along() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", VITAL], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == EXIT_FAILED
    assert "sweeper failed" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* in use"):
            choose_port("127.0.0.1", port)
    assert choose_port("127.0.0.1", port) == port
    assert choose_port("127.0.0.1", 0) > 0


def test_a_long_home_gets_a_short_socket_that_every_process_finds(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    first, second = load_settings(home=home), load_settings(home=home)
    assert first.broker_socket == second.broker_socket
    assert len(os.fsencode(first.broker_socket)) <= MAX_SOCKET_PATH
    other = load_settings(home=tmp_path / ("long" * 31))
    assert other.broker_socket != first.broker_socket


def test_the_socket_s_folder_is_private_and_a_stale_socket_goes(tmp_path: Path) -> None:
    path = tmp_path / "run" / "broker.sock"
    broker.prepare_socket(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    broker.prepare_socket(path)
    assert not path.exists()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="another user"):
        broker.prepare_socket(tmp_path / "run" / "broker.sock")


def test_the_broker_keeps_nothing_and_listens_on_its_socket_alone(tmp_path: Path) -> None:
    words = broker.command(load_settings(home=tmp_path))
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert os.access(words[0], os.X_OK)
    assert options["--port"] == "0"
    assert options["--save"] == ""
    assert options["--appendonly"] == "no"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--unixsocket"] == str(tmp_path / "run" / "broker.sock")


@pytest.mark.parametrize("people", [False, True])
def test_serve_says_where_the_console_is_and_how_to_get_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], people: bool
) -> None:
    announce(load_settings(home=tmp_path, host="::1"), 8000, None, people=people)
    said = capsys.readouterr().out.splitlines()
    assert "The console is at http://[::1]:8000/console" in said
    assert any("moderation users create" in line for line in said) is not people
