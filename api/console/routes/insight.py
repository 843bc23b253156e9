"""How the work goes: volumes, automation, agreement with the models, what they miss, whether their
scores are as they were, time per decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Lead
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from moderation.policy import Policy
from moderation.store import insight, reviews, score_samples
from moderation.store.records import WorkerRow
from moderation.store.score_samples import Limits

router = APIRouter(route_class=ConsoleRoute)

Days = Annotated[int, Query(ge=1, le=90)]


@router.get("/insight")
async def insight_page(
    request: Request, gateway: GatewayDep, who: Lead, days: Days = 30
) -> Response:
    tenant = who.account.tenant
    usual = gateway.settings.default_policy
    policy = await in_thread(gateway.policies.named, gateway.db, tenant, usual)
    found = await in_thread(partial(insight.insight, days=days), gateway.db, tenant)
    workers = await in_thread(gateway.workers.get)
    drift = await in_thread(
        score_samples.drifts, gateway.db, tenant, limits_of(policy), answers_of(workers)
    )
    return pages.render(
        request,
        "insight.html",
        who,
        found=found,
        most=max((day.total for day in found.days), default=0),
        days=days,
        share=gateway.settings.audit_share,
        drift=drift,
        most_of_a_slot=score_samples.OF_A_SLOT,
        policy=policy,
        counts=await in_thread(reviews.counts, gateway.db, tenant, who.account.id),
        names=await in_thread(names_of, gateway.db, tenant),
    )


def limits_of(policy: Policy) -> Limits:
    return {rule.label: (rule.review_at, rule.block_at) for rule in policy.rules}


def answers_of(workers: Iterable[WorkerRow]) -> Mapping[str, frozenset[str]]:
    """The labels of each model that living workers have loaded, by its id; of two versions, those
    of both."""
    found: dict[str, frozenset[str]] = {}
    for worker in workers:
        for model in worker.models:
            known = found.get(str(model["id"]), frozenset())
            found[str(model["id"])] = known | {str(one) for one in model.get("labels", ())}
    return found
