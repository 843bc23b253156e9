"""A model of one's own, as docs/models.md shows it: dropped into a folder, it answers a label that
no shipped model answers, and the policy acts on it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moderation.analyse import Analyser
from moderation.decoders import DecoderPool
from moderation.models.chosen import known_specs
from moderation.models.npm.onnx import OnnxGraph
from moderation.models.runner import load_scorer
from moderation.models.spec import read_spec
from moderation.models.weights import sha256_of
from moderation.policy import Policy, parse_policy
from moderation.settings import Settings, load_settings
from moderation.types import Decision

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/models.md").read_text("utf-8")
VAPE = "smoking.vape"
RED, BLACK = (255, 0, 0), (0, 0, 0)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def red_is_vape() -> bytes:
    """A network that calls red pictures vaping: logits (n, 2), the second 8 for pure red and -8
    for black, of pixels that are normalised as the manifest says."""
    graph = OnnxGraph("toy", inputs={"pixels": ["n", 3, 224, 224]}, outputs={"logits": ["n", 2]})
    colour = graph.node("ReduceMean", ["pixels"], "colour", {"axes": [2, 3], "keepdims": 0})
    per_red = 16 / (255 / 58.4)
    weight = np.array([[0, per_red], [0, 0], [0, 0]], np.float32)
    offset = np.array([0, per_red * 123.7 / 58.4 - 8], np.float32)
    product = graph.node("MatMul", [colour, graph.constant("weight", weight)], "product")
    graph.node("Add", [product, graph.constant("offset", offset)], "logits")
    return graph.to_bytes()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of models with the example in it."""
    folder = tmp_path / "models" / "vape-net"
    folder.mkdir(parents=True)
    network = folder / "model.onnx"
    network.write_bytes(red_is_vape())
    manifest = block("toml").replace("0" * 64, sha256_of(network))
    manifest = re.sub(r"^size = 1 ", f"size = {network.stat().st_size} ", manifest, flags=re.M)
    (folder / "model.toml").write_text(manifest, "utf-8")
    return folder.parent


@pytest.fixture
def settings(own: Path) -> Settings:
    """The example alone: the shipped models need weights that are pulled."""
    shipped = ",".join(path.parent.name for path in ROOT.glob("weights/*/model.toml"))
    return load_settings(backend="openvino", models_dir=own, models_off=shipped)


@pytest.fixture
def analyser(settings: Settings) -> Iterator[Analyser]:
    scorer = load_scorer(settings)
    with DecoderPool.from_settings(settings) as pool:
        yield Analyser(scorer, pool, settings)
    scorer.close()


@pytest.fixture
def vapes() -> Policy:
    return parse_policy(block("yaml"))


def picture(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_it_stands_beside_the_shipped_models(own: Path, settings: Settings) -> None:
    spec = read_spec(own / "vape-net" / "model.toml")
    assert [one.label for one in spec.labels] == [VAPE]
    assert spec in known_specs(settings)
    assert len(known_specs(settings)) > 1


@pytest.mark.parametrize(
    ("colour", "score", "decision"),
    [
        (BLACK, 0.0003, Decision.PASS),
        ((128, 0, 0), 0.508, Decision.PASS),
        ((160, 0, 0), 0.885, Decision.REVIEW),
        (RED, 0.9997, Decision.BLOCK),
    ],
)
def test_it_answers_and_the_policy_acts(
    analyser: Analyser,
    vapes: Policy,
    colour: tuple[int, int, int],
    score: float,
    decision: Decision,
) -> None:
    analysis = analyser.analyse(picture(colour), vapes)
    assert analysis.peaks[VAPE].score == pytest.approx(score, abs=0.01)
    assert analysis.peaks[VAPE].model == "vape-net@1"
    assert analysis.outcome.decision is decision
    named = [] if decision is Decision.PASS else [VAPE]
    assert [reason.label for reason in analysis.outcome.reasons] == named


def test_without_it_the_optional_rule_is_skipped(vapes: Policy) -> None:
    settings = load_settings(backend="fake")
    scorer = load_scorer(settings)
    assert VAPE not in scorer.labels
    with DecoderPool.from_settings(settings) as pool:
        analysis = Analyser(scorer, pool, settings).analyse(picture(RED), vapes)
    scorer.close()
    assert analysis.outcome.decision is Decision.PASS
    assert not analysis.outcome.reasons


def test_a_shipped_policy_sends_what_it_finds_to_a_person(analyser: Analyser) -> None:
    shipped = parse_policy((ROOT / "moderation/policies/default.yaml").read_text("utf-8"))
    (rule,) = [rule for rule in shipped.rules if rule.label == VAPE]
    analysis = analyser.analyse(picture(RED), shipped.model_copy(update={"rules": (rule,)}))
    assert [(one.label, one.decision) for one in analysis.outcome.reasons] == [
        (VAPE, Decision.REVIEW)
    ]
