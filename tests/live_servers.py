"""Real servers of live streams for tests, of Debian's packages.

nginx with its RTMP module takes publishers and players by RTMP, and gives the same streams as HLS;
GStreamer's RTSP server plays a film. A program that is not installed raises `Missing` with its
name.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from moderation.video.ffmpeg import program
from tests.servers import START_S, Missing, die_with_parent, free_port, wait_for

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
SYSTEM_PYTHON = ("/usr/bin/python3", "-I")
"""Debian's bindings of GStreamer are for Debian's Python."""
GST = (
    "import gi; gi.require_version('GstRtspServer', '1.0');"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    "assert Gst.ElementFactory.find('rtph264pay') and Gst.ElementFactory.find('qtdemux')"
)
GST_SERVER = Path(__file__).parent / "fakes" / "gst_rtsp.py"
CONFIG = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 256; }}
rtmp {{
  server {{
    listen 127.0.0.1:{rtmp};
    ping 5s;
    application live {{
      live on;
      wait_key on;
      hls on;
      hls_path {folder}/hls;
      hls_fragment 1s;
      hls_playlist_length 8s;
    }}
  }}
}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{http};
    location /hls {{
      root {folder};
      types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
    }}
  }}
}}
"""


class LiveServer:
    """Streams are published to `rtmp(name)`, and played from it or from `hls(name)`.

    Can be killed and started again, on the same ports.
    """

    def __init__(self, folder: Path) -> None:
        self.rtmp_port, self.http_port = free_port(), free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "hls").mkdir()
        (folder / "nginx.conf").write_text(
            CONFIG.format(module=MODULE, folder=folder, rtmp=self.rtmp_port, http=self.http_port)
        )

    def rtmp(self, name: str, host: str = "127.0.0.1") -> str:
        return f"rtmp://{host}:{self.rtmp_port}/live/{name}"

    def hls(self, name: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.http_port}/hls/{name}.m3u8"

    def segments(self, name: str) -> int:
        """How many segments of a stream are there for HLS."""
        return len(list((self._folder / "hls").glob(f"{name}-*.ts")))

    def start(self) -> None:
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        with (self._folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [nginx, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
            )
        wait_for(self._answers, "nginx answers")

    def stop(self) -> None:
        """Kills it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_S)
            self._process = None

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self._folder / "out").read_text("utf-8", "replace"))
        try:
            for port in (self.rtmp_port, self.http_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True


@contextlib.contextmanager
def live_server() -> Iterator[LiveServer]:
    """A running nginx with RTMP and HLS on free loopback ports."""
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        raise Missing("nginx is not installed")
    if not MODULE.exists():
        raise Missing("nginx has no RTMP module (libnginx-mod-rtmp)")
    with tempfile.TemporaryDirectory(prefix="nginx") as folder:
        server = LiveServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def rtsp_server(film: Path) -> Iterator[str]:
    """GStreamer's RTSP server on a free loopback port; the URL at which it plays an MP4 of H.264
    without sound, from its beginning when the first client comes."""
    if subprocess.run([*SYSTEM_PYTHON, "-c", GST], capture_output=True, check=False).returncode:
        raise Missing("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)")
    port = free_port()
    with subprocess.Popen(
        [*SYSTEM_PYTHON, str(GST_SERVER), str(film), str(port)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent,
    ) as process:
        try:
            wait_for(lambda: _listens(process, port), "the RTSP server answers")
            yield f"rtsp://127.0.0.1:{port}/film"
        finally:
            process.kill()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        assert process.stderr is not None
        raise RuntimeError(process.stderr.read().decode(errors="replace"))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def publishing(
    file: Path, to: str, container: str = "flv", options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg sends a file again and again, at its own speed, as if live; it is killed at the end.

    to: where, in ffmpeg's words; what listens there has to be up. options: of ffmpeg's output.
    """
    words = ("-stream_loop", "-1", "-re", "-i", str(file), "-c", "copy", "-f", container)
    with subprocess.Popen(
        [program(), "-nostdin", "-v", "error", *words, *options, to],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
