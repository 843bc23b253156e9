"""`moderation eval --left-out`: the figures on sources that no model saw, beside what is wanted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from moderation.cli.out import EXIT_OK, answer, note, table
from moderation.errors import ConfigError

if TYPE_CHECKING:
    from moderation.models.training.figures import Row
    from moderation.settings import Settings


def left_out(settings: Settings, model: str | None, *, json: bool, text: bool, write: bool) -> int:
    """Print the table; `text`: the Markdown of the README, or of one model's card; `write`: put it
    into both. Raises ConfigError."""
    from moderation.models.spec import read_specs
    from moderation.models.training import figures, figures_fusion, figures_text
    from moderation.models.training.leftout import read_measured
    from moderation.models.training.ordinary import read_ordinary
    from moderation.policy import choose_policy, load_policies

    folder = settings.manifests
    measured = read_measured(read_specs(folder), folder, model)
    rows: list[Row] = [row for one in measured for row in figures.rows_of(one)]
    ordinary = read_ordinary(folder)
    if ordinary is not None and model is None:
        policy = choose_policy(load_policies(settings.policy_dir), settings.default_policy)
        rows += figures.ordinary_rows(ordinary, policy)
    if write:
        pages = {
            folder / one.spec.id / "README.md": figures_text.section(
                one.spec.id, one.left_out, one.boxes, clips=one.clips
            )
            for one in measured
        }
        if model is None:
            pages[folder.parent / "README.md"] = figures_text.summary(rows)
        try:
            for path, told in pages.items():
                path.write_text(
                    figures_text.filled(path.read_text("utf-8"), told, str(path)), "utf-8"
                )
        except OSError as error:
            raise ConfigError(f"cannot write figures: {error}") from error
        note("written: " + ", ".join(str(path) for path in pages))
    if not text and not write:
        rows += figures_fusion.fusion_rows(measured)
    if json:
        answer([row.to_json() for row in rows])
    elif text:
        (first, *_) = measured
        told = figures_text.summary(rows)
        if model is not None:
            told = figures_text.section(
                first.spec.id, first.left_out, first.boxes, clips=first.clips
            )
        sys.stdout.write(told + "\n")
    else:
        _show(rows)
    return EXIT_OK


def _show(rows: list[Row]) -> None:
    lines = []
    for row in rows:
        counts = f"{row.positives} / {row.negatives}"
        for figure in row.figures:
            wanted, reached = "-", "-"
            if figure.target is not None:
                wanted = f"{'<=' if figure.most else '>='} {figure.target:g}"
                reached = "reached" if figure.reached else "missed"
            lines.append(
                (
                    *(row.model, row.label, row.what, row.left_out, counts),
                    *(figure.name, str(figure), wanted, reached),
                )
            )
    table(
        (
            *("model", "label", "what", "left out", "positives / others"),
            *("figure", "value (95 %)", "wanted", ""),
        ),
        lines,
    )
    missed = sum(line[-1] == "missed" for line in lines)
    note(f"{missed} of {sum(line[-1] != '-' for line in lines)} targets missed")
