"""`sluiceway key`: API keys, by which programs act for users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store, person_at_terminal, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from sluiceway.tenancy.keys import ApiKey

keys_app = typer.Typer(no_args_is_help=True, help="Make and revoke API keys.", rich_markup_mode=None)
app.add_typer(keys_app, name="key")


@keys_app.command("add")
def add(
    user: Annotated[str, typer.Option("--user", metavar="EMAIL", help="For whom the key acts, with the user's role.")],
    name: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "",
    test: Annotated[
        bool, typer.Option("--test", help="Only reach the sandbox: nothing it does asks a real provider.")
    ] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Make an API key and print it, once: only a hash of it is kept."""
    from sluiceway.errors import BadInput
    from sluiceway.tenancy.keys import KeyKind, issue_key
    from sluiceway.tenancy.users import user_of

    with opened_store(database) as store, store.writing.begin() as connection:
        whose = user_of(connection, user)
        if whose.disabled_at:
            raise BadInput(f"{whose.email} is disabled; `sluiceway user enable {whose.email}` first")
        kind = KeyKind.TEST if test else KeyKind.LIVE
        issued = issue_key(connection, whose, kind, name, by=person_at_terminal(), now=store.clock.now())
    if as_json:
        print_json({"api_key": issued.key, "text": issued.text})
        return
    typer.echo(issued.text)
    typer.echo(f"(of {whose.email}, {whose.role}; it is not shown again)", err=True)


@keys_app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only one tenant's.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="EMAIL", help="Only one user's.")] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """List the API keys with their visible beginnings, when each was last used, and which are revoked."""
    from sluiceway.cli.screen import console
    from sluiceway.tenancy.keys import all_keys
    from sluiceway.tenancy.tenants import tenant_of
    from sluiceway.tenancy.users import all_users, user_of

    with opened_store(database) as store, store.read() as connection:
        if tenant is not None:
            tenant_of(connection, tenant)
        whose = user_of(connection, user).id if user is not None else None
        found = all_keys(connection, tenant_id=tenant, user_id=whose)
        emails = {each.id: each.email for each in all_users(connection)}
    if as_json:
        print_json({"api_keys": found})
    else:
        console().print(keys_table(found, emails) if found else "No keys. `sluiceway key add --user EMAIL` makes one.")


def keys_table(keys: Sequence[ApiKey], emails: Mapping[str, str]) -> Table:
    """Show keys as a table."""
    from sluiceway.cli.screen import table

    made = table("API keys", "key", "for", "user", "tenant", "last used (UTC)", "state", left=6)
    for key in keys:
        last = (key.last_used_at or "never")[:16].replace("T", " ")
        state = f"revoked {key.revoked_at[:10]}" if key.revoked_at else "sandbox only" if key.kind == "test" else ""
        made.add_row(f"{key.prefix}…", key.name, emails.get(key.user_id, ""), key.tenant_id or "", last, state)
    return made


@keys_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its visible beginning (slw_live_…), or its id.")],
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Revoke an API key, from the next request on."""
    from sluiceway.tenancy.keys import revoke_key

    with opened_store(database) as store, store.writing.begin() as connection:
        revoked = revoke_key(connection, key.rstrip("…"), by=person_at_terminal(), now=store.clock.now())
    if as_json:
        print_json({"api_key": revoked})
    else:
        typer.echo(f"{revoked.prefix}… is revoked")
