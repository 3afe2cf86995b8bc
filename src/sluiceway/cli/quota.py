"""`sluiceway quota`: what may be spent at most, and what is left of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, known_provider, opened_store, person_at_terminal
from sluiceway.errors import BadInput
from sluiceway.process import user_name

if TYPE_CHECKING:
    from sluiceway.usage.quota import Use

quotas_app = typer.Typer(no_args_is_help=True, help="Limit what may be spent.", rich_markup_mode=None)
app.add_typer(quotas_app, name="quota")


class Unit(StrEnum):
    """The units a person may choose."""

    REQUESTS = "requests"
    CREDITS = "credits"
    USD = "usd"


class Per(StrEnum):
    """The clocks a person may choose."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    CYCLE = "cycle"
    IN_FLIGHT = "in_flight"


Provider = Annotated[str, typer.Argument(help="Whose calls: apollo, contactout, exa, edgar, claude, …")]
PerOption = Annotated[
    Per,
    typer.Option("--per", help="The window: a UTC second, minute, hour or day, a billing cycle, or calls in flight."),
]
UnitOption = Annotated[Unit, typer.Option("--unit", help="What is counted.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only what is spent for this tenant. Default: everybody.")]


@quotas_app.command("set")
def set_(
    provider: Provider,
    limit: Annotated[str, typer.Argument(help="How much: a number of requests, credits or dollars (12.50).")],
    per: PerOption = Per.DAY,
    unit: UnitOption = Unit.REQUESTS,
    tenant: Tenant = None,
    cycle_day: Annotated[
        int | None, typer.Option(min=1, max=31, help="Day of the month on which a billing cycle starts.")
    ] = None,
    first_request: Annotated[
        bool, typer.Option("--first-request", help="Windows open at their first request instead of a round moment.")
    ] = False,
    warn_at: Annotated[
        int, typer.Option(min=0, max=100, help="Say so at this percentage of a day or cycle; 0: never.")
    ] = 80,
    soft: Annotated[bool, typer.Option("--soft", help="Only warn; refuse nothing.")] = False,
    database: Database = None,
) -> None:
    """Set a limit; it holds from the next call on, in every process.

    What was spent in the present window before counts. A short window that is used up makes work wait for the next
    one; a used-up day or cycle ends a source's work as `quota_exceeded`, to be asked again when it turns. Requests
    count when they are sent, credits and dollars at the most they may cost until the real price is known. The same
    provider, unit, window and tenant have one limit: setting it again replaces it.
    """
    from sluiceway.pipeline.operate import change_quota
    from sluiceway.usage.quota import Opens, Quota, QuotaClock, amount_of
    from sluiceway.usage.quota import Unit as Counted

    counted = Counted(unit)
    quota = Quota(
        provider=known_provider(provider),
        unit=counted,
        clock=QuotaClock(per),
        amount=amount_of(counted, limit),
        tenant_id=tenant,
        cycle_day=cycle_day,
        opens=Opens.FIRST_REQUEST if first_request else Opens.CALENDAR,
        warn_at_percent=warn_at or None,
        hard=not soft,
    )

    with opened_store(database) as store, store.writing.begin() as connection:
        change_quota(connection, quota, by=person_at_terminal(), user=user_name(), now=store.clock.now())
    typer.echo(f"{provider}: at most {quota.shown()}" + (" (soft: it only warns)" if soft else ""))


@quotas_app.command("unset")
def unset(
    provider: Provider,
    per: PerOption = Per.DAY,
    unit: UnitOption = Unit.REQUESTS,
    tenant: Tenant = None,
    database: Database = None,
) -> None:
    """Take a limit away, from the next call on."""
    from sluiceway.pipeline.operate import drop_quota
    from sluiceway.usage.quota import Quota, QuotaClock
    from sluiceway.usage.quota import Unit as Counted

    quota_id = Quota(provider, Counted(unit), QuotaClock(per), 0, tenant).id
    with opened_store(database) as store, store.writing.begin() as connection:
        gone = drop_quota(connection, quota_id, by=person_at_terminal(), user=user_name(), now=store.clock.now())
    if not gone:
        raise BadInput(f"there is no limit {quota_id}; `sluiceway quota list` shows those there are")
    typer.echo(f"{quota_id} is no limit any more")


@quotas_app.command("list")
def list_(as_json: AsJson = False, database: Database = None) -> None:
    """Show every limit, what is used of it in its present window, and when that turns (UTC).

    `reserved` is held back for calls whose price is not known yet. In JSON, credits are thousandths of a credit and
    dollars are millionths.
    """
    import msgspec

    from sluiceway.cli.screen import amount_text, console, table
    from sluiceway.usage.quota import uses

    with opened_store(database) as store, store.read() as connection:
        found = uses(connection, store.clock.stamp())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"quotas": [_as_row(use) for use in found]})).decode())
        return
    if not found:
        console().print("No limits. `sluiceway quota set apollo 600 --per day` sets one.")
        return
    made = table("Limits", "provider", "limit", "kind", "used", "reserved", "left", "window turns (UTC)", left=3)
    for use in found:
        quota = use.quota
        amounts = [amount_text(each, quota.unit) for each in (use.used - use.pending, use.pending, use.left)]
        turns = "" if quota.clock.value == Per.IN_FLIGHT else use.window.closes_at[:19].replace("T", " ")
        made.add_row(quota.provider, quota.shown(), "hard" if quota.hard else "soft", *amounts, turns)
    console().print(made)


def _as_row(use: Use) -> dict[str, Any]:
    import msgspec

    return {
        "id": use.quota.id,
        **msgspec.structs.asdict(use.quota),
        "opens_at": use.window.opens_at,
        "closes_at": use.window.closes_at,
        "used": use.used,
        "pending": use.pending,
        "left": use.left,
    }
