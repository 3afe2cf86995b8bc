"""`sluiceway usage`: what was asked and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, reading_settings

if TYPE_CHECKING:
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
