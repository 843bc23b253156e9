"""Policies are read, tried and published: what the API and the console share. Blocking calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from api.deps import Gateway
from moderation.errors import ConflictError, InputError, NotFoundError, PolicyError
from moderation.policy import Policy, rules_without_model
from moderation.store import judged, releases
from moderation.store.records import WorkerRow
from moderation.store.releases import Published, Release, Shadow
from moderation.whatif import Comparison


@dataclass(frozen=True, slots=True)
class Known:
    """A policy in force. releases: newest first; none where its file alone says what it is. shadow:
    what is watched beside it."""

    policy: Policy
    releases: tuple[Release, ...]
    shadow: Shadow | None


def in_force(gateway: Gateway, tenant: str, policy_id: str) -> Policy:
    """Raises NotFoundError, StoreError."""
    found = gateway.policies.of(gateway.db, tenant).get(policy_id)
    if found is None:
        raise NotFoundError(f"There is no policy {policy_id}.")
    return found


def known(gateway: Gateway, tenant: str, policy_id: str) -> Known:
    """Raises NotFoundError, StoreError."""
    policy = in_force(gateway, tenant, policy_id)
    return Known(
        policy,
        releases.history(gateway.db, tenant, policy_id),
        releases.shadows(gateway.db, tenant).get(policy_id),
    )


def draft(policy_id: str, values: dict[str, Any]) -> Policy:
    """A policy that has no version yet. Raises InputError (policy_invalid), in one line."""
    try:
        return Policy.model_validate({**values, "id": policy_id, "version": 1})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {words}" if where else words, code="policy_invalid") from error


def compare(
    gateway: Gateway,
    tenant: str,
    policy_id: str,
    then: Policy,
    *,
    last: int = judged.LAST,
    since: datetime | None = None,
) -> Comparison:
    """What a draft would have decided of the last items, in place of what is in force. Raises
    NotFoundError, StoreError."""
    now = in_force(gateway, tenant, policy_id)
    return judged.compare(gateway.db, tenant, now, then, last=last, since=since)


def publish(
    gateway: Gateway,
    tenant: str,
    new: Policy,
    *,
    actor: str,
    note: str | None,
    based_on: int | None,
) -> Published:
    """Puts a draft in force, everywhere, for what comes from now on. based_on: the version that its
    author has seen; None: whatever is in force.

    Raises ConflictError (policy_changed) where another one is in force, InputError (policy_same),
    StoreError.
    """
    base = gateway.policies.of(gateway.db, tenant).get(new.id)
    seen = None if base is None else base.version
    if based_on is not None and based_on != seen:
        raise ConflictError(
            f"{new.id} is at version {seen}, not {based_on}: look at it first.",
            code="policy_changed",
        )
    return releases.publish(gateway.db, tenant, new, base=base, actor=actor, note=note)


def roll_back(
    gateway: Gateway, tenant: str, policy_id: str, version: int, *, actor: str, note: str | None
) -> Published:
    """Publishes the rules of an earlier version anew. Raises NotFoundError, InputError
    (policy_same), ConflictError, StoreError."""
    base = in_force(gateway, tenant, policy_id)
    wanted = named(gateway, tenant, policy_id, version)
    return releases.publish(
        gateway.db, tenant, wanted, base=base, actor=actor, note=note, restores=version
    )


def named(gateway: Gateway, tenant: str, policy_id: str, version: int) -> Policy:
    """A version of a policy. Raises NotFoundError, StoreError."""
    try:
        return gateway.policies.named(gateway.db, tenant, f"{policy_id}@{version}")
    except PolicyError as error:
        raise NotFoundError(error.message) from error


def unanswered(workers: Iterable[WorkerRow], policy: Policy) -> list[str]:
    """Labels of rules that are not optional and that no loaded model answers: `on_failure` decides
    in their place, of everything. Nothing while no worker is there to tell."""
    labels = {label for worker in workers for model in worker.models for label in model["labels"]}
    return rules_without_model([policy], sorted(labels)).get(policy.ref, []) if labels else []
