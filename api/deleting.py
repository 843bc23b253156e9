"""An item is deleted: what the API and the console share."""

from __future__ import annotations

import logging

from api.deps import Gateway
from moderation.errors import ServiceError
from moderation.store import deletion

log = logging.getLogger(__name__)


def delete_item(gateway: Gateway, tenant: str, item_id: str, *, actor: str) -> None:
    """Its rows at once, its bytes now or by the sweeper. Raises NotFoundError, ConflictError
    (job_running), StoreError."""
    deleted = deletion.delete_item(gateway.db, tenant, item_id, actor=actor)
    try:
        for removal in deleted.removals:
            deletion.remove(gateway.db, gateway.blobs, removal)
    except ServiceError as error:
        log.warning("bytes of %s are left to the sweeper: %s", item_id, error)
