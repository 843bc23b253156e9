"""`moderation users create | list | change`, straight in the database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moderation.cli.database import opened
from moderation.cli.out import Config, Json, answer, new_group, note, table
from moderation.errors import InputError

if TYPE_CHECKING:
    from moderation.store.review_records import AccountRow

group = new_group("People who sign in to the console.")

RoleName = Annotated[
    str, typer.Option("--role", help="viewer, reviewer, lead or admin: each may do more.")
]
FromInput = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Read the password from standard input; without: make one."
    ),
]
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits, '.', '_' and '-'.")]


@group.command("create")
def create(
    name: Name,
    role: RoleName = "reviewer",
    tenant: Annotated[str, typer.Option(help="Whose items the user sees.")] = "default",
    password_stdin: FromInput = False,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Make an account and print its password, where it was made: the only time it is shown."""
    from moderation import passwords
    from moderation.store import accounts

    chosen = _role(role)
    given = _read() if password_stdin else None
    password = given or passwords.made()
    with opened(settings_file) as db:
        row = accounts.create(db, tenant=tenant, name=name, role=chosen, password=password)
    _tell(row, None if given else password, json)


@group.command("list")
def list_(settings_file: Config = None, json: Json = False) -> None:
    """All accounts."""
    from moderation.store import accounts

    with opened(settings_file) as db:
        rows = accounts.listed(db)
    if json:
        answer([_public(row) for row in rows])
        return
    table(
        ("name", "tenant", "role", "signs in by", "last sign-in", "state"),
        [
            (
                row.name,
                row.tenant,
                row.role.value,
                "identity provider" if row.external else "password",
                row.seen.isoformat(timespec="minutes") if row.seen else "never",
                "disabled" if row.disabled else "in use",
            )
            for row in rows
        ],
    )


@group.command("change")
def change(
    name: Name,
    role: Annotated[str | None, typer.Option(help="The new role.")] = None,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Let nobody in, or let in again.")
    ] = None,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Make a password and print it; unlocks.")
    ] = False,
    password_stdin: FromInput = False,
    settings_file: Config = None,
    json: Json = False,
) -> None:
    """Change a role, disable, or give a new password. Signs the user out."""
    from moderation import passwords
    from moderation.store import accounts

    if role is None and disable is None and not (new_password or password_stdin):
        raise InputError("Say what to change: --role, --disable, --enable or --new-password.")
    given = _read() if password_stdin else None
    made = passwords.made() if new_password and given is None else None
    with opened(settings_file) as db:
        row = accounts.change(
            db,
            accounts.named(db, name).id,
            role=None if role is None else _role(role),
            disabled=disable,
            password=given or made,
        )
    _tell(row, made, json)


def _tell(row: AccountRow, made: str | None, json: bool) -> None:
    if json:
        answer(_public(row) | ({} if made is None else {"password": made}))
        return
    note(f"{row.name}: {row.role.value} of tenant {row.tenant}")
    if made is not None:
        typer.echo(made)


def _read() -> str:
    """The first line of standard input. Raises InputError."""
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise InputError("There is no password on standard input.")
    return password


def _role(name: str) -> Any:
    from moderation.store.review_records import Role

    try:
        return Role(name)
    except ValueError as error:
        raise InputError("A role is viewer, reviewer, lead or admin.") from error


def _public(row: AccountRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "tenant": row.tenant,
        "role": row.role.value,
        "disabled": row.disabled,
        "external": row.external,
        "created": row.created.isoformat(),
        "seen": row.seen.isoformat() if row.seen else None,
    }
