"""Broken, lying and dressed-up films: each ends in a clear state, in time, and leaves nothing.

The film is dark, which passes; red is what is looked for. What was not seen is never a pass.
"""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import BoundedSemaphore

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import PICTURE, SOUND, write

from moderation.analyse import Analyser
from moderation.analyse_video import VideoAnalyser
from moderation.decoders import DecoderPool
from moderation.models.runner import load_scorer
from moderation.policy import choose_policy, load_policies
from moderation.scan import Moderator, Source
from moderation.settings import load_settings
from moderation.types import Decision, Status, Verdict
from tests.fakes import hostile

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")

LENGTH_S = 8
LIMIT_S = 90.0
"""For the shared and busy machines of a test run; a film of this size takes about a second."""
DARK = f"testsrc2=size=160x120:rate=25:duration={LENGTH_S},lutyuv=y=16+val*0.06:u=128:v=128"
RED = f"color=red:size=160x120:rate=25:duration={LENGTH_S}"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p")
CONTAINERS = {
    "mp4": X264,
    "mkv": X264,
    "ts": X264,
    "flv": X264,
    "avi": ("-c:v", "mpeg4", "-q:v", "4"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", "25"),
    "mpg": ("-c:v", "mpeg2video", "-q:v", "4"),
    "wmv": ("-c:v", "wmv2", "-q:v", "4"),
    "ogv": ("-c:v", "libtheora", "-q:v", "7"),
    "gif": (),
}
Examine = Callable[[Path], Verdict]


@pytest.fixture(scope="module")
def moderator() -> Iterator[Moderator]:
    """As `moderation scan` makes it, with painted scores."""
    chosen = load_settings(backend="fake")
    scorer = load_scorer(chosen)
    with DecoderPool.from_settings(chosen) as pool:
        yield Moderator(
            analyser=Analyser(scorer, pool, chosen),
            videos=lambda seed: VideoAnalyser.from_settings(scorer, chosen, seed=seed),
            turns=BoundedSemaphore(1),
            policy=choose_policy(load_policies(chosen.policy_dir), chosen.default_policy),
            settings=chosen,
            models=scorer.models,
            device=scorer.device,
            patience=2,
        )
    scorer.close()


@pytest.fixture
def examine(moderator: Moderator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """The verdict of a file, in time, in a clear state, with nothing left behind."""
    scratch, home = tmp_path / "scratch", tmp_path / "home"
    scratch.mkdir()
    home.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    warm = tmp_path / "warm.png"
    write(warm, *PICTURE, "-frames:v", "1")
    moderator(Source("warm", warm))  # the decoder children, which stay

    def verdict_of(path: Path) -> Verdict:
        started = time.monotonic()
        with hostile.leaves_nothing(path, (scratch, home)):
            verdict = moderator(Source(path.name, path))
        assert time.monotonic() - started < LIMIT_S
        if verdict.status is Status.FAILED:
            assert verdict.error is not None
            assert verdict.error.code != "internal"
            assert "\n" not in (verdict.error.detail or "")
            assert verdict.decision is Decision.REVIEW
        else:
            assert verdict.status is Status.DONE
            assert verdict.coverage.complete or verdict.decision is not Decision.PASS
        return verdict

    return verdict_of


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark films in every container: dark.mp4 … and red.mp4, all of 8 s."""
    folder = tmp_path_factory.mktemp("films")
    for extension, words in CONTAINERS.items():
        write(folder / f"dark.{extension}", "-f", "lavfi", "-i", DARK, *words)
    write(folder / "red.mp4", "-f", "lavfi", "-i", RED, *X264)
    return folder


def code(verdict: Verdict) -> str | None:
    """Why it failed; None where it did not."""
    return None if verdict.error is None else verdict.error.code


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("extension", CONTAINERS)
def test_whole_films_pass(films: Path, examine: Examine, extension: str) -> None:
    verdict = examine(films / f"dark.{extension}")
    assert (code(verdict), verdict.decision) == (None, Decision.PASS)
    assert verdict.coverage.complete


def test_red_is_found(films: Path, examine: Examine) -> None:
    assert examine(films / "red.mp4").decision is Decision.BLOCK


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi", "flv", "webm"])
@pytest.mark.parametrize("part", [0.3, 0.6])
def test_cut_off_where_the_header_tells_the_length(
    films: Path, tmp_path: Path, examine: Examine, extension: str, part: float
) -> None:
    if extension == "mp4":
        whole = write(
            tmp_path / "first.mp4", "-i", str(films / "dark.mp4"), "-c", "copy",
            "-movflags", "faststart",
        )  # fmt: skip
    else:
        whole = films / f"dark.{extension}"
    data = whole.read_bytes()
    verdict = examine(made(tmp_path / f"cut.{extension}", data[: int(part * len(data))]))
    assert verdict.decision is not Decision.PASS


@pytest.mark.parametrize("extension", CONTAINERS)
def test_cut_off_anywhere(films: Path, tmp_path: Path, examine: Examine, extension: str) -> None:
    """Streams have no length to fall short of: what they hold is looked at."""
    data = (films / f"dark.{extension}").read_bytes()
    for length in (1, 3, 11, 100, len(data) // 10, len(data) // 2, len(data) - 1):
        examine(made(tmp_path / f"cut-{length}.{extension}", data[:length]))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bits(films: Path, tmp_path: Path, examine: Examine, data: st.DataObject) -> None:
    extension = data.draw(st.sampled_from(list(CONTAINERS)))
    whole = bytearray((films / f"dark.{extension}").read_bytes())
    reach = data.draw(st.sampled_from([512, 4096, len(whole)]))
    places = st.integers(0, min(reach, len(whole)) - 1)
    for position in data.draw(st.lists(places, min_size=1, max_size=12)):
        whole[position] ^= 1 << data.draw(st.integers(0, 7))
    examine(made(tmp_path / f"flipped.{extension}", bytes(whole)))


@pytest.mark.parametrize("seconds", [60.0, 36_000.0])
@pytest.mark.parametrize("extension", ["mkv", "avi", "flv"])
def test_a_film_that_claims_to_be_longer_than_it_is(
    films: Path, tmp_path: Path, examine: Examine, extension: str, seconds: float
) -> None:
    data = (films / f"dark.{extension}").read_bytes()
    lies = {
        "mkv": lambda: hostile.claim_matroska_duration(data, seconds * 1000),
        "avi": lambda: hostile.claim_avi_frames(data, int(seconds * 25)),
        "flv": lambda: hostile.claim_flv_duration(data, seconds),
    }
    lying = lies[extension]()
    assert len(lying) == len(data)
    assert lying != data
    verdict = examine(made(tmp_path / f"lying.{extension}", lying))
    assert verdict.decision is Decision.REVIEW
    if seconds > 21_600:
        assert code(verdict) == "too_long"
    else:
        assert verdict.coverage.unseen is not None
        assert verdict.coverage.unseen[-1][1] == pytest.approx(seconds, abs=1)


def test_the_frames_of_an_mp4_outweigh_its_headers(
    films: Path, tmp_path: Path, examine: Examine
) -> None:
    """Ten hours in every header; the table of frames says 8 s, and these are looked at."""
    lying = hostile.claim_duration((films / "dark.mp4").read_bytes(), 36_000)
    verdict = examine(made(tmp_path / "lying.mp4", lying))
    assert verdict.decision is Decision.PASS
    assert verdict.coverage.frames_total == 25 * LENGTH_S


def test_huge_sizes_that_are_claimed(films: Path, tmp_path: Path, examine: Examine) -> None:
    lying = hostile.claim_size((films / "dark.mp4").read_bytes(), 65535, 65535)
    verdict = examine(made(tmp_path / "large.mp4", lying))
    assert code(verdict) in ("too_many_pixels", None)
    head = b"YUV4MPEG2 W100000 H100000 F25:1\nFRAME\n"
    assert examine(made(tmp_path / "large.y4m", head + b"\0" * 9000)).status is Status.FAILED
    ivf = bytearray(
        b"DKIF\0\0\x20\0VP80\xff\xff\xff\xff" + b"\x19\0\0\0\1\0\0\0" + b"\1\0\0\0\0\0\0\0"
    )
    frame = b"\x10\x02\x00\x9d\x01\x2a\xff\x3f\xff\x3f" + b"\0" * 90
    ivf += len(frame).to_bytes(4, "little") + b"\0" * 8 + frame
    assert examine(made(tmp_path / "large.ivf", bytes(ivf))).status is Status.FAILED


def test_a_bomb_of_large_plain_frames(tmp_path: Path, examine: Examine) -> None:
    """Little in the file, 108 million pixels a frame: refused. 25 million: looked at."""
    plain = "color=0x101010:size={}:rate=1:duration=3"
    bomb = ("-f", "lavfi", "-i", plain.format("12000x9000"), "-c:v", "png", "-frames:v", "1")
    verdict = examine(write(tmp_path / "bomb.mkv", *bomb))
    assert code(verdict) == "too_many_pixels"
    large = ("-f", "lavfi", "-i", plain.format("5000x5000"), "-c:v", "png")
    verdict = examine(write(tmp_path / "large.mkv", *large))
    assert (code(verdict), verdict.decision) == (None, Decision.PASS)


def test_a_gif_bomb(tmp_path: Path, examine: Examine) -> None:
    screen = b"GIF89a\xff\xff\xff\xff\xf0\0\0" + b"\0\0\0\xff\xff\xff"
    image = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\2\2\x4c\1\0"
    verdict = examine(made(tmp_path / "bomb.gif", screen + image * 2000 + b"\x3b"))
    assert code(verdict) == "too_many_pixels"


def test_encrypted(films: Path, tmp_path: Path, examine: Examine) -> None:
    """What decodes from it by chance is not what it shows."""
    keys = ("-encryption_key", "0" * 31 + "1", "-encryption_kid", "0" * 31 + "2")
    locking = ("-an", "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *keys)
    for name in ("dark", "red"):
        locked = write(tmp_path / f"{name}.mp4", "-i", str(films / f"{name}.mp4"), *locking)
        verdict = examine(locked)
        assert verdict.decision is Decision.REVIEW
        assert code(verdict) == "encrypted"


def test_sound_alone(tmp_path: Path, examine: Examine) -> None:
    for extension in ("m4a", "mka", "ogg", "wma"):
        verdict = examine(write(tmp_path / f"song.{extension}", *SOUND))
        assert code(verdict) == "no_video"


def test_files_that_are_no_films(tmp_path: Path, examine: Examine) -> None:
    with zipfile.ZipFile(tmp_path / "archive.mp4", "w") as archive:
        archive.writestr("film.txt", "x" * 1000)
    assert code(examine(tmp_path / "archive.mp4")) == "unsupported_format"
    for name, data in {
        "page.mp4": b"<!doctype html><script>alert(1)</script>",
        "text.webm": b"ein Text\n" * 100,
        "nothing.avi": b"\0" * 10_000,
        "script.mov": b"#!/bin/sh\nrm -rf /\n",
    }.items():
        assert code(examine(made(tmp_path / name, data))) == "unsupported_format"
    assert code(examine(made(tmp_path / "empty.mp4", b""))) == "empty_file"
    for magic in (b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"FLV\1", b"OggS"):
        assert examine(made(tmp_path / "magic", magic)).status is Status.FAILED
        assert examine(made(tmp_path / "magic", magic + os.urandom(5000))).status is Status.FAILED


def test_the_name_says_nothing(films: Path, tmp_path: Path, examine: Examine) -> None:
    red = (films / "red.mp4").read_bytes()
    for name in ("red.jpg", "red.txt", "red.mkv", "red.m3u8", "red.mp3", "red"):
        assert examine(made(tmp_path / name, red)).decision is Decision.BLOCK


def test_a_picture_as_a_film(tmp_path: Path, examine: Examine) -> None:
    still = ("-f", "lavfi", "-i", RED, "-frames:v", "1")
    jpeg = write(tmp_path / "red.jpg", *still)
    assert examine(made(tmp_path / "jpeg.mp4", jpeg.read_bytes())).decision is Decision.BLOCK
    for extension in ("mkv", "mp4", "avi", "mov"):
        film = write(tmp_path / f"one.{extension}", *still, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
        verdict = examine(film)
        assert (code(verdict), verdict.decision is Decision.PASS) == (None, False)
