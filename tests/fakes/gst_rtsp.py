"""GStreamer's RTSP server with one film, as if live. For the system's Python, which has `gi`:

/usr/bin/python3 gst_rtsp.py FILM.mp4 PORT    serves rtsp://127.0.0.1:PORT/film (H.264, no sound)
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - its versions are asked for first


def main(film: str, port: str) -> None:
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory.new()
    # Parameter sets with every key frame: a client may come at any time.
    factory.set_launch(
        f'( filesrc location="{film}" ! qtdemux ! rtph264pay name=pay0 pt=96 config-interval=0 )'
    )
    # One film for all clients, whenever they come: a live source has one clock.
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/film", factory)
    if not server.attach(None):
        sys.exit(f"port {port} cannot be listened on")
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
