"""`moderation eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.cli.out import (
    EXIT_INCOMPLETE,
    EXIT_OK,
    Config,
    Json,
    answer,
    note,
    progress,
    table,
)
from moderation.errors import ConfigError

if TYPE_CHECKING:
    from moderation.models.training.evaluate import EvalReport


def evaluate(
    what: Annotated[
        Path | None, typer.Argument(metavar="[DIR|MANIFEST]", show_default=False)
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Whose thresholds are judged.")] = None,
    left_out: Annotated[
        bool,
        typer.Option("--left-out", help="Figures on sources left out of training, and targets."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="With --left-out: of one model alone.")
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="With --left-out: as README, or a model's card, shows it."),
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --left-out: bring README and cards up to date.")
    ] = False,
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Measure the verdicts on labelled pictures: precision, recall, AUC, confusion.

    A folder has one folder a label (`violence.weapon`, …) and `safe` for ordinary pictures; a
    manifest is a CSV. Exit code 3 when a picture could not be analysed. With --left-out nothing is
    scored: the scores that training kept beside the models are counted.
    """
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    if left_out:
        if what is not None or policy is not None:
            raise ConfigError("--left-out takes neither pictures nor a policy")
        from moderation.cli.left_out import left_out as figures_left_out

        return figures_left_out(settings, model, json=json, text=markdown, write=write)
    if model is not None or markdown or write:
        raise ConfigError("--model, --markdown and --write go with --left-out")
    if what is None:
        raise ConfigError("name a folder or a manifest of pictures, or --left-out")
    from moderation.models.training.evaluate import run_eval

    report = run_eval(what, settings, policy, progress)
    if json:
        answer(report.to_json())
    else:
        _show(report)
    return EXIT_INCOMPLETE if report.failed else EXIT_OK


def _show(report: EvalReport) -> None:
    rows = report.rows()
    confusion = [
        f"{at.true_positives}/{at.false_positives}/{at.false_negatives}/{at.true_negatives}"
        if at
        else "-"
        for label in report.labels
        for at in label.at or (None,)
    ]
    columns = (*rows[0], "TP/FP/FN/TN") if rows else ("label",)
    table(columns, [(*row.values(), counts) for row, counts in zip(rows, confusion, strict=True)])
    low, high = report.ordinary_flagged_95
    note(
        f"policy {report.policy}; {report.ordinary} ordinary pictures: "
        f"{report.ordinary_blocked} block, {report.ordinary_reviewed} review "
        f"(share of both, 95 %: {low:.3f}-{high:.3f})"
    )
    for name, code in report.failed:
        note(f"not analysed, in no figure: {name} ({code})")
