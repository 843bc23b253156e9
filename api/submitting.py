"""What submissions of pictures and videos share: their parameters, and how they are answered."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import Depends
from starlette.responses import Response

from api.auth import WriteKey
from api.deps import Gateway, GatewayDep, in_thread
from api.ingest import IMAGE, VIDEO, Options, publish
from api.schemas import params
from api.schemas.answers import Accepted
from api.wait import verdict_within
from moderation.errors import InputError, PolicyError
from moderation.policy import Policy
from moderation.store import items
from moderation.store.records import Submission
from moderation.types import Verdict

RETRY_AFTER_S: Final = 1
"""Hint of a 202: the verdict of a picture usually takes less."""

Answer = Verdict | Accepted


async def options_of(
    gateway: GatewayDep,
    key: WriteKey,
    policy: params.PolicyName = None,
    data_id: params.DataId = None,
    callback_url: params.CallbackUrl = None,
    priority: params.Priority = 0,
    dedupe: params.Dedupe = True,
    idempotency_key: params.IdempotencyKey = None,
) -> Options:
    """The parameters of a submission. Raises InputError for an unknown policy."""
    return Options(
        policy=await policy_named(gateway, key.tenant, policy),
        policy_name=policy or gateway.settings.default_policy,
        data_id=data_id,
        callback_url=callback_url,
        priority=priority,
        dedupe=dedupe,
        idempotency_key=idempotency_key,
    )


async def policy_named(gateway: Gateway, tenant: str, name: str | None) -> Policy:
    """The policy that a request names, as it is in force, or the default. Raises InputError
    (policy_unknown)."""
    wanted = name or gateway.settings.default_policy
    try:
        return await in_thread(gateway.policies.named, gateway.db, tenant, wanted)
    except PolicyError as error:
        if name is None:
            raise  # the operator's default is wrong, not the request
        raise InputError(error.message, code="policy_unknown") from error


def pins(gateway: Gateway, name: str | None) -> bool:
    """Whether a request names one version of a policy, and means none that come later."""
    return "@" in (name or gateway.settings.default_policy)


async def seconds_to_wait(gateway: GatewayDep, wait: params.Wait = None) -> float:
    """`wait`, or the default, cut to the gateway's maximum."""
    settings = gateway.settings
    return min(settings.wait_default if wait is None else wait, settings.wait_max)


OptionsDep = Annotated[Options, Depends(options_of)]
WaitDep = Annotated[float, Depends(seconds_to_wait)]


async def answer(
    gateway: Gateway, submission: Submission, options: Options, seconds: float
) -> Answer:
    """The verdict within `seconds`, or what was accepted."""
    if submission.verdict is not None:
        return submission.verdict
    job_id = submission.job_id
    kind = IMAGE if options.video is None else VIDEO
    first = (
        partial(items.verdict_of_job, gateway.db, job_id)
        if submission.replayed or submission.follows
        else partial(publish, gateway, kind, job_id, options.priority)
    )
    verdict = await verdict_within(gateway, job_id, seconds, first)
    return verdict or Accepted(id=submission.item_id, job_id=job_id, status=submission.state)


def respond(told: Answer) -> Response:
    """200 with the verdict, or 202."""
    location = {"Location": f"/v1/items/{told.id}"}
    if isinstance(told, Verdict):
        return as_json(told.model_dump_json(), headers=location)
    later = location | {"Retry-After": str(RETRY_AFTER_S)}
    return as_json(told.model_dump_json(), status=202, headers=later)


def as_json(text: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text, status, headers=headers, media_type="application/json")
