"""Which models are on: by their manifest, by the settings, from the user's own folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moderation.errors import ConfigError, SpecError
from moderation.models.chosen import chosen_specs, known_specs
from moderation.models.keys import input_keys
from moderation.models.weights import states_of
from moderation.settings import Settings, load_settings
from moderation.types import InputKey

MANIFEST = """
id = "{id}"
version = "1"
task = "classification"
architecture = "toy"
summary = "toy"
licence = "MIT"
origin = "here"
default = {default}
[input]
name = "x"
width = {side}
height = {side}
interpolation = "area"
layout = "NCHW"
colour = "RGB"
[[labels]]
label = "{label}"
output = "p"
index = 0
[[artefacts]]
backend = "openvino"
source = "committed"
file = "model.xml"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
size = 1
"""


def add(folder: Path, name: str, *, default: bool = True, side: int = 8) -> None:
    (folder / name).mkdir(parents=True)
    told = MANIFEST.format(id=name, default=str(default).lower(), side=side, label="violence.blood")
    (folder / name / "model.toml").write_text(told)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path / "weights", "always")
    add(tmp_path / "weights", "seldom", default=False, side=16)
    return tmp_path / "weights"


def settings_of(folder: Path, **told: object) -> Settings:
    return load_settings(backend="openvino", weights_dir=folder, **told)


def ids(settings: Settings) -> list[str]:
    return [spec.id for spec in chosen_specs(settings)]


def test_the_manifest_decides_unless_the_settings_do(folder: Path) -> None:
    assert ids(settings_of(folder)) == ["always"]
    assert ids(settings_of(folder, models_on="seldom")) == ["always", "seldom"]
    assert ids(settings_of(folder, models_on="seldom", models_off="always")) == ["seldom"]
    assert [spec.id for spec in known_specs(settings_of(folder))] == ["always", "seldom"]


def test_who_reads_files_knows_what_is_on(folder: Path) -> None:
    small, large = InputKey(8, 8, "stretch", "area"), InputKey(16, 16, "stretch", "area")
    assert input_keys(settings_of(folder)) == (small,)
    assert input_keys(settings_of(folder, models_on="seldom")) == (small, large)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"models_on": "sedlom"}, "no model sedlom; there are: always, seldom"),
        ({"models_off": "x,always"}, "no model x; there are"),
        ({"models_on": "seldom", "models_off": "seldom"}, "both name seldom"),
    ],
)
def test_a_setting_that_names_no_model_is_an_error(
    folder: Path, told: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        ids(settings_of(folder, **told))


def test_models_of_ones_own_stand_beside_the_shipped(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    add(own, "mine")
    assert ids(settings_of(folder, models_dir=own)) == ["always", "mine"]
    assert ids(settings_of(folder, models_dir=own, models_off="mine")) == ["always"]


def test_an_empty_folder_of_ones_own_is_fine_and_an_absent_one_is_not(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert ids(settings_of(folder, models_dir=tmp_path / "empty")) == ["always"]
    with pytest.raises(SpecError, match="there is no folder of models"):
        ids(settings_of(folder, models_dir=tmp_path / "absent"))


def test_a_model_of_ones_own_needs_an_id_of_its_own(folder: Path, tmp_path: Path) -> None:
    add(tmp_path / "own", "always")
    with pytest.raises(SpecError, match="there is another model 'always'"):
        ids(settings_of(folder, models_dir=tmp_path / "own"))


def test_only_a_model_that_is_on_has_to_be_there(folder: Path, tmp_path: Path) -> None:
    add(tmp_path / "own", "mine")

    def faults(**told: object) -> dict[str, tuple[str, str | None]]:
        states = states_of(settings_of(folder, models_dir=tmp_path / "own", **told))
        return {state.model: (state.source, state.fault) for state in states}

    missing = {"always@1": ("committed", "missing"), "mine@1": ("own", "missing")}
    assert faults() == missing
    assert faults(models_on="seldom") == missing | {"seldom@1": ("committed", "missing")}
    (folder / "seldom" / "model.xml").write_bytes(b"x")
    assert faults()["seldom@1"] == ("committed", "wrong_sha256"), "what is there has to be right"
