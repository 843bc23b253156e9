"""`moderation keys create | list | revoke`, straight in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from moderation.cli.database import opened
from moderation.cli.out import Config, Json, answer, new_group, note, table

if TYPE_CHECKING:
    from moderation.store.records import KeyRow

group = new_group("API keys. A key's secret is shown once and stored as a hash.")

DEFAULT_SCOPES = ["media:write", "results:read"]


@group.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="media:write, results:read, review:write or admin; may be repeated."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose data the key sees.")] = "default",
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Make a key and print it: the only time it is shown."""
    from moderation.store.keys import create_key

    with opened(settings_file) as db:
        row, secret = create_key(
            db, tenant=tenant, name=name, scopes=frozenset(scope or DEFAULT_SCOPES)
        )
    if json:
        answer(_public(row) | {"key": secret})
    else:
        note(f"key {row.id} of tenant {row.tenant}: {', '.join(sorted(row.scopes))}")
        typer.echo(secret)


@group.command("list")
def list_(settings_file: Config = None, json: Json = False) -> None:
    """All keys, without their secrets."""
    from moderation.store.keys import list_keys

    with opened(settings_file) as db:
        rows = list_keys(db)
    if json:
        answer([_public(row) for row in rows])
        return
    table(
        ("id", "tenant", "name", "scopes", "last used", "state"),
        [
            (
                row.id,
                row.tenant,
                row.name,
                ", ".join(sorted(row.scopes)),
                row.last_used.isoformat(timespec="minutes") if row.last_used else "never",
                "revoked" if row.revoked else "in use",
            )
            for row in rows
        ],
    )


@group.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")],
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Refuse a key from now on."""
    from moderation.store.keys import revoke_key

    with opened(settings_file) as db:
        revoke_key(db, key_id)
    if json:
        answer({"id": key_id, "revoked": True})
    else:
        note(f"key {key_id} is revoked")


def _public(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "scopes": sorted(row.scopes),
        "created": row.created.isoformat(),
        "last_used": row.last_used.isoformat() if row.last_used else None,
        "revoked": row.revoked.isoformat() if row.revoked else None,
    }
