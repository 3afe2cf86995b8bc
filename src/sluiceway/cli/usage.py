"""`sluiceway usage`: what was asked and what it cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, reading_settings, settings_from
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from sluiceway.usage.adopt import Foreign, Found
    from sluiceway.usage.counter import DailyTotal
    from sluiceway.usage.spend import Spend


HELP = (
    "Show calls, credits and dollars by provider, folded from the ledger.\n\n"
    "Every call is exactly one of: billed (the provider counts it), free (answered, not counted), unknown (it may have "
    "been billed: the answer was lost), not sent (it provably never left), or open (in flight, or not yet recovered). "
    "In JSON, credits are thousandths of a credit and dollars are millionths, so that they add up exactly."
)

usage_group = typer.Typer(help=HELP, invoke_without_command=True, no_args_is_help=False)
app.add_typer(usage_group, name="usage")


@usage_group.callback()
def usage(
    context: typer.Context,
    days: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the last N UTC days, today included. Default: everything."),
    ] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show calls, credits and dollars by provider."""
    if context.invoked_subcommand is not None:
        return
    from datetime import timedelta

    import msgspec

    from sluiceway.store.engine import open_store
    from sluiceway.usage.counter import daily_totals_since
    from sluiceway.usage.spend import spend_by_provider

    store = open_store(reading_settings(database).database_url)
    today = store.clock.now().date()
    since = (today - timedelta(days=days - 1)).isoformat() if days else None
    with store.read() as connection:
        spends = spend_by_provider(connection, since_day=since)
        totals = daily_totals_since(connection, since or "")
    store.close()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"since": since, "providers": spends})).decode())
        return
    _show(spends, totals[-15:], since)


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


def _show(spends: dict[str, Spend], totals: list[DailyTotal], since: str | None) -> None:
    from sluiceway.cli.screen import console, credits_text, dollars_text, spend_table, table

    screen = console()
    if not spends and not totals:
        screen.print("No calls yet. `sluiceway demo` makes some that cost nothing.")
        return
    screen.print(
        spend_table(
            spends, f"Calls and money by provider, from {since} UTC" if since else "Calls and money by provider"
        )
    )
    counters = table("Daily counters (UTC days)", "counter", "calls", "tracked", "imported", "credits", "dollars")
    for total in totals:
        counters.add_row(
            total.name,
            f"{total.calls:,}",
            f"{total.tracked:,}" if total.tracked else "·",
            f"{total.imported:,}" if total.imported else "·",
            credits_text(total.milli_credits),
            dollars_text(total.usd_micros),
        )
    screen.print(counters)
