"""`sluiceway usage` itself: what was asked and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluiceway.usage.counter import DailyTotal
    from sluiceway.usage.spend import Spend


HELP = (
    "Show calls, credits and dollars, folded from the ledger: by provider, or by what --by names.\n\n"
    "Every call is exactly one of: billed (the provider counts it), free (answered, not counted), unknown (it may have "
    "been billed: the answer was lost), not sent (it provably never left), or open (in flight, or not yet recovered). "
    "In JSON, credits are thousandths of a credit and dollars are millionths, so that they add up exactly."
)

usage_group = typer.Typer(help=HELP, invoke_without_command=True, no_args_is_help=False)
app.add_typer(usage_group, name="usage")

_BY = ("provider", "source", "tenant", "user", "batch", "trigger", "hour")
_NOBODYS_ROW = {"tenant": "shared"}
"""What the row of calls without a tenant is called; without anything else it is a dash."""


@usage_group.callback()
def usage(
    context: typer.Context,
    days: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the last N UTC days, today included. Default: everything."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            help=f"One row for each: {', '.join(_BY)} (UTC). Every call is in exactly one row.",
        ),
    ] = "provider",
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show calls, credits and dollars, by provider or by what --by names."""
    if context.invoked_subcommand is not None:
        return
    from datetime import timedelta

    import msgspec

    from sluiceway.errors import BadInput
    from sluiceway.usage.counter import daily_totals_since
    from sluiceway.usage.spend import By, batch_names, spend_by

    if by not in _BY:
        raise BadInput(f"--by {by!r} is not one of {', '.join(_BY)}")
    with opened_store(database) as store, store.read() as connection:
        today = store.clock.now().date()
        since = (today - timedelta(days=days - 1)).isoformat() if days else None
        spends = spend_by(connection, By(by), since_day=since)
        totals = daily_totals_since(connection, since or "")
        names = batch_names(connection) if by == "batch" else {}
    if as_json:
        said = {"since": since, **({"providers": spends} if by == "provider" else {"by": by, "rows": spends})}
        typer.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
        return
    if not spends and not totals:
        typer.echo("No calls yet. `sluiceway demo` makes some that cost nothing.")
        return
    _show(spends, by, since, names)
    if by == "provider":
        _show_counters(totals[-15:])


def _show(spends: Mapping[str, Spend], by: str, since: str | None, names: Mapping[str, str]) -> None:
    from sluiceway.cli.screen import console, spend_table

    shown: dict[str, Spend] = {}
    for key, spend in spends.items():
        label = _label(by, key, names)
        shown[key if label in shown else label] = spend
    title = f"Calls and money by {by}" + (f", from {since} UTC" if since else "")
    with_external = by != "provider" and any(spend.tracked or spend.imported for spend in spends.values())
    console().print(spend_table(shown, title, of=by, with_external=with_external))


def _label(by: str, key: str, names: Mapping[str, str]) -> str:
    if key == "":
        return _NOBODYS_ROW.get(by, "—")
    return f"{names[key]} ({key[:12]})" if key in names else key


def _show_counters(totals: list[DailyTotal]) -> None:
    from sluiceway.cli.screen import console, count_text, credits_text, dollars_text, table

    counters = table("Daily counters (UTC days)", "counter", "calls", "tracked", "imported", "credits", "dollars")
    for total in totals:
        counters.add_row(
            total.name,
            f"{total.calls:,}",
            count_text(total.tracked),
            count_text(total.imported),
            credits_text(total.milli_credits),
            dollars_text(total.usd_micros),
        )
    console().print(counters)
