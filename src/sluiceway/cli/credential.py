"""`sluiceway credential`: tenants' own keys for providers."""

from __future__ import annotations

from typing import Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import (
    AsJson,
    Database,
    known_provider,
    opened_store,
    person_at_terminal,
    print_json,
    reading_settings,
    secret_given,
    store_of,
)
from sluiceway.errors import BadInput

credentials_app = typer.Typer(
    no_args_is_help=True, help="Let a tenant use its own key for a provider.", rich_markup_mode=None
)
app.add_typer(credentials_app, name="credential")

Provider = Annotated[str, typer.Argument(help="Whose key: apollo, contactout, exa, claude, …")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose own key it is.")]


@credentials_app.command("set")
def set_(provider: Provider, tenant: TenantOption, as_json: AsJson = False, database: Database = None) -> None:
    """Keep a tenant's own key for a provider, asked for here or read from standard input, and use it from then on.

    It is sealed with SLUICEWAY_SECRET_KEY, or with the key file beside the store. Calls with it are that key's own:
    its pace, its stops, its meters; they are in no quota of the platform's and in none of its public counters. For
    example: `sluiceway credential set --tenant acme apollo < key.txt`.
    """
    from sluiceway.store.secret import secret_key
    from sluiceway.tenancy.credentials import set_credential

    asked = _with_a_secret(known_provider(provider))
    settings = reading_settings(database)
    value = secret_given(f"Key for {asked}").strip()
    with store_of(settings) as store:
        sealing = secret_key(settings.secret_key.get_secret_value(), settings.database_url, make=True)
        by, now = person_at_terminal(), store.clock.now()
        with store.writing.begin() as connection:
            kept = set_credential(connection, tenant, asked, value, sealing, by=by, now=now)
    if as_json:
        print_json({"credential": kept})
    else:
        typer.echo(f"{provider} is asked with tenant {tenant}'s own key (digest {kept.digest})")


@credentials_app.command("unset")
def unset(provider: Provider, tenant: TenantOption, as_json: AsJson = False, database: Database = None) -> None:
    """Forget a tenant's own key for a provider; the platform's is used for it from then on."""
    from sluiceway.tenancy.credentials import unset_credential

    with opened_store(database) as store, store.writing.begin() as connection:
        gone = unset_credential(connection, tenant, provider, by=person_at_terminal(), now=store.clock.now())
    if as_json:
        print_json({"credential": gone})
    else:
        typer.echo(f"tenant {tenant} has no key of its own for {provider} any more")


@credentials_app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only one tenant's.")] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """List tenants' own keys by their digests; the keys themselves are never shown."""
    from sluiceway.cli.screen import console, table
    from sluiceway.tenancy.credentials import all_credentials
    from sluiceway.tenancy.tenants import tenant_of

    with opened_store(database) as store, store.read() as connection:
        if tenant is not None:
            tenant_of(connection, tenant)
        found = all_credentials(connection, tenant)
    if as_json:
        print_json({"credentials": found})
        return
    made = table("Tenants' own keys", "tenant", "provider", "digest", "since (UTC)", "set by", "credential", left=6)
    for held in found:
        made.add_row(held.tenant_id, held.provider, held.digest, held.created_at[:10], held.created_by, held.id)
    console().print(made if found else "No tenant has keys of its own.")


def _with_a_secret(provider: str) -> str:
    """Return a provider that is asked with a key; raises `BadInput` for one that is not."""
    from sluiceway.sources import all_sources

    kinds = [kind for kind in all_sources().values() if kind.provider == provider]
    if not any(kind.needs and kind.needs.secret for kind in kinds):
        raise BadInput(f"{provider} takes no key; it is told who operates this installation")
    return provider
