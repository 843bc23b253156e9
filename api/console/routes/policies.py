"""Policies: rules are tried on what was judged already, watched in shadow, published, restored."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import policing
from api.console import pages
from api.console.access import FormDep, Lead, Viewer, Visitor
from api.console.drafts import COUNTS, NAMES, NUMBERS, DraftForm
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.deps import Gateway, GatewayDep, in_thread
from moderation.errors import ConflictError, InputError
from moderation.labels import LABELS
from moderation.policy_diff import changes, in_words
from moderation.store import releases
from moderation.store.judged import LAST, MAX_LAST
from moderation.whatif import Comparison

router = APIRouter(route_class=ConsoleRoute)

PolicyId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


@router.get("/policies")
async def policies_page(request: Request, gateway: GatewayDep, who: Viewer) -> Response:
    tenant = who.account.tenant
    found = await in_thread(gateway.policies.of, gateway.db, tenant)
    return pages.render(
        request,
        "policies.html",
        who,
        policies=[found[name] for name in sorted(found)],
        shadows=await in_thread(releases.shadows, gateway.db, tenant),
        default=gateway.settings.default_policy.partition("@")[0],
        in_words=in_words,
    )


@router.get("/policies/{policy_id}")
async def policy_page(
    request: Request,
    gateway: GatewayDep,
    who: Viewer,
    policy_id: PolicyId,
    version: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    shadow: bool = False,
) -> Response:
    """version: its rules to begin with, in place of those in force. shadow: those that are watched,
    with what they would have decided."""

    def begin() -> tuple[DraftForm, Comparison | None]:
        tenant = who.account.tenant
        known = policing.known(gateway, tenant, policy_id)
        base = known.policy.version
        if shadow and known.shadow is not None:
            told = policing.compare(
                gateway, tenant, policy_id, known.shadow.policy, since=known.shadow.since
            )
            return DraftForm.of_policy(known.shadow.policy, based_on=base), told
        start = known.policy
        if version is not None:
            start = policing.named(gateway, tenant, policy_id, version)
        return DraftForm.of_policy(start, based_on=base), None

    form, told = await in_thread(begin)
    return await _page(request, gateway, who, policy_id, form, told=told, watched=shadow)


@router.post("/policies/{policy_id}/what-if")
async def try_draft(
    request: Request, gateway: GatewayDep, who: Lead, policy_id: PolicyId, form: FormDep
) -> Response:
    """Nothing is changed. What cannot be tried is told beside what was typed."""
    typed = DraftForm.of_form(form)

    def compare() -> Comparison:
        then = typed.policy(policy_id)
        return policing.compare(gateway, who.account.tenant, policy_id, then, last=typed.items())

    try:
        told = await in_thread(compare)
    except InputError as error:
        return await _page(request, gateway, who, policy_id, typed, wrong=error)
    return await _page(request, gateway, who, policy_id, typed, told=told)


@router.post("/policies/{policy_id}/publish")
async def publish(
    request: Request, gateway: GatewayDep, who: Lead, policy_id: PolicyId, form: FormDep
) -> Response:
    """In force for the next upload."""
    typed = DraftForm.of_form(form)

    def release() -> int:
        policing.in_force(gateway, who.account.tenant, policy_id)
        done = policing.publish(
            gateway,
            who.account.tenant,
            typed.policy(policy_id),
            actor=who.account.id,
            note=typed.note or None,
            based_on=typed.version(),
        )
        return done.policy.version

    try:
        made = await in_thread(release)
    except InputError as error:
        return await _page(request, gateway, who, policy_id, typed, wrong=error)
    return pages.see(f"/policies/{policy_id}", published=str(made))


@router.post("/policies/{policy_id}/shadow")
async def watch(
    request: Request, gateway: GatewayDep, who: Lead, policy_id: PolicyId, form: FormDep
) -> Response:
    """Held against what comes in from now on; decides nothing."""
    typed = DraftForm.of_form(form)

    def begin() -> None:
        policing.in_force(gateway, who.account.tenant, policy_id)
        draft = typed.policy(policy_id)
        releases.watch(gateway.db, who.account.tenant, draft, actor=who.account.id)

    try:
        await in_thread(begin)
    except InputError as error:
        return await _page(request, gateway, who, policy_id, typed, wrong=error)
    return pages.see(f"/policies/{policy_id}")


@router.post("/policies/{policy_id}/shadow/end")
async def unwatch(gateway: GatewayDep, who: Lead, policy_id: PolicyId) -> Response:
    call = partial(releases.unwatch, actor=who.account.id)
    await in_thread(call, gateway.db, who.account.tenant, policy_id)
    return pages.see(f"/policies/{policy_id}")


@router.post("/policies/{policy_id}/roll-back")
async def roll_back(gateway: GatewayDep, who: Lead, policy_id: PolicyId, form: FormDep) -> Response:
    """The rules of an earlier version, under the next number."""
    version = form.get("version", 7)
    if not (version.isascii() and version.isdigit()):
        raise InputError("Name a version.")
    note = form.get("note", releases.MAX_NOTE) or None
    call = partial(policing.roll_back, actor=who.account.id, note=note)
    done = await in_thread(call, gateway, who.account.tenant, policy_id, int(version))
    return pages.see(f"/policies/{policy_id}", published=str(done.policy.version))


async def _page(
    request: Request,
    gateway: Gateway,
    who: Visitor,
    policy_id: str,
    form: DraftForm,
    *,
    told: Comparison | None = None,
    watched: bool = False,
    wrong: InputError | None = None,
) -> Response:
    tenant = who.account.tenant
    known = await in_thread(policing.known, gateway, tenant, policy_id)
    used = {row.label for row in form.rules}
    workers = await in_thread(gateway.workers.get)
    return pages.render(
        request,
        "policy.html",
        who,
        # What somebody else published meanwhile is shown, and typed rules are kept.
        status=200 if wrong is None else wrong.status,
        policy=known.policy,
        shadow=known.shadow,
        shadow_changes=() if known.shadow is None else changes(known.policy, known.shadow.policy),
        history=[
            (one, () if old is None else changes(old, one.policy))
            for one, old in releases.with_previous(known.releases)
        ],
        form=form if wrong is None or not isinstance(wrong, ConflictError) else _anew(form, known),
        told=told,
        watched=watched and told is not None,
        wrong=wrong,
        unanswered=[] if told is None else policing.unanswered(workers, told.then),
        labels=[one.name for one in LABELS if one.name not in used],
        names=await in_thread(names_of, gateway.db, tenant),
        numbers=NUMBERS,
        counts=COUNTS,
        field_names=NAMES,
        most=MAX_LAST,
        usual=LAST,
        published=request.query_params.get("published"),
    )


def _anew(form: DraftForm, known: policing.Known) -> DraftForm:
    """What was typed, on top of what is in force now: whoever sends it again has seen it."""
    return replace(form, based_on=str(known.policy.version))
