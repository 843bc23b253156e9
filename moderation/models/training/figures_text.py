"""Figures as the README and the cards show them: Markdown between two marks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moderation.errors import ConfigError
from moderation.models.training import figures
from moderation.models.training.figures import (
    AUC,
    BLOCK,
    ECE,
    ECE_RARE,
    MAP,
    RECALL,
    RECALL_5,
    REVIEW,
    Figure,
    Row,
)
from moderation.models.training.leftout import BoxFigure, LeftOut
from moderation.models.training.limits import calibrator_of

BEGIN, END = re.compile(r"<!-- figures[^>]*-->"), "<!-- end of figures -->"
REACHES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)


def markdown(rows: Sequence[Row]) -> str:
    """Tables of the rows, bold where what is wanted is reached."""
    parts = [
        _table(
            ("Label", "Left out", "Pictures / ordinary", AUC, RECALL),
            rows,
            ("pictures",),
            (AUC, RECALL),
        ),
        _table(
            ("Label", "Left out", "Pictures / hard negatives", AUC, RECALL),
            rows,
            ("hard negatives",),
            (AUC, RECALL),
        ),
        _table(
            ("Label", "Single frames of one source", "Fights / others", AUC, RECALL),
            rows,
            ("same source",),
            (AUC, RECALL),
        ),
        _table(
            ("Label", "Pictures whose object was painted over", "Without / with", AUC),
            rows,
            ("twins",),
            (AUC,),
        ),
        _table(
            ("Label", "Clips of what was left out", "Fights / others", AUC, RECALL_5),
            rows,
            ("clips",),
            (AUC, RECALL_5),
        ),
        _table(("Label", "Boxes, left out", "Pictures", MAP), rows, ("boxes",), (MAP,)),
        _table(
            ("Label", "Calibration error on", "Positives / others", ECE, ECE_RARE),
            rows,
            ("calibration",),
            (ECE, ECE_RARE),
        ),
        _table(
            ("Label", "Ordinary pictures", "Count", REVIEW, BLOCK),
            rows,
            ("ordinary",),
            (REVIEW, BLOCK),
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def summary(rows: Sequence[Row]) -> str:
    """One line a label: the worst and the best source left out, beside what is wanted."""
    kinds = list(
        dict.fromkeys((row.label, row.what) for row in rows if row.what in ("pictures", "clips"))
    )
    lines = [
        "| Label | AUC | Recall at 2 % | Boxes, mAP@0.5 | ECE at 50:50 | Wanted |",
        "|---|---|---|---|---|---|",
    ]
    for label, what in sorted(kinds):
        mine = [row for row in rows if (row.label, row.what) == (label, what)]
        model = mine[0].model
        boxes = [row for row in rows if (row.label, row.what) == (label, "boxes")]
        errors = [
            row for row in rows if (row.model, row.label, row.what) == (model, label, "calibration")
        ]
        cells = [_span(mine, AUC), _span(mine, RECALL), _span(boxes, MAP), _span(errors, ECE)]
        told = f"`{label}`, {what if what == 'clips' else 'single pictures'}"
        lines.append("| " + " | ".join((told, *cells, _wanted([*mine, *boxes, *errors]))) + " |")
    ordinary = markdown([row for row in rows if row.what == "ordinary"])
    return "\n".join([*lines, *(["", ordinary] if ordinary else [])])


def _span(rows: Sequence[Row], name: str) -> str:
    """`0.90-0.95`; one number where all are the same; - where there is none."""
    found = [figure.value for row in rows if (figure := row.figure(name)) is not None]
    if not found:
        return "-"
    digits = {AUC: 4, RECALL: 2, MAP: 2}.get(name, 3)
    ends = [f"{value:.{digits}f}" for value in (min(found), max(found))]
    return "-".join(dict.fromkeys(ends))


def _wanted(rows: Sequence[Row]) -> str:
    """What is wanted, and whether every source reaches it."""
    parts = []
    for name, told in ((AUC, "AUC"), (RECALL, "recall"), (MAP, "mAP"), (ECE, "ECE")):
        found = [figure for row in rows if (figure := row.figure(name)) and figure.target]
        if found:
            reached = sum(bool(figure.reached) for figure in found)
            how = (
                "reached"
                if reached == len(found)
                else f"missed on {len(found) - reached} of {len(found)}"
            )
            parts.append(f"{told} {found[0].target:g}: {how}")
    return "; ".join(parts)


def _table(
    columns: Sequence[str], rows: Sequence[Row], what: Sequence[str], names: Sequence[str]
) -> str:
    mine = [row for row in rows if row.what in what]
    if not mine:
        return ""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in mine:
        counts = f"{row.positives:,} / {row.negatives:,}"
        if row.what == "boxes":
            counts = f"{row.positives:,}"
        if row.what == "ordinary":
            counts = f"{row.negatives:,}"
        cells = [cell(_named(row, name)) for name in names]
        lines.append("| " + " | ".join((row.label, row.left_out, counts, *cells)) + " |")
    return "\n".join(lines)


def _named(row: Row, name: str) -> Figure | None:
    return next((one for one in row.figures if one.name.partition(",")[0] == name), None)


def cell(figure: Figure | None) -> str:
    """The figure, its interval, and what is wanted: bold where it is reached."""
    if figure is None:
        return "-"
    name, _, at = figure.name.partition(",")
    told = str(figure)
    if name in (REVIEW, BLOCK):
        told = f"{figure.value:.2%} ({figure.interval[0]:.2%}-{figure.interval[1]:.2%})"
        told = f"{told}{at}" if at else "never"
    if figure.target is None:
        return told
    sign = "<=" if figure.most else ">="
    wanted = (
        f"{sign} {figure.target:.1%}" if name in (REVIEW, BLOCK) else f"{sign} {figure.target:g}"
    )
    return f"**{told}**, {wanted} reached" if figure.reached else f"{told}, {wanted} missed"


def reaches(left_out: LeftOut) -> str:
    """How many of what was left out reach a score, for each label: Markdown."""
    parts = []
    for label in left_out.labels:
        scores = left_out.of(label)
        scores = scores.where(~scores.twins)
        chance = calibrator_of(left_out, scores)(scores.logits)
        yes, no = chance[scores.truth], chance[~scores.truth]
        lines = [
            f"| {label}: score at least | Shown ({len(yes):,}) | Not ({len(no):,}) |",
            "|---|---|---|",
        ]
        lines += [
            f"| {at} | {np.mean(yes >= at):.3f} | {np.mean(no >= at):.3f} |" for at in REACHES
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def section(
    model: str, left_out: LeftOut, boxes: Sequence[BoxFigure] = (), *, clips: bool = False
) -> str:
    """What the card of one model shows."""
    told = markdown(tuple(figures.rows(model, left_out, boxes, clips=clips)))
    return f"{told}\n\n{reaches(left_out)}" if clips else told


def card(
    text: str,
    model: str,
    left_out: LeftOut,
    boxes: Sequence[BoxFigure] = (),
    *,
    clips: bool = False,
) -> str:
    """The card with its figures replaced. Raises ConfigError where it has no place for them."""
    return filled(text, section(model, left_out, boxes, clips=clips), f"the card of {model}")


def filled(text: str, told: str, where: str) -> str:
    """The document with what stands between the marks replaced. Raises ConfigError where it has
    none."""
    begin = BEGIN.search(text)
    end = text.find(END, begin.end()) if begin else -1
    if begin is None or end < 0:
        raise ConfigError(f"{where} has no place for the figures")
    return f"{text[: begin.end()]}\n\n{told}\n\n{text[end:]}"


def between(text: str) -> str | None:
    """What a document shows between its marks."""
    begin = BEGIN.search(text)
    end = text.find(END, begin.end()) if begin else -1
    return text[begin.end() : end].strip() if begin and end >= 0 else None
