"""What a program costs together with all that it starts: wall, CPU, peak memory. Linux."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the clock and of all processors; peak_mib: the largest sum of the proportional
    set sizes of all processes at one moment, sampled every 0.1 s."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    output: bytes


def measure(argv: Sequence[str], *, env: dict[str, str] | None = None, timeout_s: float) -> Cost:
    """Run a program to its end. Raises CalledProcessError for an exit code above 1."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_S):
            peak = max(peak, sum(_pss_kib(pid) for pid in _tree(process.pid)))

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
    return Cost(wall_s, cpu_s, peak / 1024, output)


def _tree(pid: int) -> set[int]:
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = task.read_text().split()
        except OSError:
            continue  # it has just ended
        for child in below:
            found |= _tree(int(child))
    return found


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
