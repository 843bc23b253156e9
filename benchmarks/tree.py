"""What a program costs together with all that it starts: wall, CPU, peak memory. Linux."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock and of all processors; the largest sums over all processes at one
    moment, sampled every 0.1 s: pss_mib, where memory that several share counts once (too small
    while programs outside share it too), rss_mib, where it counts each time."""

    wall_s: float
    cpu_s: float
    pss_mib: float
    rss_mib: float
    output: bytes


def measure(argv: Sequence[str], *, env: dict[str, str] | None = None, timeout_s: float) -> Cost:
    """Run a program to its end. Raises CalledProcessError for an exit code above 1."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
    peak = {"Pss:": 0, "Rss:": 0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            sizes = [_kib(pid) for pid in tree(process.pid)]
            for name in peak:
                peak[name] = max(peak[name], sum(size.get(name, 0) for size in sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output, _ = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
        ended.set()
        watcher.join()
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if process.returncode not in (0, 1):
        raise subprocess.CalledProcessError(process.returncode, list(argv))
    return Cost(wall_s, cpu_s, peak["Pss:"] / 1024, peak["Rss:"] / 1024, output)


def tree(pid: int) -> set[int]:
    """A process and all below it."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = task.read_text().split()
        except OSError:
            continue  # it has just ended
        for child in below:
            # Until it runs its own program, a child is its parent's memory seen twice.
            if _program(int(child)) != _program(pid):
                found |= tree(int(child))
    return found


def memory_mib(pids: Iterable[int]) -> float:
    """PSS of them all at this moment."""
    return sum(_kib(pid).get("Pss:", 0) for pid in pids) / 1024


def _program(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has just ended


def _kib(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}  # it has just ended
    words = [line.split() for line in lines[1:]]
    return {word[0]: int(word[1]) for word in words}
