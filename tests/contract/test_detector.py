"""A network with boxes from its manifest to a verdict, on OpenVINO: built here, no weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset

from moderation.models.ensemble import Ensemble
from moderation.models.runner import Scorer, load_scorer
from moderation.models.spec import read_specs
from moderation.policy import Policy, Rule, decide, summarise
from moderation.settings import Settings, load_settings
from moderation.types import Coverage, Decision, DecodedImage, MediaInfo, View

SIDE, GRID = 32, 4
CELL = SIDE // GRID
MANIFEST = """
id = "scenes"
version = "1"
task = "encoder"
architecture = "toy"
summary = "The brightest cell of each channel."
licence = "Apache-2.0"
origin = "here"
embedding_output = "embedding"
embedding_ref = "lite0@1"
[input]
name = "x"
width = 32
height = 32
interpolation = "area"
layout = "NCHW"
colour = "RGB"
scale = [255.0, 255.0, 255.0]
[[labels]]
label = "violence.weapon"
output = "scores"
index = 1
activation = "sigmoid"
calibration = [8.0, -4.0]
[detector]
peaks = "peaks"
boxes = "boxes"
least = 0.3
[[detector.classes]]
label = "violence.weapon"
sublabel = "pistol"
index = 1
[[detector.classes]]
label = "violence.weapon"
sublabel = "knife"
index = 2
[[artefacts]]
backend = "openvino"
source = "committed"
file = "model.xml"
sha256 = "{xml}"
size = {size}
companions = [["model.bin", "{binary}"]]
"""
POLICY = Policy(
    id="p",
    version=1,
    rules=(Rule(label="violence.weapon", review_at=0.5, block_at=0.9, block_needs="evidence"),),
)


def graph() -> ov.Model:
    """peaks: each channel's mean in each of 16 cells; boxes: the cells; scores: the highest."""
    pixels = opset.parameter([-1, 3, SIDE, SIDE], np.float32, name="x")
    parts = opset.reshape(pixels, [0, 3, GRID, CELL, GRID, CELL], special_zero=True)
    means = opset.reshape(opset.reduce_mean(parts, [3, 5]), [0, 3, GRID**2], special_zero=True)
    peaks = opset.transpose(means, [0, 2, 1])
    rows, columns = np.divmod(np.arange(GRID**2), GRID)
    corners = np.stack([columns, rows, columns + 1, rows + 1], 1).astype(np.float32) / GRID
    zeros = opset.multiply(opset.reduce_mean(peaks, [2], keep_dims=True), np.float32(0))
    boxes = opset.add(zeros, corners[None])
    outputs = {
        "embedding": opset.reduce_mean(peaks, [1]),
        "scores": opset.reduce_max(peaks, [1]),
        "peaks": peaks,
        "boxes": boxes,
    }
    for name, node in outputs.items():
        node.output(0).set_names({name})
    return ov.Model(list(outputs.values()), [pixels])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "weights" / "scenes"
    folder.mkdir(parents=True)
    ov.save_model(graph(), folder / "model.xml", compress_to_fp16=False)
    xml, binary = ((folder / f"model.{end}").read_bytes() for end in ("xml", "bin"))
    told = MANIFEST.format(
        xml=hashlib.sha256(xml).hexdigest(),
        size=len(xml),
        binary=hashlib.sha256(binary).hexdigest(),
    )
    (folder / "model.toml").write_text(told)
    return load_settings(weights_dir=tmp_path / "weights", backend="openvino", precision="f32")


def painted(*patches: tuple[int, int, tuple[int, int, int]]) -> np.ndarray:
    """Black, with cells (row, column) of a colour."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for row, column, colour in patches:
        pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
    return pixels


def test_boxes_go_from_the_graph_to_the_verdict(settings: Settings) -> None:
    scorer = load_scorer(settings)
    try:
        outcome = decide(
            summarise(scorer.score(decoded(scorer, painted((1, 2, (0, 255, 0)))))),
            POLICY,
            Coverage(frames_total=1, frames_scored=1, complete=True),
        )
    finally:
        scorer.close()
    (reason,) = outcome.reasons
    assert (reason.decision, reason.sublabel, reason.model) == (
        Decision.BLOCK,
        "pistol",
        "scenes@1",
    )
    assert reason.boxes == [[0.5, 0.25, 0.75, 0.5, 1.0]]
    assert reason.score == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-4)


def test_a_batch_of_views_keeps_its_boxes_apart(settings: Settings) -> None:
    ensemble = Ensemble.load(read_specs(settings.manifests), settings)
    try:
        pictures = [
            painted(),
            painted((0, 0, (0, 128, 0)), (3, 3, (0, 0, 255))),
            painted((2, 1, (0, 255, 0))),
        ]
        told = ensemble.score([{ensemble.keys[0]: one} for one in pictures])
    finally:
        ensemble.close()
    marks = [[(d.sublabel, d.box, d.score) for d in one.detections] for one in told]
    assert marks == [
        [],
        [
            ("knife", (0.75, 0.75, 1.0, 1.0), 1.0),
            ("pistol", (0.0, 0.0, 0.25, 0.25), pytest.approx(128 / 255, abs=1e-3)),
        ],
        [("pistol", (0.25, 0.5, 0.5, 0.75), 1.0)],
    ]
    assert {one.encoder for one in told} == {"lite0@1"}


def test_a_first_look_gives_the_same_decision_and_boxes(settings: Settings) -> None:
    """With floors, as frames of video are scored, in bf16 first where this processor has it."""
    ensemble = Ensemble.load(read_specs(settings.manifests), settings)
    try:
        views = [{ensemble.keys[0]: painted((1, 1, (0, green, 0)))} for green in range(0, 256, 15)]
        exact = ensemble.score(views)
        floor = 0.5
        quick = ensemble.score(views, [{"violence.weapon": floor}] * len(views))
    finally:
        ensemble.close()
    for one, other in zip(exact, quick, strict=True):
        if one.scores["violence.weapon"] >= floor:
            assert (other.scores, other.detections) == (one.scores, one.detections)
            assert other.detections
        else:
            assert other.scores["violence.weapon"] < floor
            assert other.detections == ()


def decoded(scorer: Scorer, pixels: np.ndarray) -> DecodedImage:
    info = MediaInfo("png", SIDE, SIDE, 1, 1, 9)
    return DecodedImage(info, (View(),), {scorer.keys[0]: pixels[None]})
