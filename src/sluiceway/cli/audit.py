"""`sluiceway audit`: who did what to whom, and when."""

from __future__ import annotations

from typing import Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store, print_json


@app.command()
def audit(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only what concerns one tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest entries.")] = 50,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show who changed tenants, users, keys, limits, pauses, and who signed in, newest first. Nothing here changes."""
    from sluiceway.cli.screen import console, table
    from sluiceway.tenancy.audit import entries

    with opened_store(database) as store, store.read() as connection:
        found = entries(connection, tenant_id=tenant, limit=limit)
    if as_json:
        print_json({"entries": found})
        return
    made = table("Audit", "when (UTC)", "who", "did", "to", "tenant", "detail", left=6)
    for entry in found:
        at = entry.at[:19].replace("T", " ")
        made.add_row(at, entry.actor, entry.action, entry.target, entry.tenant_id or "", entry.detail or "")
    console().print(made if found else "Nothing yet.")
