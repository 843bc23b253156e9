"""`moderation thresholds`: what a miss, a look and a wrong block are worth -> thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.cli.out import EXIT_OK, Config, Json, answer, note, table
from moderation.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moderation.models.training.limits import LimitsReport
    from moderation.models.training.thresholds import Limits


LEAST = 20
"""Sources of fewer are in the JSON alone."""


def thresholds(
    policy: Annotated[
        str, typer.Option(help="Whose rules; `strict` and `lenient` have costs of their own.")
    ] = "default",
    prevalence: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.5, help="Share of pictures that show a label. Default 0.01."),
    ] = None,
    miss: Annotated[
        float | None,
        typer.Option(min=0.0, help="What a miss costs, in needless looks. Default 20."),
    ] = None,
    wrong_block: Annotated[
        float | None,
        typer.Option(min=1.0, help="What a wrong block costs, in needless looks. Default 50."),
    ] = None,
    max_review: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Most of ordinary pictures shown, all labels. Default 0.02."
        ),
    ] = None,
    max_block: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Most of ordinary pictures blocked, all labels. Default 0.001."
        ),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Judge the policy's own thresholds; choose none.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put the thresholds into the policy's file.")
    ] = False,
    settings_file: Config = None,
    json: Json = False,
) -> int:
    """Choose the thresholds of a policy by a stated cost, on scores of sources left out.

    All labels share what may be shown of ordinary pictures. Nothing is scored: the scores that
    training kept beside the models are counted. Labels whose recall nobody could measure keep
    their thresholds, and what they show counts.
    """
    from moderation.models.spec import read_specs
    from moderation.models.training.leftout import read_measured
    from moderation.models.training.limits import choose_kept, gather, judge_limits, limits_of
    from moderation.models.training.ordinary import read_ordinary
    from moderation.models.training.thresholds import PRESETS, Costs
    from moderation.policy import SHIPPED, choose_policy, load_policies
    from moderation.settings import load_settings

    if as_is and write:
        raise ConfigError("--as-is chooses nothing that --write could write")
    settings = load_settings(settings_file)
    found = choose_policy(load_policies(settings.policy_dir), policy)
    told = {
        "prevalence": prevalence,
        "miss": miss,
        "wrong_block": wrong_block,
        "max_review": max_review,
        "max_block": max_block,
    }
    costs = replace(
        PRESETS.get(found.id, Costs()),
        **{name: value for name, value in told.items() if value is not None},
    )
    folder = settings.manifests
    material = gather(read_measured(read_specs(folder), folder), read_ordinary(folder))
    rules = limits_of(found)
    choice = None if as_is else choose_kept(material, rules, costs)
    limits = rules if choice is None else choice.limits
    report = judge_limits(material, limits, found.ref, costs, choice)
    if write:
        _write(found.id, limits, [one for one in (settings.policy_dir, SHIPPED) if one])
    if json:
        answer(report.to_json())
    else:
        _show(report)
    return EXIT_OK


def _write(policy: str, limits: Sequence[Limits], folders: Sequence[Path]) -> None:
    """New numbers in the file that holds the policy. Raises ConfigError."""
    from moderation.models.training.policy_file import with_limits
    from moderation.policy import parse_policy

    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            text = path.read_text("utf-8")
            if parse_policy(text, name=path.name).id != policy:
                continue
            changed = with_limits(text, limits)
            if changed != text:
                try:
                    path.write_text(changed, "utf-8")
                except OSError as error:
                    raise ConfigError(f"cannot write {path}: {error}") from error
            note(f"{path}: {'written' if changed != text else 'nothing to change'}")
            return
    raise ConfigError(f"no file holds the policy {policy}")


def _show(report: LimitsReport) -> None:
    lines = []
    for row in report.rows:
        if not row.found and row.false is None:
            continue  # nothing is known of it
        of_all = "-" if row.recall is None else f"{row.recall:.3f}"
        of_block = "-" if row.recall_block is None else f"{row.recall_block:.3f}"
        false = "-" if row.false is None else f"{row.false.review.share:.2%}"
        wrong = "-" if row.false is None else f"{row.false.block.share:.2%}"
        at = (_at(row.review_at), _at(row.block_at) + (" and a box" if row.evidence else ""))
        lines.append((row.label, row.what, "weighed", "-", *at, of_all, of_block, false, wrong))
        lines += [
            (
                *(row.label, row.what, one.source, str(one.review.count), *at),
                *(str(one.review), str(one.block), "", ""),
            )
            for one in row.found
            if one.review.count >= LEAST
        ]
    table(
        (
            *("label", "what", "left out", "count", "review at", "block at"),
            *("found (95 %)", "of it blocked (95 %)", "others shown", "others blocked"),
        ),
        lines,
    )
    table(
        ("ordinary pictures, all labels", "count", "review or block (95 %)", "block (95 %)"),
        [
            (one.source, str(one.review.count), str(one.review), str(one.block))
            for one in report.joint
        ],
    )
    costs = report.costs
    note(
        f"policy {report.policy}: {100 * costs.prevalence:g} % show a label, a miss costs "
        f"{costs.miss:g} looks, a wrong block {costs.wrong_block:g}; at most "
        f"{100 * costs.max_review:g} % of ordinary pictures shown, {100 * costs.max_block:g} % "
        f"blocked; expected cost {report.cost:.4f} looks a picture"
    )


def _at(threshold: float | None) -> str:
    return "never" if threshold is None else f"{threshold:g}"
