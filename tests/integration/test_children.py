"""A child never outlives its supervisor, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from served import alive, descendants, until

from workers.children import Child

PARENT = """
import sys
from workers.children import Child
child = Child("sleeper", lambda: ["sleep", "600"])
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_children_die_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not alive(child), 30, "the child died")


def test_a_child_that_ends_is_reported_once_and_starts_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes: list[int] = []
    child = Child("short", lambda: [sys.executable, "-c", "raise SystemExit(3)"], died=codes.append)
    child.start()
    now = time.monotonic()
    monkeypatch.setattr("workers.children.time", SimpleNamespace(monotonic=lambda: now))
    until(lambda: child.reap() == 3, 30, "it ended")
    assert child.reap() is None
    assert codes == [3]
    due_s = child.due_in_s()
    assert due_s is not None
    assert due_s == pytest.approx(0.2)
    now += due_s + 0.001
    assert child.due_in_s() == 0.0, "it may start again"


def test_a_child_that_ignores_sigterm_is_killed_with_all_it_started() -> None:
    script = "trap '' TERM; sleep 600 & echo $! > /dev/null; wait; wait"
    child = Child("stubborn", lambda: ["sh", "-c", script])
    child.start()
    pid = child.pid
    assert pid is not None
    until(lambda: bool(descendants(pid)), 30, "its own child runs")
    grandchildren = descendants(pid)
    child.terminate()
    assert child.wait(deadline=0.0) is None
    until(lambda: not any(map(alive, {pid, *grandchildren})), 30, "all are gone")
