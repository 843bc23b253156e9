"""Whether an ffmpeg may be given RTSP sources: older ones follow a redirect to any address.

ffmpeg 9.0 holds a redirect against its whitelist of protocols, 7.0 does not, and which version
began to is not said. So it is tried out, against two ports of our own.
"""

from __future__ import annotations

import functools
import select
import socket

from moderation.errors import ConfigError, ServiceError
from moderation.live.source import SourcePlan
from moderation.video.ffmpeg import MediaProcess

TRY_S = 10.0
_MEMORY_MIB = 2048
_ASKED = 4096


def check(plan: SourcePlan, program: str) -> None:
    """Raise ConfigError where this ffmpeg could leave the address that was checked.

    program: ffmpeg's path; it is tried out once, in less than a second.
    """
    if plan.kind == "rtsp" and follows_redirects(program):
        raise ConfigError(
            "this ffmpeg follows redirects of RTSP to any address: use that of the imageio-ffmpeg"
            " package (leave MODERATION_FFMPEG unset), or a newer one"
        )


@functools.cache
def follows_redirects(program: str) -> bool:
    """Whether this ffmpeg, told as a `SourcePlan` tells it, goes where an RTSP server sends it.

    Raises ServiceError where that cannot be found out, and MediaError decode_timeout.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        words = [
            *(program, "-nostdin", "-v", "error", "-protocol_whitelist", "tcp"),
            *("-rtsp_transport", "tcp", "-timeout", "1000000"),
            *("-i", f"rtsp://127.0.0.1:{first.getsockname()[1]}/x", "-f", "null", "-"),
        ]
        with MediaProcess(words, timeout_s=TRY_S, memory_mib=_MEMORY_MIB) as process:
            first.settimeout(TRY_S)
            try:
                peer, _ = first.accept()
                with peer:
                    peer.settimeout(TRY_S)
                    peer.recv(_ASKED)
                    there = f"rtsp://127.0.0.1:{second.getsockname()[1]}/x"
                    peer.sendall(
                        f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {there}\r\n\r\n".encode()
                    )
                    process.read_all(_ASKED)
                    process.finish()
            except OSError as error:
                raise ServiceError(f"ffmpeg does not read RTSP: {process.tail[-200:]}") from error
        waiting = select.poll()  # `select` knows no file above 1023
        waiting.register(second, select.POLLIN)
        return bool(waiting.poll(0))
