from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import SpecError
from moderation.models.spec import read_spec, read_specs
from moderation.types import InputKey

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
