"""`moderation scan --report` as a process: a painted film and pictures, one file to look at."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
from command_line import COMMAND, Done, environment, moderation
from PIL import Image

from moderation.video.ffmpeg import program

POLICY = """
id: mild
version: 1
rules:
  - {label: porn.explicit, review_at: 0.7, block_at: 0.9, min_frames: 2, window: 3}
  - {label: violence.weapon, review_at: 0.7, block_at: 0.9, block_needs: evidence}
"""


@pytest.fixture
def policies(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mild.yaml").write_text(POLICY)
    return {"MODERATION_POLICY_DIR": str(folder), "MODERATION_DEFAULT_POLICY": "mild"}


@pytest.fixture
def run(tmp_path: Path, policies: dict[str, str]) -> partial[Done]:
    return partial(moderation, "scan", home=tmp_path / "home", **policies)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A film of grey with red from 12 to 15 s, a red, a grey and a broken picture."""
    made = tmp_path / "bad"
    made.mkdir()
    red = "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,12,14.99)'"
    source = f"testsrc2=size=320x180:rate=25:duration=30,format=gray,format=yuv420p,{red}"
    words = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-g", "250"]
    subprocess.run([program(), *words, str(made / "<b>film.mp4")], check=True, timeout=60)
    Image.new("RGB", (300, 200), (250, 0, 0)).save(made / "red.png")
    Image.new("RGB", (300, 200), (60, 60, 60)).save(made / "grey.png")
    (made / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return made


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB") for one in found]


def test_one_file_with_cards_timeline_and_thumbnails(
    run: partial[Done], folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "out.html"
    done = run(folder, "--report", report, "--json")
    assert done.code == 3
    assert done.err == ""
    assert len(done.lines()) == 4, "standard output stays as it is without a report"
    html = report.read_text("utf-8")
    assert html.count("<article") == 3
    assert html.count('<p class="line"') == 1
    assert html.count("<svg") == 1
    assert "&lt;b&gt;film.mp4" in html
    assert "<b>film" not in html
    assert "mp4 h264 · 320 × 180 · 25 frames/s · no sound" in html
    film, picture = pictures(html)
    assert film.size == (320, 180)
    assert picture.size == (300, 200)
    for image in (film, picture):
        red, green, _ = image.getpixel((10, 10))
        assert red > 200 > 60 > green, "the frame of the peak, in its own colours"


def test_boxes_are_drawn_where_they_were_found(run: partial[Done], tmp_path: Path) -> None:
    """Cyan is a weapon to the fake model, and green on it one with a box."""
    cyan = "drawbox=w=iw:h=ih:color=cyan:t=fill:enable='between(t,4,7.99)'"
    lime = "drawbox=x=iw/2:y=ih/4:w=iw/4:h=ih/2:color=lime:t=fill:enable='between(t,6,7.99)'"
    source = f"testsrc2=size=320x180:rate=25:duration=12,format=gray,format=yuv420p,{cyan},{lime}"
    film = ["-f", "lavfi", "-i", source, "-g", "250", str(tmp_path / "film.mp4")]
    subprocess.run([program(), "-nostdin", "-v", "error", *film], check=True, timeout=60)
    image = Image.new("RGB", (320, 160), (0, 255, 255))
    image.paste((0, 255, 0), (80, 40, 160, 80))
    image.save(tmp_path / "gun.png")
    report = tmp_path / "out.html"
    names = (tmp_path / "film.mp4", tmp_path / "gun.png")
    verdicts = run(*names, "--report", report, "--json").lines()
    of_film, of_picture = (one["reasons"][0] for one in verdicts)
    assert (of_film["decision"], of_film["sublabel"]) == ("block", "pistol")
    assert 6 <= of_film["boxes_s"] < 8
    assert of_picture["boxes"] == [[0.25, 0.25, 0.5, 0.5, 1.0]]
    cards = report.read_text("utf-8").split("<article")[1:]
    (card,) = (one for one in cards if "film.mp4" in one)
    figures = card.split("<figure")[1:]
    marked = [one for one in figures if 'class="box"' in one]
    assert len(marked) == 1
    assert "violence.weapon (pistol)" in marked[0]
    (shown,) = pictures(marked[0])
    red, green, blue = shown.getpixel((200, 90))
    assert green > 200 > 90 > max(red, blue), "the frame that shows what is marked"
    (card,) = (one for one in cards if "gun.png" in one)
    assert 'style="left:25.00%;top:25.00%;width:25.00%;height:25.00%"' in card


def test_without_thumbnails_there_is_no_picture(
    run: partial[Done], folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "out.html"
    run(folder, "--report", report, "--report-thumbnails", "none")
    html = report.read_text("utf-8")
    assert pictures(html) == []
    assert "press and hold" not in html
    assert html.count("<svg") == 1


def test_a_report_that_cannot_be_written_is_told_before_the_work(
    run: partial[Done], folder: Path, tmp_path: Path
) -> None:
    done = run(folder, "--report", tmp_path / "missing" / "out.html")
    assert done.code == 2
    assert done.out == ""
    assert "cannot write the report" in done.err


def test_a_film_has_a_bar_on_a_terminal(
    policies: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "scan", str(folder / "<b>film.mp4"), "--json"],
        env=environment(tmp_path / "home", **policies) | {"TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        told += part
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith(b'{"id"')
    assert out.count(b"\n") == 1
    words = told.decode()
    assert "<b>film.mp4" in words
    assert re.search(r"\d+/\d+ frames", words)
