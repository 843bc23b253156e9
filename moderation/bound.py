"""Run a program under limits that dies with its parent: `command(…)` makes the argv.

    python bound.py PARENT_PID LIMITS PROGRAM ARG…

LIMITS is `name=value,…` with the names of `resource.RLIMIT_…` in lower case, or `-`. The kernel
sends the death signal (PR_SET_PDEATHSIG, which outlives exec), so nothing is left behind even when
the parent is killed with SIGKILL. Limits are set before the program starts, and not in a function
between fork and exec, which is not safe in a process with threads. Standard library alone: it
starts in a few milliseconds. On systems without the death signal the program runs unbound.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1


def command(program: Sequence[str], limits: Mapping[str, int] | None = None) -> list[str]:
    """The argv that runs `program` bound to this process.

    limits: hard limits by name: `as` (bytes of address space), `cpu` (seconds), `fsize` (bytes
    written to a file), `core` (bytes), `nofile`.
    """
    told = ",".join(f"{name}={value}" for name, value in (limits or {}).items()) or "-"
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), told, *program]


def main(argv: list[str]) -> None:
    """Replace this process by the program; never returns."""
    parent, limits, program = int(argv[0]), argv[1], argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it died before the call
            os._exit(1)
    for limit in limits.split(",") if limits != "-" else ():
        name, _, value = limit.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (int(value), int(value)))
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
