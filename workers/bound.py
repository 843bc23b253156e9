"""Run a program that dies with its parent: `python bound.py PARENT_PID PROGRAM ARG…`.

The kernel sends the death signal (PR_SET_PDEATHSIG, which outlives exec), so nothing is left
behind even when the parent is killed with SIGKILL. Standard library alone: it starts in a few
milliseconds. On systems without that call the program runs unbound.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Replace this process by the program; never returns."""
    parent, program = int(argv[0]), argv[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it died before the call
            os._exit(1)
    os.execvp(program[0], program)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
