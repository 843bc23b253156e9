"""What there is to choose from: policies, and the models that are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import ReadKey
from api.deps import GatewayDep, in_thread
from api.schemas.answers import ModelFacts, Models, Policies, PolicyFacts
from api.schemas.problems import KEYED, problems
from moderation.store.records import WorkerRow

router = APIRouter(prefix="/v1", tags=["catalog"])


@router.get(
    "/policies",
    summary="Policies",
    response_model=None,
    responses={
        200: {"model": Policies, "description": "All policies of this gateway"},
        **problems(*KEYED),
    },
)
async def list_policies(gateway: GatewayDep, key: ReadKey) -> Response:
    """Names, versions and thresholds."""
    default = gateway.settings.default_policy
    known = sorted(gateway.policies.values(), key=lambda policy: policy.ref)
    told = Policies(policies=[PolicyFacts.of(policy, default) for policy in known])
    return Response(told.model_dump_json(), media_type="application/json")


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
