"""Content that a file hides from who looks at its first track: other files, tracks and frames."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import SOUND, write
from test_hostile_videos import DARK, RED, X264, Examine, code, examine, films, made, moderator

from moderation.types import Decision, Status
from tests.fakes import hostile

__all__ = ["examine", "films", "moderator"]

PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nfile://{0}\n#EXT-X-ENDLIST\n",
    "hls.m3u8": "#EXTM3U\n#EXTINF:8,\nred.mp4\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{0}'\n",
    "concat.txt": "ffconcat version 1.0\nfile red.mp4\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'mediaPresentationDuration="PT8S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>file://{0}</BaseURL><SegmentBase/>'
    "</Representation></AdaptationSet></Period></MPD>",
    "list.mp4": "[playlist]\nFile1={0}\nNumberOfEntries=1\n",
    "asx.wmv": '<asx version="3.0"><entry><ref href="{0}"/></entry></asx>',
    "late.mp4": "\n \n#EXTM3U\n#EXTINF:8,\n{0}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_playlists_open_nothing(films: Path, examine: Examine, name: str) -> None:
    path = films / name
    path.write_text(PLAYLISTS[name].replace("{0}", str(films / "red.mp4")))
    verdict = examine(path)
    assert (verdict.status, verdict.decision) == (Status.FAILED, Decision.REVIEW)
    assert verdict.scores == {}


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x14ftypmp42\0\0\0\0mp42", b"\x1aE\xdf\xa3", b"FLV\1\5\0\0\0\x09", b"G" * 377]
)
def test_a_playlist_behind_the_head_of_a_film_opens_nothing(
    films: Path, tmp_path: Path, examine: Examine, head: bytes
) -> None:
    text = PLAYLISTS["hls.mp4"].replace("{0}", str(films / "red.mp4")).encode()
    verdict = examine(made(tmp_path / "dressed.mp4", head + b"\n" + text))
    assert (verdict.status, verdict.scores) == (Status.FAILED, {})


def test_pictures_that_lie_in_another_file(films: Path, examine: Examine) -> None:
    """By the film's own offsets, the other file's frames are exactly where it says."""
    data = (films / "red.mp4").read_bytes()
    kind, _, end = next(box for box in hostile.boxes(data) if box[0] == b"mdat")
    assert kind == b"mdat"
    start = data.index(b"mdat") + 4
    blank = data[:start] + b"\0" * (end - start) + data[end:]
    refers = hostile.refer_to(blank, films / "red.mp4")
    verdict = examine(made(films / "refers.mp4", refers))
    assert verdict.decision is Decision.REVIEW
    assert verdict.scores.get("porn.explicit", 0.0) < 0.5


@pytest.mark.parametrize("extension", ["mp4", "mkv", "m4v", "mov"])
def test_a_cover_before_the_film(
    films: Path, tmp_path: Path, examine: Examine, extension: str
) -> None:
    cover = write(tmp_path / "cover.png", "-f", "lavfi", "-i", DARK, "-frames:v", "1")
    path = write(
        tmp_path / f"film.{extension}", "-i", str(cover), "-i", str(films / "red.mp4"),
        "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic",
    )  # fmt: skip
    assert examine(path).decision is Decision.BLOCK


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "avi", "nut"])
@pytest.mark.parametrize("disposition", ["0", "default"])
def test_a_second_film_in_the_file_is_no_pass(
    films: Path, tmp_path: Path, examine: Examine, extension: str, disposition: str
) -> None:
    """A player shows the one that the viewer, or the file, chooses."""
    path = write(
        tmp_path / f"two.{extension}", "-i", str(films / "dark.mp4"), "-i", str(films / "red.mp4"),
        "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "0",
        "-disposition:v:1", disposition,
    )  # fmt: skip
    assert examine(path).decision is not Decision.PASS


def test_many_tracks_end_in_time(films: Path, tmp_path: Path, examine: Examine) -> None:
    maps = ("-map", "0:v") * 60 + ("-map", "1:a") * 60
    words = ("-i", str(films / "red.mp4"), *SOUND, *maps, "-c:v", "copy", "-c:a", "aac", "-t", "1")
    assert examine(write(tmp_path / "many.mkv", *words)).decision is not Decision.PASS


@pytest.mark.parametrize("extension", ["mkv", "mp4", "avi"])
def test_frames_that_share_one_time(tmp_path: Path, examine: Examine, extension: str) -> None:
    """0 frames/s: a player that minds no times shows them all."""
    source = f"{DARK},select='lt(n,1)'[a];{RED}[b];[a][b]concat=n=2,setpts=0"
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "1")
    path = write(
        tmp_path / f"still.{extension}", "-f", "lavfi", "-i", source, *codec,
        "-fps_mode", "passthrough", "-enc_time_base", "1:25",
    )  # fmt: skip
    assert examine(path).decision is not Decision.PASS


def test_frames_hours_apart(tmp_path: Path, examine: Examine) -> None:
    source = f"{DARK},select='lt(n,4)',setpts=N*3600/TB"
    words = ("-f", "lavfi", "-i", source, *X264, "-fps_mode", "passthrough")
    verdict = examine(write(tmp_path / "slow.mkv", *words))
    assert code(verdict) in (None, "too_long")


@pytest.mark.parametrize("extension", ["ts", "mpg"])
def test_a_film_that_changes_its_size_and_codec(
    films: Path, tmp_path: Path, examine: Examine, extension: str
) -> None:
    """Two streams one behind the other, as capture cards write them; the second is red."""
    red = ("-i", str(films / "red.mp4"), "-vf", "scale=96:200", "-output_ts_offset", "8")
    codec = X264 if extension == "ts" else ("-c:v", "mpeg2video", "-q:v", "4")
    second = write(tmp_path / f"second.{extension}", *red, *codec)
    data = (films / f"dark.{extension}").read_bytes() + second.read_bytes()
    assert examine(made(tmp_path / f"both.{extension}", data)).decision is Decision.BLOCK


def test_jpeg_pictures_in_a_row(tmp_path: Path, examine: Examine) -> None:
    """A raw Motion JPEG stream begins as any JPEG file does."""
    source = f"{DARK},select='lt(n,1)'[a];{RED}[b];[a][b]concat=n=2"
    words = ("-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    assert examine(write(tmp_path / "film.mjpeg", *words)).decision is not Decision.PASS
