from __future__ import annotations

from pathlib import Path

import pytest

from moderation.errors import SpecError
from moderation.models.keys import input_keys
from moderation.models.runner import load_scorer
from moderation.settings import load_settings


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
