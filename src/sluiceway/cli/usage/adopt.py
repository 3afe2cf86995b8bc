"""`sluiceway usage adopt`: counters that another program wrote, taken over."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli.options import AsJson, Database, settings_from
from sluiceway.cli.usage.group import usage_group
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from sluiceway.usage.adopt import Foreign, Found


@usage_group.command("adopt")
def adopt(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before taking them over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be adopted, and change nothing.")] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Take over counters in Redis that another program wrote.

    Sluiceway writes api_usage:{provider}:{YYYY-MM-DD} whole and leaves keys alone that it did not write. This books
    their counts as `imported`, each key once however often you repeat it, and from then on Sluiceway keeps the key:
    its value becomes billed + tracked + imported. Stop the program that wrote them first; what it adds afterwards is
    overwritten. Counters of more than 90 days ago are left alone.
    """
    from sluiceway.store.engine import open_store
    from sluiceway.store.facts import identify
    from sluiceway.usage.adopt import adopt as take_over
    from sluiceway.usage.adopt import find_foreign
    from sluiceway.usage.on_redis import Published, connected, publish

    settings = settings_from(database_url=database)
    store = open_store(settings.database_url)
    try:
        with connected(settings) as client:
            with store.writing.begin() as connection:
                identity = identify(connection)
            found = find_foreign(store, identity, client, settings.usage_key_prefix)
            if not as_json:
                _show_foreign(found)
            adopted: list[Foreign] = []
            if found.foreign and not dry_run and (yes or _agreed()):
                adopted = take_over(store, identity, client, found.foreign)
                published = Published(identity, settings.usage_key_prefix)
                publish(store, published, client)
                for sentence in published.news():
                    typer.echo(sentence, err=True)
    finally:
        store.close()
    if as_json:
        _print_foreign(found, adopted)
    elif adopted:
        typer.echo(f"{sum(key.books for key in adopted):,} calls are booked as imported, and Sluiceway keeps the keys.")


def _show_foreign(found: Found) -> None:
    from sluiceway.cli.screen import console, table

    screen = console()
    if found.foreign:
        made = table("Counters this store did not write", "counter", "holds", "counted here", "already booked", "then")
        for key in found.foreign:
            booked = "·" if key.booked is None else f"{key.booked:,}"
            made.add_row(key.key, f"{key.calls:,}", f"{key.counted:,}", booked, f"{key.counted + key.books:,}")
        screen.print(made)
    else:
        screen.print("Every counter in Redis was written from this store; there is nothing to adopt.")
    if found.left_alone:
        some = ", ".join(found.left_alone[:3]) + (", …" if len(found.left_alone) > 3 else "")
        screen.print(f"Left alone, being too old or no count: {len(found.left_alone):,} ({some})")


def _print_foreign(found: Found, adopted: list[Foreign]) -> None:
    import msgspec

    said = {"found": found.foreign, "left_alone": found.left_alone, "adopted": adopted}
    typer.echo(msgspec.json.format(msgspec.json.encode(said)).decode())


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask on; add --yes to agree")
    return typer.confirm("Book these counts and keep these keys from now on?", default=False, err=True)
