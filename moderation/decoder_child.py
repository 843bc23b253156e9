"""The process that parses hostile picture bytes: `python -m moderation.decoder_child FD`.

FD is a unix stream socket to the parent (see decoder_wire.py), standard input a pipe that
ends when the parent does. The child starts nothing, keeps nothing between pictures, writes no
file, and has limits on memory, CPU time and open files. Linux and macOS.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import resource
import signal
import socket
import sys
import warnings
from typing import Any

import cv2
import pi_heif
from PIL import AvifImagePlugin, Image

from moderation.decoder_wire import receive, send, to_plan, to_reply
from moderation.errors import MediaError
from moderation.images import decode_image

OPEN_FILES = 64


def _die_with_the_parent() -> None:
    """Let the kernel end us when the parent's end of standard input closes.

    SIGIO's default action is to terminate: it works in the middle of a decoder's C code, and
    whichever thread of the parent started us (PR_SET_PDEATHSIG would follow that thread).
    """
    stdin = sys.stdin.fileno()
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(stdin, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(stdin, fcntl.F_SETFL, fcntl.fcntl(stdin, fcntl.F_GETFL) | os.O_ASYNC)


def _limit(memory_mib: int) -> None:
    """Limit memory to what is mapped now plus `memory_mib`, and forbid files and cores."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        limit = mapped + memory_mib * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_cpu(seconds: float) -> None:
    """Allow so much CPU time from now on; SIGXCPU ends the process beyond it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _one_thread() -> None:
    cv2.setNumThreads(1)
    pi_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None  # the plan has the limit, checked from the header


def _answer(request: dict[str, Any], source: int, target: int) -> dict[str, Any]:
    plan = to_plan(request)
    try:
        data = b""
        if (size := os.fstat(source).st_size) > 0:
            with mmap.mmap(source, size, prot=mmap.PROT_READ) as mapped:
                data = mapped[:]
        return to_reply(decode_image(data, plan), target)
    except MediaError as error:
        return {"error": error.message, "code": error.code}
    except MemoryError:
        return {"error": "the picture needs more memory than allowed", "code": "decode_memory"}


def main(argv: list[str]) -> int:
    """Serve requests until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with_the_parent()
    sock = socket.socket(fileno=int(argv[1]))
    hello, _ = receive(sock)
    warnings.simplefilter("ignore")
    _one_thread()
    _limit(hello["memory_mib"])
    # Codecs write their complaints about hostile bytes to standard error: nobody reads them.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    send(sock, {"ready": True})
    while True:
        try:
            request, fds = receive(sock)
        except (EOFError, ConnectionError):
            return 0
        try:
            _limit_cpu(request["timeout_s"])
            reply = _answer(request, *fds)
        finally:
            for fd in fds:
                os.close(fd)
        try:
            send(sock, reply)
        except (BrokenPipeError, ConnectionError):
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
