"""`sluiceway usage forecast`: when every quota runs out at the present burn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from sluiceway.cli.options import AsJson, Database, opened_store
from sluiceway.cli.usage.group import usage_group

if TYPE_CHECKING:
    from datetime import datetime

    from sluiceway.usage.forecast import QuotaForecast


@usage_group.command("forecast")
def forecast(as_json: AsJson = False, database: Database = None) -> None:
    """Say when each daily and monthly quota runs out.

    If things go on as they do, that is: by the hour-of-day profile of the last 14 days and the recent level. The
    interval holds four times out of five; "error" is by how much the same forecast of one day was off, in the median,
    at earlier moments of those 14 days. Where there is too little to go by it says so. In JSON, credits are thousandths
    and dollars are millionths.
    """
    import msgspec

    from sluiceway.usage.forecast import quota_forecasts

    with opened_store(database) as store, store.read() as connection:
        now = store.clock.now()
        found = quota_forecasts(connection, now)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"at": now, "quotas": found})).decode())
    elif found:
        _show(found)
    else:
        typer.echo("No daily or monthly quota is set; `sluiceway quota set` sets one.")


def _show(found: list[QuotaForecast]) -> None:
    from sluiceway.cli.screen import amount_text, console, table
    from sluiceway.usage.forecast import Forecast

    screen = console()
    made = table(
        "When quotas run out (UTC)",
        "provider", "limit", "used", "left", "burn a day", "runs out", "80 % between", "error", left=2,
    )  # fmt: skip
    for one in found:
        used, left = amount_text(one.used, one.unit), amount_text(one.left, one.unit)
        if not one.left:
            made.add_row(one.provider, _limit(one), used, left, "", "has run out", f"turns {_short(one.closes_at)}", "")
            continue
        match one.outlook:
            case Forecast() as outlook:
                burn = amount_text(round(outlook.burn_per_day), one.unit)
                made.add_row(
                    one.provider, _limit(one), used, left, burn, *_moments(one, outlook), f"{outlook.error:.0%}"
                )
            case _:
                made.add_row(one.provider, _limit(one), used, left, "", "not enough data", "", "")
    screen.print(made)
    for one in found:
        if one.left and not isinstance(one.outlook, Forecast):
            screen.print(f"{one.provider}: {_limit(one)}: not enough data: {one.outlook.reason}.")


def _limit(one: QuotaForecast) -> str:
    return one.limit if one.hard else f"{one.limit} (soft)"


def _moments(one: QuotaForecast, outlook: Any) -> tuple[str, str]:
    if outlook.earliest is None:
        return "not before it turns", f"turns {_short(one.closes_at)}"
    between = f"{_moment(outlook.earliest)} – {_moment(outlook.latest)}"
    return _moment(outlook.runs_out_at), between


def _moment(moment: datetime | None) -> str:
    return "after it turns" if moment is None else f"{moment:%m-%d %H:%M}"


def _short(stamp: str) -> str:
    return f"{stamp[5:10]} {stamp[11:16]}"
