from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import SpecError
from moderation.models.keys import input_keys, input_windows
from moderation.models.runner import load_scorer
from moderation.settings import load_settings
from moderation.types import InputKey, Window


def test_the_keys_of_the_fake_are_those_of_its_scorer() -> None:
    settings = load_settings(backend="fake")
    scorer = load_scorer(settings)
    assert input_keys(settings) == scorer.keys
    scorer.close()


@pytest.mark.weights
def test_the_keys_are_those_of_the_loaded_models() -> None:
    settings = load_settings(backend="openvino")
    scorer = load_scorer(settings)
    assert input_keys(settings) == scorer.keys
    scorer.close()


def test_without_manifests_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no model manifest"):
        input_keys(load_settings(weights_dir=tmp_path))


@pytest.mark.parametrize("clip", ["0", "1"])
def test_the_windows_of_the_fake_are_those_of_its_scorer(
    clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATION_FAKE_CLIP", clip)
    settings = load_settings(backend="fake")
    scorer = load_scorer(settings)
    assert input_windows(settings) == scorer.windows
    assert len(scorer.windows) == int(clip)
    assert [facts["id"] for facts in scorer.describe()] == ["fake", "fake-clip"][: int(clip) + 1]
    scorer.close()


def test_a_clip_model_adds_a_window_and_no_size_of_pictures(tmp_path: Path) -> None:
    manifests = Path(__file__).parents[2] / "weights"
    settings = load_settings(weights_dir=manifests)
    before = input_keys(settings)
    shipped = input_windows(settings)
    assert shipped == {
        Window(InputKey(320, 256, "stretch", "area"), 16, 12.0, 3.0): {"violence.fight": "fights@1"}
    }
    for path in manifests.glob("*/model.toml"):
        (tmp_path / path.parent.name).mkdir()
        (tmp_path / path.parent.name / "model.toml").write_text(path.read_text())
    (tmp_path / "brawls").mkdir()
    (tmp_path / "brawls" / "model.toml").write_text(MANIFEST)
    settings = load_settings(weights_dir=tmp_path)
    assert input_keys(settings) == before
    assert input_windows(settings) == shipped | {
        Window(InputKey(112, 96, "stretch", "area"), 16, 12.0, 3.0): {"violence.fight": "brawls@1"}
    }


MANIFEST = f"""
id = "brawls"
version = "1"
task = "clip"
architecture = "toy"
summary = "toy"
licence = "MIT"
origin = "here"
[input]
name = "x"
width = 112
height = 96
interpolation = "area"
layout = "NCTHW"
colour = "RGB"
[window]
frames = 16
rate = 12.0
every_s = 3.0
[[labels]]
label = "violence.fight"
output = "p"
index = 0
[[artefacts]]
backend = "openvino"
source = "committed"
file = "model.xml"
sha256 = "{"0" * 64}"
size = 1
"""
