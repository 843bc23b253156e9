"""INT8 files: what is written into manifests, and on which processors they may run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from moderation.errors import ConfigError
from moderation.models.registry import plan
from moderation.models.spec import InputSpec, read_specs
from moderation.models.training.quantise import as_read, quantise, read_recipe, with_artefact
from moderation.processor import sums_int8
from moderation.settings import load_settings

MANIFEST = """id = "m"

[[artefacts]]
backend = "openvino"
source = "committed"
file = "model.xml"
sha256 = "0"

[[metrics]]
name = "auc"
value = 0.9
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "model-int8.xml").write_bytes(b"graph")
    (tmp_path / "model-int8.bin").write_bytes(b"numbers")
    return tmp_path / "model-int8.xml"


@pytest.mark.parametrize("text", [MANIFEST, MANIFEST.partition("\n[[metrics]]")[0]])
def test_a_manifest_names_its_int8_file_once(text: str, files: Path) -> None:
    once = with_artefact(text, files)
    told = tomllib.loads(once)
    assert [a.get("precisions") for a in told["artefacts"]] == [None, ["int8"]]
    assert told["artefacts"][1]["size"] == 5
    assert told.get("metrics") == tomllib.loads(text).get("metrics")
    files.with_suffix(".bin").write_bytes(b"others")
    twice = with_artefact(once, files)
    assert len(tomllib.loads(twice)["artefacts"]) == 2
    assert twice != once
    assert with_artefact(twice, files) == twice


def test_pixels_are_what_the_graph_reads() -> None:
    spec = next(s for s in read_specs(load_settings().manifests) if s.id == "open-nsfw").input
    assert isinstance(spec, InputSpec)
    red = np.zeros((1, 2, 3, 3), np.uint8)
    red[..., 0] = 200
    told = as_read(red, spec)  # BGR, NHWC
    assert told.shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(told[0, 0, 0], np.float32([-104, -117, 200 - 123]))


def test_the_recipe_names_models_that_there_are() -> None:
    known = {spec.id for spec in read_specs(load_settings().manifests)}
    assert set(read_recipe().models) <= known


def test_every_recipe_has_its_file_and_the_rest_runs_in_f32() -> None:
    settings = load_settings(precision="int8")
    shown = {}
    for spec in read_specs(settings.manifests):
        if spec.input is not None:
            chosen = plan(spec, settings)
            shown[spec.id] = (chosen.settings.precision, "int8" in chosen.artefact.precisions)
    for name, (precision, own) in shown.items():
        assert (precision, own) == (
            ("int8", True) if name in read_recipe().models else ("f32", False)
        )


def test_an_unknown_model_is_an_error_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no INT8 recipe for 'fights'; there are: .*scenes"):
        quantise(["fights"], load_settings(home=tmp_path), read_recipe())


@pytest.mark.parametrize(
    ("machine", "flags", "sums"),
    [
        ("x86_64", {"avx2"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, True),
        ("AMD64", {"avx512_vnni"}, True),
        ("x86_64", set(), True),  # nothing known
        ("aarch64", {"asimddp"}, True),
    ],
)
def test_int8_needs_exact_sums(machine: str, flags: set[str], sums: bool) -> None:
    assert sums_int8(machine, frozenset(flags)) is sums
