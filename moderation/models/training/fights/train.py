"""All of `fights` in one call: clips -> features -> figures on left-out data -> shipped network.

    MODERATION_DATASET_DIR=… python -m moderation.models.training.fights.train [--out FOLDER]

Runs on a CPU in minutes once the features are cached (their first computation takes about ten
minutes of one core). An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moderation.models.training import datasets, figures_text
from moderation.models.training.datasets import Clip
from moderation.models.training.fights import export, features, graph, measure
from moderation.models.training.fights.clips import Fold, folds
from moderation.models.training.fights.features import Windows
from moderation.models.training.fights.recipe import Recipe, read_recipe
from moderation.models.training.heads import F32, Head, fit_platt
from moderation.models.training.leftout import FILE, write_left_out
from moderation.settings import Settings

RECIPE = Path(__file__).parents[1] / "recipes" / "fights.toml"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """scores (clips,): left-out logits; calibration: a and b of Platt over them, both kinds
    counting the same, less what is easier in ordinary films; head: of all clips."""

    scores: F32
    calibration: tuple[float, float]
    figures: tuple[measure.Figure, ...]
    head: Head


def fit_all(
    data: Windows,
    clips: Sequence[Clip],
    groups: Sequence[Fold],
    recipe: Recipe,
    progress: Progress | None = None,
) -> Trained:
    """Measure with each fold left out, then fit the head that ships."""
    logits = measure.leave_out(data, clips, groups, recipe, progress)
    scores = measure.of_clips(logits, data.clip, len(clips))
    truth = np.array([clip.fight for clip in clips])
    a, b = fit_platt(scores, truth)
    return Trained(
        scores=scores,
        calibration=(a, b - math.log(recipe.hard_others)),
        figures=tuple(measure.figures(scores, clips, recipe)),
        head=measure.fit(data, clips, np.ones(len(clips), bool), recipe),
    )


def train(
    settings: Settings,
    recipe: Recipe,
    *,
    out: Path | None = None,
    trunk: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train, measure and write network, manifest, left-out scores and the card's table into `out`.

    trunk: an IR of MoveNet; the shipped network holds it, and is what is taken by default.
    Raises ConfigError without data, WeightsError without the trunk.
    """
    shipped = settings.manifests / recipe.id
    folder = shipped if out is None else out
    clips = datasets.read_clips(datasets.dataset_dir(settings) / "clips.csv")
    movenet = graph.trunk_of(shipped / "model.xml" if trunk is None else trunk)
    network = graph.window_network(movenet, recipe)
    files = [clip.file for clip in clips]
    digest = graph.digest_of(movenet)
    data = features.embed(files, network, recipe, digest, settings, progress)
    trained = fit_all(data, clips, folds(clips, recipe.folds), recipe, progress)
    export.save_network(graph.with_head(network, trained.head), folder)
    told = export.left_out(trained.scores, clips, trained.calibration)
    write_left_out(folder / FILE, told)
    manifest = export.manifest(recipe, folder, trained.calibration, trained.figures)
    (folder / "model.toml").write_text(manifest, "utf-8")
    card = folder / "README.md"
    if card.is_file():
        text = figures_text.card(card.read_text("utf-8"), recipe.id, told, clips=True)
        card.write_text(text, "utf-8")
    return trained


def main(argv: list[str] | None = None) -> int:
    """Train, and print the table of figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--out", type=Path, help="default: the shipped folder")
    parser.add_argument("--trunk", type=Path, help="MoveNet, as convert_movenet writes it")
    told = parser.parse_args(argv)

    def show(what: str, done: int, of: int) -> None:
        print(f"\r{what} {done}/{of}", end="\n" if done == of else "", file=sys.stderr)  # noqa: T201

    trained = train(
        Settings(), read_recipe(told.recipe), out=told.out, trunk=told.trunk, progress=show
    )
    print(export.table(trained.figures))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
