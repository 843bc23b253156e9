"""`moderation train heads`, `fights`, `scenes`, `int8`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.cli.out import Config, Json, answer, new_group, note, progress, table
from moderation.errors import ConfigError

if TYPE_CHECKING:
    from moderation.models.training.scenes.fit import Step

group = new_group("Training on data of your own (MODERATION_DATASET_DIR).")


@group.command("heads")
def heads(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; default: the committed heads."),
    ] = None,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Train the small heads on the trunk's features; needs no torch and no GPU.

    Each figure is measured on a source that was left out of that training.
    """
    from moderation.models.training.pipeline import train_heads
    from moderation.settings import load_settings

    result = train_heads(load_settings(settings_file), out=out, progress=progress)
    if json:
        answer(
            {"folder": str(result.folder), "sha256": result.sha256, "figures": result.rows()},
        )
        return
    table(
        ("label", "source left out", "positives", "negatives", "AUC (95 %)", "recall at 2 %"),
        [
            (
                row["label"],
                row["left_out"],
                str(row["positives"]),
                str(row["negatives"]),
                f"{row['auc']:.3f} ({row['auc_95'][0]:.3f}-{row['auc_95'][1]:.3f})",
                f"{row['recall_at_2_percent']:.2f}",
            )
            for row in result.rows()
        ],
    )
    note(f"written to {result.folder}")


@group.command("fights")
def fights(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; default: the committed model."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: the shipped recipe.")
    ] = None,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Train the clip model for fights on features of MoveNet; needs no torch and no GPU.

    Each figure is measured on cameras or sources that were left out of that training.
    """
    from moderation.models.training.fights.recipe import read_recipe
    from moderation.models.training.fights.train import RECIPE, train
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    told = read_recipe(RECIPE if recipe is None else recipe)
    trained = train(settings, told, out=out, progress=progress)
    folder = settings.manifests / told.id if out is None else out
    rows = [
        {
            "left_out": one.name,
            "positives": one.fights,
            "negatives": one.others,
            "auc": one.auc,
            "auc_95": list(one.interval),
            "recall_at_5_percent": one.recall_5,
        }
        for one in trained.figures
    ]
    if json:
        answer({"folder": str(folder), "figures": rows})
        return
    table(
        ("left out", "fights", "others", "AUC (95 %)", "recall at 5 %"),
        [
            (
                one.name,
                str(one.fights),
                str(one.others),
                f"{one.auc:.3f} ({one.interval[0]:.3f}-{one.interval[1]:.3f})",
                f"{one.recall_5:.2f}",
            )
            for one in trained.figures
        ],
    )
    note(f"written to {folder}")


@group.command("scenes")
def scenes(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; default: the committed network."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another recipe than the committed one.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=1, help="Of the CPU; with a GPU, processes that draw pictures.")
    ] = 2,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Train the trunk for weapons, fire and smoking, with boxes; needs the extra `train`.

    Two runs, each under 90 minutes on two cores: one leaves sources out, which gives the figures,
    the fusion and the calibration; the other ships. A run that was stopped goes on.
    """
    from moderation.models.training.curve import curve
    from moderation.models.training.scenes.recipe import COMMITTED, read_recipe
    from moderation.settings import load_settings

    told = read_recipe(recipe or COMMITTED)
    settings = load_settings(settings_file)
    try:
        from moderation.models.training.scenes.ship import ship
    except ImportError as error:
        raise ConfigError(f"{error}; install the extra: pip install 'moderation[train]'") from error
    losses: list[float] = []

    def watch(step: Step) -> None:
        losses.append(sum(step.losses.values()))
        progress("training", step.step, step.of)

    shipped = ship(
        told, settings, out=out, device=device, threads=threads, progress=progress, watch=watch
    )
    for line in curve(losses):
        note(line)
    for name, value in shipped.differences.items():
        note(f"largest difference from torch, {name}: {value:.1e}")
    rows = shipped.figures()
    if json:
        answer({"folder": str(shipped.folder), "figures": rows})
        return
    table(
        ("label", "source left out", "positives", "negatives", "AUC (95 %)", "recall at 2 %"),
        [
            (
                row["label"],
                row["left_out"],
                str(row["positives"]),
                str(row["negatives"]),
                f"{row['auc']:.3f} ({row['auc_95'][0]:.3f}-{row['auc_95'][1]:.3f})",
                f"{row['recall_at_2_percent']:.2f}",
            )
            for row in rows
        ],
    )
    note(f"written to {shipped.folder}")


@group.command("int8")
def int8(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL …]", help="Ids; default: all in the recipe."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write; default: beside each manifest."),
    ] = None,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Make INT8 files of the picture networks; needs the extra `train`, and no GPU.

    After a network was trained again its INT8 file is one of the network before: run this, too.
    """
    from moderation.models.training.quantise import quantise, read_recipe
    from moderation.settings import load_settings

    made = quantise(
        models or [], load_settings(settings_file), read_recipe(), out=out, progress=progress
    )
    if json:
        answer([{"model": one.model, "file": str(one.path), "size": one.size} for one in made])
        return
    table(
        ("model", "file", "bytes"),
        [(one.model, str(one.path), f"{one.size:,}") for one in made],
    )
