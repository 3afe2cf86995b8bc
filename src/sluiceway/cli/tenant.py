"""`sluiceway tenant`: whose prospects there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store, person_at_terminal, print_json

if TYPE_CHECKING:
    from sluiceway.tenancy.tenants import Tenant

tenants_app = typer.Typer(no_args_is_help=True, help="Make tenants, and keep them out.", rich_markup_mode=None)
app.add_typer(tenants_app, name="tenant")

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id, as files name it.")]


@tenants_app.command("add")
def add(
    tenant: TenantId,
    name: Annotated[str, typer.Option(help="How it is shown. Default: its id.")] = "",
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Make a tenant. Those that a file names in its tenant column are made by `enrich`."""
    from sluiceway.tenancy.tenants import add_tenant

    with opened_store(database) as store, store.writing.begin() as connection:
        made = add_tenant(connection, tenant, name, by=person_at_terminal(), now=store.clock.now())
    _say(made, f"tenant {made.id} is there; `sluiceway user add EMAIL --tenant {made.id}` lets somebody in", as_json)


@tenants_app.command("list")
def list_(as_json: AsJson = False, database: Database = None) -> None:
    """List the tenants."""
    from sluiceway.cli.screen import console, table
    from sluiceway.tenancy.tenants import all_tenants

    with opened_store(database) as store, store.read() as connection:
        found = all_tenants(connection)
    if as_json:
        print_json({"tenants": found})
        return
    made = table("Tenants", "tenant", "name", "since (UTC)", "state", left=4)
    for tenant in found:
        made.add_row(tenant.id, tenant.name, tenant.created_at[:10], _state(tenant))
    console().print(made)


@tenants_app.command("show")
def show(tenant: TenantId, as_json: AsJson = False, database: Database = None) -> None:
    """Show a tenant with its users, its API keys, and for which providers it has keys of its own."""
    from sluiceway.cli.key import keys_table
    from sluiceway.cli.screen import console
    from sluiceway.cli.user import users_table
    from sluiceway.tenancy.credentials import all_credentials
    from sluiceway.tenancy.keys import all_keys
    from sluiceway.tenancy.tenants import tenant_of
    from sluiceway.tenancy.users import all_users

    with opened_store(database) as store, store.read() as connection:
        found = tenant_of(connection, tenant)
        people, keys = all_users(connection, tenant), all_keys(connection, tenant_id=tenant)
        credentials = all_credentials(connection, tenant)
    if as_json:
        print_json({"tenant": found, "users": people, "api_keys": keys, "credentials": credentials})
        return
    screen = console()
    screen.print(f"tenant {found.id} · {found.name} · since {found.created_at[:10]} · {_state(found)}")
    own = ", ".join(credential.provider for credential in credentials)
    screen.print(f"own keys for: {own}" if own else "no keys of its own; the platform's are used")
    screen.print(users_table(people) if people else "No users.")
    if keys:
        screen.print(keys_table(keys, {user.id: user.email for user in people}))


@tenants_app.command("disable")
def disable(tenant: TenantId, as_json: AsJson = False, database: Database = None) -> None:
    """Keep a tenant's users and API keys out, from the next request on; what it has stays."""
    from sluiceway.tenancy.tenants import disable_tenant

    with opened_store(database) as store, store.writing.begin() as connection:
        changed = disable_tenant(connection, tenant, by=person_at_terminal(), now=store.clock.now())
    _say(changed, f"nobody of tenant {tenant} gets in; `sluiceway tenant enable {tenant}` undoes it", as_json)


@tenants_app.command("enable")
def enable(tenant: TenantId, as_json: AsJson = False, database: Database = None) -> None:
    """Let a tenant's users and API keys in again."""
    from sluiceway.tenancy.tenants import enable_tenant

    with opened_store(database) as store, store.writing.begin() as connection:
        changed = enable_tenant(connection, tenant, by=person_at_terminal(), now=store.clock.now())
    _say(changed, f"tenant {tenant} is let in again", as_json)


def _say(tenant: Tenant, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"tenant": tenant})
    else:
        typer.echo(sentence)


def _state(tenant: Tenant) -> str:
    return f"disabled since {tenant.disabled_at[:10]}" if tenant.disabled_at else "let in"
