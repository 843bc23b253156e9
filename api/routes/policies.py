"""Policies: what is in force, what was published, and what other rules would have decided."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api import bodies, policing
from api.auth import AdminKey, ReadKey, ReviewKey
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas import policies as shapes
from api.schemas import whatif
from api.schemas.policies import (
    Draft,
    Policies,
    PolicyFacts,
    PolicyId,
    PublishBody,
    PublishedVersion,
    RollBackBody,
    ShadowFacts,
    Version,
    Versions,
)
from api.schemas.problems import KEYED, problems
from api.schemas.whatif import DraftTried, Last, ShadowReport, VersionTried, WhatIf, WhatIfBody
from api.submitting import as_json
from moderation.errors import NotFoundError
from moderation.policy import Policy
from moderation.store import releases
from moderation.store.judged import LAST
from moderation.store.releases import Published

router = APIRouter(prefix="/v1/policies", tags=["policies"])


@router.get(
    "",
    summary="Policies",
    response_model=None,
    responses={200: shapes.policies(), **problems(*KEYED)},
)
async def list_policies(gateway: GatewayDep, key: ReadKey) -> Response:
    """Names, versions and thresholds of those in force."""
    default = gateway.settings.default_policy
    policies = await in_thread(gateway.policies.of, gateway.db, key.tenant)
    known = sorted(policies.values(), key=lambda policy: policy.ref)
    told = Policies(policies=[PolicyFacts.of(policy, default) for policy in known])
    return as_json(told.model_dump_json())


@router.get(
    "/{policy_id}",
    summary="One policy",
    response_model=None,
    responses={200: shapes.policy(), **problems(*KEYED, 404)},
)
async def get_policy(gateway: GatewayDep, key: ReadKey, policy_id: PolicyId) -> Response:
    """As the next upload is judged by it."""
    policy = await in_thread(policing.in_force, gateway, key.tenant, policy_id)
    return as_json(PolicyFacts.of(policy, gateway.settings.default_policy).model_dump_json())


@router.get(
    "/{policy_id}/versions",
    summary="Versions of a policy",
    response_model=None,
    responses={200: shapes.versions(), **problems(*KEYED, 404)},
)
async def list_versions(gateway: GatewayDep, key: ReadKey, policy_id: PolicyId) -> Response:
    """What was published, by whom and when, with what changed each time. Newest first."""
    known = await in_thread(policing.known, gateway, key.tenant, policy_id)
    return as_json(Versions.of(known.releases).model_dump_json())


@router.post(
    "/{policy_id}/versions",
    summary="Publish a version of a policy",
    status_code=201,
    response_model=None,
    responses={201: shapes.published(), **problems(*KEYED, 404, 408, 409, 413, 415)},
    openapi_extra=shapes.PUBLISH,
)
async def publish_version(
    request: Request, gateway: GatewayDep, key: AdminKey, policy_id: PolicyId
) -> Response:
    """In force at every gateway from the next request on, and for live streams within seconds,
    unless they are pinned to a version. A policy that there is not yet is made."""
    body = await bodies.only_json(request, PublishBody)
    draft = policing.draft(policy_id, body.values())
    call = partial(
        policing.publish,
        gateway,
        key.tenant,
        draft,
        actor=key.id,
        note=body.note,
        based_on=body.based_on,
    )
    return _published(await in_thread(call))


@router.post(
    "/{policy_id}/roll-back",
    summary="Publish an earlier version anew",
    status_code=201,
    response_model=None,
    responses={201: shapes.published(), **problems(*KEYED, 404, 408, 409, 413, 415)},
    openapi_extra=shapes.ROLL_BACK,
)
async def roll_back(
    request: Request, gateway: GatewayDep, key: AdminKey, policy_id: PolicyId
) -> Response:
    """Its rules hold again, under the next number: what was judged names its version for ever."""
    body = await bodies.only_json(request, RollBackBody)
    call = partial(
        policing.roll_back,
        gateway,
        key.tenant,
        policy_id,
        body.version,
        actor=key.id,
        note=body.note,
    )
    return _published(await in_thread(call))


@router.post(
    "/{policy_id}/what-if",
    summary="What other rules would have decided",
    response_model=None,
    responses={200: whatif.what_if(), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=whatif.WHAT_IF,
)
async def what_if(
    request: Request, gateway: GatewayDep, key: ReviewKey, policy_id: PolicyId
) -> Response:
    """Stored scores are decided again, by the version in force and by the draft. No model runs, and
    nothing is changed."""
    body = (await bodies.only_json(request, WhatIfBody)).root

    def compare() -> WhatIf:
        then = _tried(gateway, key.tenant, policy_id, body)
        return _what_if(gateway, key.tenant, policy_id, then, last=body.last, since=body.since)

    told = await in_thread(compare)
    return as_json(told.model_dump_json(by_alias=True))


@router.put(
    "/{policy_id}/shadow",
    summary="Watch rules in shadow",
    response_model=None,
    responses={200: shapes.shadow(), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=shapes.SHADOW,
)
async def put_shadow(
    request: Request, gateway: GatewayDep, key: AdminKey, policy_id: PolicyId
) -> Response:
    """They decide nothing: all that comes in is judged as before, and `GET` tells what they would
    have decided."""
    draft = policing.draft(policy_id, (await bodies.only_json(request, Draft)).values())

    def watch() -> ShadowFacts:
        policing.in_force(gateway, key.tenant, policy_id)
        return ShadowFacts.of(releases.watch(gateway.db, key.tenant, draft, actor=key.id))

    return as_json((await in_thread(watch)).model_dump_json())


@router.get(
    "/{policy_id}/shadow",
    summary="What rules in shadow would have decided",
    response_model=None,
    responses={200: whatif.shadow_report(), **problems(*KEYED, 404)},
)
async def get_shadow(
    gateway: GatewayDep, key: ReviewKey, policy_id: PolicyId, last: Last = LAST
) -> Response:
    """Of all that came since they are watched, the newest items."""

    def report() -> ShadowReport:
        shadow = policing.known(gateway, key.tenant, policy_id).shadow
        if shadow is None:
            raise NotFoundError(f"No rules of {policy_id} are watched in shadow.")
        told = _what_if(
            gateway, key.tenant, policy_id, shadow.policy, last=last, since=shadow.since
        )
        return ShadowReport(shadow=ShadowFacts.of(shadow), what_if=told)

    return as_json((await in_thread(report)).model_dump_json(by_alias=True))


@router.delete(
    "/{policy_id}/shadow",
    summary="Watch rules in shadow no more",
    status_code=204,
    response_model=None,
    responses={204: {"description": "Nothing is watched"}, **problems(*KEYED, 404)},
)
async def delete_shadow(gateway: GatewayDep, key: AdminKey, policy_id: PolicyId) -> Response:
    """The version in force stays."""
    call = partial(releases.unwatch, gateway.db, key.tenant, policy_id, actor=key.id)
    await in_thread(call)
    return Response(status_code=204)


def _tried(
    gateway: Gateway, tenant: str, policy_id: str, body: DraftTried | VersionTried
) -> Policy:
    if isinstance(body, VersionTried):
        return policing.named(gateway, tenant, policy_id, body.version)
    return policing.draft(policy_id, body.draft.values())


def _what_if(gateway: Gateway, tenant: str, policy_id: str, then: Policy, **options: Any) -> WhatIf:
    told = policing.compare(gateway, tenant, policy_id, then, **options)
    return WhatIf.of(told, policing.unanswered(gateway.workers.get(), then))


def _published(release: Published) -> Response:
    told = Version.of(release, None).model_dump()
    answer = PublishedVersion(**told, streams=release.streams)
    where = {"Location": f"/v1/policies/{release.policy.id}"}
    return as_json(answer.model_dump_json(), status=201, headers=where)
