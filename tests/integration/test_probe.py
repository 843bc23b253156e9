"""Probing videos of many containers, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import PICTURE, SOUND, write

from moderation.errors import MediaError
from moderation.video.probe import ProbeLimits, VideoInfo
from moderation.video.probe import probe as probed

LIMITS = ProbeLimits()
CONTAINERS = {
    "mp4": "h264",
    "mov": "h264",
    "mkv": "h264",
    "webm": "vp9",
    "avi": "mpeg4",
    "flv": "flv",
    "ts": "mpeg2video",
    "mpg": "mpeg1video",
    "wmv": "msmpeg4",
    "ogv": "theora",
    "gif": "gif",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, 320x240, 25 frames/s, H.264 and AAC."""
    return write(tmp_path_factory.mktemp("film") / "film.mp4", *PICTURE, *SOUND)


def probe(path: Path, limits: ProbeLimits) -> VideoInfo:
    return probed(path, limits).info


def refused(path: Path, limits: ProbeLimits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path, limits)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(("container", "codec"), sorted(CONTAINERS.items()))
def test_containers(film: Path, tmp_path: Path, container: str, codec: str) -> None:
    info = probe(write(tmp_path / f"x.{container}", "-i", str(film), "-an"), LIMITS)
    assert (info.codec, info.width, info.height, info.rotation) == (codec, 320, 240, 0)
    assert info.duration_s == pytest.approx(2.0, abs=0.1)
    assert info.audio == ()


def test_sound_is_told(film: Path) -> None:
    info = probe(film, LIMITS)
    assert info.audio == ("aac",)
    assert info.frames == 50
    assert info.size_bytes == film.stat().st_size


def test_every_frame_is_told_with_the_key_frames(film: Path) -> None:
    index = probed(film, LIMITS).index
    assert index.times.tolist() == pytest.approx([i / 25 for i in range(50)])
    assert index.end_s == pytest.approx(2.0)
    assert index.keyframes == (0.0,)
    assert (index.shown_at(1.0399), index.shown_at(1.0401)) == pytest.approx((1.0, 1.04))


def test_a_video_that_does_not_say_how_long_it_is(film: Path, tmp_path: Path) -> None:
    live = write(tmp_path / "l.webm", "-i", str(film), "-an", "-live", "1")
    info = probe(live, LIMITS)
    assert (info.held_s, info.duration_s) == pytest.approx((2.0, 2.0), abs=0.05)


def test_a_file_cut_off_says_how_long_it_was(film: Path, tmp_path: Path) -> None:
    whole = write(tmp_path / "w.mkv", "-i", str(film), "-c:v", "libx264", "-g", "5")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    info = probe(cut, LIMITS)
    assert info.held_s < 1.0
    assert info.duration_s == pytest.approx(2.0, abs=0.1)


def test_pixels_that_are_not_square(film: Path, tmp_path: Path) -> None:
    wide = write(tmp_path / "wide.mp4", "-i", str(film), "-vf", "setsar=2")
    assert (probe(wide, LIMITS).width, probe(wide, LIMITS).height) == (640, 240)


def test_sizes_are_as_shown(film: Path, tmp_path: Path) -> None:
    turned = write(tmp_path / "t.mp4", "-display_rotation", "90", "-i", str(film), "-c", "copy")
    info = probe(turned, LIMITS)
    assert (info.width, info.height, info.rotation) == (240, 320, 90)


def test_the_name_says_nothing(film: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "photo.jpg"
    renamed.write_bytes(film.read_bytes())
    assert probe(renamed, LIMITS).codec == "h264"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    assert refused(write(tmp_path / "song.m4a", *SOUND)) == "no_video"


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    cover = write(tmp_path / "c.png", *PICTURE, "-frames:v", "1")
    words = ("-map", "0", "-map", "1", "-c:a", "aac", "-c:v", "copy")
    disposition = ("-disposition:v:0", "attached_pic")
    song = write(tmp_path / "song.m4a", *SOUND, "-i", str(cover), *words, *disposition)
    assert refused(song) == "no_video"


def test_an_encrypted_video_is_named_so(film: Path, tmp_path: Path) -> None:
    keys = ("-encryption_key", "0" * 31 + "1", "-encryption_kid", "0" * 31 + "2")
    scheme = ("-encryption_scheme", "cenc-aes-ctr")
    locked = write(tmp_path / "l.mp4", "-i", str(film), "-an", "-c", "copy", *scheme, *keys)
    assert refused(locked) == "encrypted"


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:2,\nfilm.mp4\n", "ffconcat version 1.0\nfile film.mp4\n"]
)
def test_a_playlist_dressed_as_a_video_reads_nothing(film: Path, text: str) -> None:
    dressed = film.with_name("playlist.mp4")
    dressed.write_text(text)
    assert refused(dressed) == "corrupt"


def test_an_empty_file_and_one_of_nonsense(tmp_path: Path) -> None:
    empty, nonsense = tmp_path / "e.mp4", tmp_path / "n.mp4"
    empty.touch()
    nonsense.write_bytes(b"nonsense " * 1000)
    assert refused(empty) == "empty_file"
    assert refused(nonsense) == "corrupt"


def test_limits_of_size_and_time(film: Path) -> None:
    assert refused(film, ProbeLimits(max_pixels=320 * 240 - 1)) == "too_many_pixels"
    assert refused(film, ProbeLimits(max_duration_s=1.0)) == "too_long"
    assert refused(film, ProbeLimits(timeout_s=0.01)) == "decode_timeout"


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_ends_in_facts_or_one_clear_error(
    film: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(film.read_bytes())
    length = data.draw(st.integers(1, len(whole)))
    for position in data.draw(st.lists(st.integers(0, length - 1), max_size=20)):
        whole[position] ^= 1 << data.draw(st.integers(0, 7))
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(whole[:length])
    try:
        info: VideoInfo | MediaError = probe(damaged, LIMITS)
    except MediaError as error:
        info = error
    if isinstance(info, MediaError):
        assert "\n" not in str(info)
    else:
        assert info.width >= 1
