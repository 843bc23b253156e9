"""What there is to choose from: the models that are loaded, and labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import ReadKey
from api.deps import GatewayDep, in_thread
from api.schemas.answers import LabelFacts, Labels, ModelFacts, Models
from api.schemas.problems import KEYED, problems
from moderation.labels import LABELS
from moderation.store.records import WorkerRow

router = APIRouter(prefix="/v1", tags=["catalog"])


@router.get(
    "/models",
    summary="Models",
    response_model=None,
    responses={
        200: {"model": Models, "description": "The models that ready workers have loaded"},
        **problems(*KEYED),
    },
)
async def list_models(gateway: GatewayDep, key: ReadKey) -> Response:
    """Facts of each loaded model: labels, licence, device, precision."""
    workers = await in_thread(gateway.workers.get)
    told = Models(models=loaded(workers))
    return Response(told.model_dump_json(), media_type="application/json")


@router.get(
    "/labels",
    summary="Labels",
    response_model=None,
    responses={
        200: {"model": Labels, "description": "What policies may name, and who answers it"},
        **problems(*KEYED),
    },
)
async def list_labels(gateway: GatewayDep, key: ReadKey) -> Response:
    """Every label with a name, whether a loaded model answers it, and how well that is known."""
    workers = await in_thread(gateway.workers.get)
    told = Labels(labels=answered(workers))
    return Response(told.model_dump_json(), media_type="application/json")


def answered(workers: Iterable[WorkerRow]) -> list[LabelFacts]:
    """The known labels, and those that only loaded models know; by name."""
    by_label: dict[str, set[str]] = {label.name: set() for label in LABELS}
    for worker in workers:
        for model in worker.models:
            for name in model.get("labels", ()):
                by_label.setdefault(name, set()).add(f"{model['id']}@{model['version']}")
    known = {label.name: label for label in LABELS}
    return [
        LabelFacts(
            label=name,
            category=name.partition(".")[0],
            summary=known[name].summary if name in known else None,
            accuracy=known[name].accuracy if name in known else "unmeasured",
            models=sorted(by_label[name]),
        )
        for name in sorted(by_label)
    ]


def loaded(workers: Iterable[WorkerRow]) -> list[ModelFacts]:
    """Each model once, by id and version, with the number of workers that have it."""
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for worker in workers:
        for model in worker.models:
            entry = facts.setdefault(
                (str(model["id"]), str(model["version"])), {**model, "workers": 0}
            )
            entry["workers"] += 1
    return [ModelFacts.model_validate(facts[name]) for name in sorted(facts)]
