"""`moderation scan` of films on the shipped weights: who answers for fights, and where."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from command_line import moderation

from moderation.models.spec import read_spec
from moderation.video.ffmpeg import program

pytestmark = pytest.mark.weights
LABEL = "violence.fight"
ROOT = Path(__file__).resolve().parents[2]
REF = read_spec(ROOT / "weights" / "fights" / "model.toml").ref
MOVING = "mandelbrot=size=320x240:rate=24"
"""A zoom that never rests, with nobody in it."""
SLIDES = "testsrc2=size=320x240:rate=0.2"
LENGTH_S = 8
POLICY = """\
id: everything
version: 1
rules:
  - {label: violence.fight, review_at: 0.0001, min_frames: 2, window: 3}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    if moderation("weights", "verify", home=home).code:
        pytest.skip("the weights are not pulled: `make install`")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "everything.yaml").write_text(POLICY, "utf-8")
    return home


def film(path: Path, source: str) -> Path:
    """8 s at 24 frames a second, written by the bundled ffmpeg."""
    shown = f"{source},fps=24,trim=duration={LENGTH_S},format=yuv420p"
    words = ("-f", "lavfi", "-i", shown, "-c:v", "libx264", "-preset", "ultrafast")
    subprocess.run([program(), "-nostdin", "-v", "error", *words, str(path)], check=True)
    return path


def who_tells(home: Path, path: Path) -> set[str]:
    """The models that the reasons for a fight name, where every score is a reason."""
    done = moderation(
        *("scan", path.name, "--json", "--policy", "everything"),
        home=home,
        MODERATION_POLICY_DIR=str(home.parent / "policies"),
        MODERATION_BACKEND="openvino",
    )
    verdict = done.json()
    assert (verdict["status"], verdict["coverage"]["complete"]) == ("done", True)
    assert 0 < verdict["scores"][LABEL] < 1
    return {reason["model"] for reason in verdict["reasons"] if reason["label"] == LABEL}


def test_where_it_moves_the_clip_model_answers(home: Path) -> None:
    assert who_tells(home, film(home.parent / "moving.mp4", MOVING)) == {REF}


def test_of_slides_the_frames_model_answers(home: Path) -> None:
    found = who_tells(home, film(home.parent / "slides.mp4", SLIDES))
    assert found
    assert REF not in found


def test_a_zoom_with_nobody_in_it_is_no_fight_under_the_shipped_policy(home: Path) -> None:
    path = film(home.parent / "moving.mp4", MOVING)
    verdict = moderation("scan", path.name, "--json", home=home, MODERATION_BACKEND="openvino")
    assert not [one for one in verdict.json()["reasons"] if one["label"] == LABEL]
