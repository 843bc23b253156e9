"""The committed trunk says what the published torch network says. Needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moderation.errors import WeightsError
from moderation.settings import Settings

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    # What OpenVINO's converter calls inside torch is not ours to change.
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

FP16_ROUNDING = 0.05
"""Of features between 0 and 6, from weights that are stored as FP16."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A fresh conversion, and its largest differences to torch."""
    pytest.importorskip("torch", reason="torch is not installed: `make test-torch`")
    from moderation.models.training.convert_lite0 import convert

    folder = tmp_path_factory.mktemp("lite0")
    try:
        return folder, convert(folder)
    except WeightsError as error:
        if error.code != "weights_pull":
            raise
        pytest.skip(f"the published weights cannot be fetched: {error.message}")


def test_the_graph_computes_what_torch_computes(
    converted: tuple[Path, dict[str, float]],
) -> None:
    _, differences = converted
    assert differences["fold"] < 1e-3
    assert differences["f32"] < 1e-3
    assert differences["f16"] < FP16_ROUNDING


def test_the_committed_file_is_that_conversion(converted: tuple[Path, dict[str, float]]) -> None:
    import openvino as ov

    core = ov.Core()
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 3, 320, 320)).astype(np.float32)

    def embed(folder: Path) -> np.ndarray:
        model = core.compile_model(
            core.read_model(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        return np.asarray(model(pixels)[0])

    committed = embed(Settings().manifests / "lite0")
    assert committed.shape == (2, 1280)
    assert committed.std() > 0.1
    assert np.abs(committed - embed(converted[0])).max() < 1e-3
