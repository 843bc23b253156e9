"""An RTSP server that plays recorded RTP packets, over TCP or UDP, to one client after another."""

from __future__ import annotations

import base64
import contextlib
import re
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moderation.video.ffmpeg import program


@dataclass(frozen=True)
class Recording:
    """What ffmpeg sends of a file: its description and its RTP packets."""

    sdp: str
    packets: tuple[bytes, ...]


def record(path: Path) -> Recording:
    """The first video track of a file as RTP."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp,
        subprocess.Popen(
            [
                *(program(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0"),
                *("-c", "copy", "-f", "rtp", f"rtp://127.0.0.1:{_bound(rtp)}?pkt_size=1200"),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        ) as sender,
    ):
        packets: list[bytes] = []
        while True:
            ended = sender.poll() is not None  # before the look: what it sent is there then
            if select.select([rtp], [], [], 0 if ended else 0.1)[0]:
                packets.append(rtp.recv(2048))
            elif ended:
                break
        assert sender.stdout is not None
        told = sender.stdout.read().decode().partition("SDP:\n")[2]
    sdp = re.sub(r"(?m)^m=video \d+", "m=video 0", told.strip())
    return Recording(sdp.replace("\n", "\r\n") + "\r\na=control:track\r\n", tuple(packets))


def _bound(rtp: socket.socket) -> int:
    rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    rtp.bind(("127.0.0.1", 0))
    return int(rtp.getsockname()[1])


@dataclass
class Rtsp:
    """asked: the first line of every request."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def rtsp(recording: Recording, login: str | None = None) -> Iterator[Rtsp]:
    """A server on a free loopback port. login: `user:password` that it wants, by Basic."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Rtsp(listener.getsockname()[1])

        def accept() -> None:
            while not over.is_set():
                peer, _ = listener.accept()
                with peer, contextlib.suppress(OSError):
                    if not over.is_set():
                        peer.settimeout(10)
                        _serve(peer, recording, login, made.asked)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield made
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", made.port), timeout=5).close()
            thread.join()


def _serve(peer: socket.socket, recording: Recording, login: str | None, asked: list[str]) -> None:
    wanted = "" if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"
    buffer = b""
    ports: tuple[int, int] | None = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        rtp.bind(("127.0.0.1", 0))
        while data := peer.recv(65536):
            buffer += data
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                asked.append(lines[0])
                headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
                method, status, more, body = lines[0].split()[0], "200 OK", "", ""
                if wanted and headers.get("Authorization") != wanted and method != "OPTIONS":
                    status, more = "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n'
                elif method == "DESCRIBE":
                    body = recording.sdp
                    more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    way = headers["Transport"]
                    if found := re.search(r"client_port=(\d+)-(\d+)", way):
                        ports = (int(found[1]), int(found[2]))
                        here = rtp.getsockname()[1]
                        way += f";server_port={here}-{here + 1}"
                    more = f"Transport: {way}\r\nSession: 1\r\n"
                elif method == "PLAY":
                    more = "Session: 1\r\nRange: npt=0-\r\n"
                peer.sendall(
                    f"RTSP/1.0 {status}\r\nCSeq: {headers['CSeq']}\r\n{more}\r\n{body}".encode()
                )
                if method == "PLAY" and status == "200 OK":
                    for packet in recording.packets:
                        if ports is None:
                            peer.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                        else:
                            rtp.sendto(packet, ("127.0.0.1", ports[0]))
                    if ports is None:
                        return  # the stream's end is the connection's
