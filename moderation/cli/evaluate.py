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

if TYPE_CHECKING:
    from moderation.models.training.evaluate import EvalReport


def evaluate(
    what: Annotated[Path, typer.Argument(metavar="DIR|MANIFEST", show_default=False)],
    policy: Annotated[str | None, typer.Option(help="Whose thresholds are judged.")] = None,
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Measure the verdicts on labelled pictures: precision, recall, AUC, confusion.

    A folder has one folder a label (`violence.weapon`, …) and `safe` for ordinary pictures; a
    manifest is a CSV. Exit code 3 when a picture could not be analysed.
    """
    from moderation.models.training.evaluate import run_eval
    from moderation.settings import load_settings

    report = run_eval(what, load_settings(settings_file), policy, progress)
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
