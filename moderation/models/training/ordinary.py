"""Scores that networks which were not trained here give to the ordinary pictures:

    python -m moderation.models.training.ordinary

writes `weights/ordinary.npz`, so that thresholds can count what `porn.explicit` and `violence.gore`
show of ordinary pictures without scoring them again. It asks for the pictures of
MODERATION_DATASET_DIR and for the weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moderation.errors import ModerationError
from moderation.models.chosen import known_specs
from moderation.models.training import datasets, porn_table
from moderation.models.training.leftout import LeftOut, read_left_out, write_left_out
from moderation.settings import Settings, load_settings

NAME = "ordinary.npz"
GORE = "violence.gore"
AS_TOLD = np.asarray([1.0, 0.0])
"""The networks answer probabilities: nothing is calibrated."""


def read_ordinary(folder: Path) -> LeftOut | None:
    """The scores beside the models, if there are any. Raises ConfigError."""
    path = folder / NAME
    return read_left_out(path) if path.is_file() else None


def as_left_out(
    files: list[str], sources: list[str], scores: dict[str, NDArray[np.floating]]
) -> LeftOut:
    """Probabilities (n,) by label -> rows of ordinary pictures, none of which shows anything."""
    logits = {}
    for label, chance in scores.items():
        inside = np.clip(np.asarray(chance, np.float64), 1e-7, 1 - 1e-7)
        logits[label] = np.log(inside / (1 - inside)).astype(np.float32)
    return LeftOut(
        files=np.asarray(files, np.str_),
        sources=np.asarray(sources, np.str_),
        truth={label: np.zeros(len(files), np.int8) for label in scores},
        score=logits,
        calibration=dict.fromkeys(scores, AS_TOLD),
    )


def score_ordinary(settings: Settings) -> LeftOut:
    """Every ordinary picture of the data by the models that are on by default. Raises ConfigError,
    WeightsError."""
    known = {spec.ref: spec for spec in known_specs(settings)}
    specs = [known[ref] for ref in porn_table.THREE]
    root = datasets.open_group(settings, "safe")
    manifest = datasets.read_manifest(datasets.dataset_dir(settings) / "manifest.csv")
    samples = [sample for sample in manifest if sample.safe]
    files = [sample.file for sample in samples]
    found = porn_table.scored(
        "ordinary", files, lambda file: Image.open(root / file), specs, settings
    )
    explicit = {ref: found[porn_table.EXPLICIT, ref] for ref in porn_table.TWO}
    return as_left_out(
        files,
        [sample.source for sample in samples],
        {
            porn_table.EXPLICIT: porn_table.together(porn_table.rules()["two: mean"], explicit),
            GORE: found[GORE, porn_table.TWO[0]],
        },
    )


def main() -> int:
    """Exit status 0, or 2 with one line of what is missing."""
    settings = load_settings()
    try:
        told = score_ordinary(settings)
    except ModerationError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 2
    path = settings.manifests / NAME
    write_left_out(path, told)
    print(f"{path}: {len(told.files)} ordinary pictures, {', '.join(told.labels)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
