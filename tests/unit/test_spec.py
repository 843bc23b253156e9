from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import SpecError
from moderation.models.spec import read_spec, read_specs, windows_of
from moderation.types import InputKey, Window

ENCODER = """
id = "trunk"
version = "1"
task = "encoder"
architecture = "tiny"
summary = "a trunk"
licence = "MIT"
origin = "here"
embedding_output = "embedding"
[input]
name = "x"
width = 8
height = 4
interpolation = "area"
layout = "NCHW"
colour = "RGB"
[[artefacts]]
backend = "openvino"
source = "committed"
file = "model.xml"
sha256 = "{sha}"
size = 1
""".format(sha="0" * 64)
HEADS = """
id = "heads"
version = "2"
task = "heads"
architecture = "linear"
summary = "heads"
licence = "MIT"
origin = "here"
encoder = "trunk@1"
[[labels]]
label = "smoking.smoking"
output = "logits"
index = 0
[[artefacts]]
backend = "numpy"
source = "committed"
file = "heads.npz"
sha256 = "{sha}"
size = 1
""".format(sha="0" * 64)


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir()
    path = folder / name / "model.toml"
    path.write_text(text)
    return path


def test_a_manifest_names_its_pixels_and_itself(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, "trunk", ENCODER))
    assert spec.ref == "trunk@1"
    assert spec.input is not None
    assert spec.input.key == InputKey(8, 4, "stretch", "area")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('licence = "MIT"', "", "licence"),
        ('licence = "MIT"', 'licence = "MIT"\nextra = 1', "extra"),
        ("width = 8", "width = 0", "input.width"),
        ('embedding_output = "embedding"', "", "embedding_output"),
        ('source = "committed"', 'source = "wheel"', "package"),
        ('sha256 = "00', 'sha256 = "zz', "sha256"),
        ('id = "trunk"', 'id = "trunk', "model.toml"),
    ],
)
def test_a_bad_manifest_is_one_clear_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        read_spec(write(tmp_path, "trunk", ENCODER.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_heads_need_their_encoder(tmp_path: Path) -> None:
    write(tmp_path, "heads", HEADS)
    with pytest.raises(SpecError, match="its encoder trunk@1"):
        read_specs(tmp_path)
    write(tmp_path, "trunk", ENCODER)
    assert [spec.ref for spec in read_specs(tmp_path)] == ["heads@2", "trunk@1"]


def test_the_folder_is_the_id(tmp_path: Path) -> None:
    write(tmp_path, "other", ENCODER)
    with pytest.raises(SpecError, match="not the name of its folder"):
        read_specs(tmp_path)


def test_no_manifest_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no model manifest"):
        read_specs(tmp_path)


CLIP = (
    ENCODER.replace('"trunk"', '"clips"')
    .replace('"encoder"', '"clip"')
    .replace('embedding_output = "embedding"\n', "")
    .replace('"NCHW"', '"NCTHW"')
    + """
[window]
frames = 16
rate = 12.0
every_s = 3.0
[[labels]]
label = "violence.fight"
output = "logits"
index = 0
"""
)


def test_a_clip_model_names_its_window(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, "clips", CLIP))
    window = Window(InputKey(8, 4, "stretch", "area"), frames=16, rate=12.0, every_s=3.0)
    assert spec.clip == window
    twin = spec.model_copy(update={"id": "twin"})
    trunk = read_spec(write(tmp_path, "trunk", ENCODER))
    assert trunk.clip is None
    assert windows_of([trunk, spec]) == {window: {"violence.fight": "clips@1"}}
    assert windows_of([spec, twin]) == {window: {"violence.fight": "clips@1+twin@1"}}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('task = "clip"', 'task = "classification"', "a clip model has a"),
        ('layout = "NCTHW"', 'layout = "NCHW"', "layout NCHW does not fit"),
        ("frames = 16", "frames = 65", "window.frames"),
        ("frames = 16", "frames = 1", "window.frames"),
        ("rate = 12.0", "rate = 0", "window.rate"),
        ("rate = 12.0", "rate = 12.0\nstride = 2", "window.stride"),
        ("every_s = 3.0", "every_s = inf", "window.every_s"),
        ("every_s = 3.0", "", "window.every_s"),
    ],
)
def test_a_bad_window_is_one_clear_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in CLIP
    with pytest.raises(SpecError, match=words):
        read_spec(write(tmp_path, "clips", CLIP.replace(old, new)))


def test_a_clip_model_without_a_window_is_refused(tmp_path: Path) -> None:
    whole = CLIP[: CLIP.index("[window]")] + CLIP[CLIP.index("[[labels]]") :]
    with pytest.raises(SpecError, match="a clip model has a"):
        read_spec(write(tmp_path, "clips", whole))
