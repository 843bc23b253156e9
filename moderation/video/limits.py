"""What videos are read at all: shared by the parent and the children that it starts."""

from __future__ import annotations

FORMATS = (
    "mov", "mp4", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg", "ogg", "mxf",
    "3gp", "m4v", "mpegvideo", "h264", "hevc", "ivf", "gif", "apng", "webp_pipe", "rm", "nut",
    "obu", "vc1", "dv", "wtv", "m4a", "mjpeg", "yuv4mpegpipe",
)  # fmt: skip
"""Containers that hold their own pictures. Playlists (hls, dash, concat, sdp) name other files
and addresses, so they are not on the list."""

MAX_FRAMES = 4_000_000
"""Nine hours at 120 frames a second."""
