from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import SpecError
from moderation.models.spec import LabelSpec, read_spec, read_specs, windows_of
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


SCENES = (
    ENCODER.replace('"trunk"', '"scenes"').replace(
        'embedding_output = "embedding"',
        'embedding_output = "embedding"\nembedding_ref = "trunk@1"',
    )
    + """
[[labels]]
label = "violence.weapon"
output = "scores"
index = 0
activation = "sigmoid"
calibration = [1.5, -0.5]
[detector]
peaks = "peaks"
boxes = "boxes"
least = 0.2
iou = 0.4
max_boxes = 6
[[detector.classes]]
label = "violence.weapon"
sublabel = "pistol"
index = 1
[[detector.classes]]
label = "violence.weapon"
sublabel = "knife"
index = 2
"""
)


def test_a_detector_names_its_outputs_and_classes(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, "scenes", SCENES))
    assert spec.detector is not None
    assert (spec.detector.least, spec.detector.iou, spec.detector.max_boxes) == (0.2, 0.4, 6)
    assert [(one.sublabel, one.index) for one in spec.detector.classes] == [
        ("pistol", 1),
        ("knife", 2),
    ]
    assert spec.labels[0].calibration == (1.5, -0.5)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('label = "violence.weapon"\nsub', 'label = "violence.fire"\nsub', "marks violence.fire"),
        ("index = 2", "index = 1", "two classes of the detector have one index"),
        ("least = 0.2", "least = 0", "detector.least"),
        ("least = 0.2", "least = 0.2\nmost = 1", "detector.most"),
        ("iou = 0.4", "iou = 1.4", "detector.iou"),
        ("max_boxes = 6", "max_boxes = 65", "detector.max_boxes"),
        ('sublabel = "knife"', 'sublabel = "a knife"', "sublabel"),
        ('sublabel = "knife"', 'sublabel = "knife"\nscore = 1', "score"),
        ("calibration = [1.5, -0.5]", "calibration = [0.0, -0.5]", "calibration"),
        ("calibration = [1.5, -0.5]", "calibration = [1.5, nan]", "calibration"),
        ('activation = "sigmoid"', "", "a calibration belongs to a logit"),
        ('embedding_output = "embedding"\n', "", "embedding_output"),
    ],
)
def test_a_bad_detector_is_one_clear_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SCENES
    with pytest.raises(SpecError, match=words) as caught:
        read_spec(write(tmp_path, "scenes", SCENES.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_a_clip_model_marks_nothing(tmp_path: Path) -> None:
    marks = SCENES[SCENES.index("[detector]") :].replace("violence.weapon", "violence.fight")
    with pytest.raises(SpecError, match="the task clip marks nothing"):
        read_spec(write(tmp_path, "clips", CLIP + marks))


def test_an_embedding_may_have_the_name_of_another_encoder(tmp_path: Path) -> None:
    scenes = read_spec(write(tmp_path, "scenes", SCENES))
    assert (scenes.ref, scenes.embedding) == ("scenes@1", "trunk@1")
    write(tmp_path, "heads", HEADS)
    assert [spec.id for spec in read_specs(tmp_path)] == ["heads", "scenes"]
    trunk = read_spec(write(tmp_path, "trunk", ENCODER))
    assert trunk.embedding == "trunk@1"
    assert read_spec(tmp_path / "heads" / "model.toml").embedding is None


def test_a_label_without_calibration_has_the_plain_logit() -> None:
    assert LabelSpec(label="a.b", output="x", index=0, activation="sigmoid").calibration == (1, 0)
