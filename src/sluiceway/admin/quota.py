"""What is left: every limit, when it runs out, what was used day by day, and what the providers say themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from sluiceway.admin.answer import About, Figure, Window, about, last_days
from sluiceway.outcome import timestamp
from sluiceway.store.schema import meter_days
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.counter import DailyTotal, daily_totals_since
from sluiceway.usage.forecast import Forecast, NotEnough, quota_forecasts
from sluiceway.usage.outside import MeteredDay
from sluiceway.usage.provider_meter import latest
from sluiceway.usage.quota import QuotaClock, Unit, Use, uses

_NOT_COMPARED: Final = "its readings were not compared with our attempts on these days"
_SHORT: Final = NotEnough("a window so short makes work wait and does not run out")


class LimitUse(msgspec.Struct, frozen=True):
    """One limit in its present window. Amounts are in `unit`: requests, milli-credits, micro-dollars.

    `used` is with what is `pending`: reserved for calls whose price is not known yet.
    """

    id: str
    provider: str
    tenant_id: str | None
    unit: Unit
    clock: QuotaClock
    shown: str
    hard: bool
    amount: int
    used: int
    pending: int
    left: int
    opens_at: str
    closes_at: str
    forecast: Forecast | NotEnough


class UsedDay(msgspec.Struct, frozen=True):
    """What was counted of a provider on a UTC day: calls, and what the billed ones cost."""

    day: str
    calls: int
    milli_credits: int
    usd_micros: int


class MeterUse(msgspec.Struct, frozen=True):
    """One of a provider's own meters as it was last read; `None` is what it did not say.

    `days` are theirs and ours beside each other, day by day, as of the last reading of each. `drift` is what they lack
    of what we hold to be billed, `outside` what was surely used outside Sluiceway, over these days.
    """

    credential_id: str
    meter: str
    unit: str
    used: int | None
    amount: int | None
    remaining: int | None
    resets_at: str | None
    read_at: str
    error: str | None
    drift: Figure
    outside: Figure
    days: list[MeteredDay]


class ProviderQuota(msgspec.Struct, frozen=True):
    """One provider: its limits, its meters, and what was used of it day by day."""

    provider: str
    limits: list[LimitUse]
    meters: list[MeterUse]
    history: list[UsedDay]


class Quotas(msgspec.Struct, frozen=True):
    """The answer: every provider that has a limit, a meter or a call."""

    about: About
    providers: list[ProviderQuota]
    how: str = (
        "used of a limit: what admission keeps, call by call; history: the daily counters; theirs: the provider's own "
        "readings; forecast: the hour-of-day profile of 14 days and the recent level"
    )


def quotas(connection: Connection, scope: Scope, now: datetime, days: int = 14) -> Quotas:
    """Return what is used and left of every limit, with what was used on the last UTC days.

    In a tenant's scope these are its own limits alone: meters and counters are the platform's.
    """
    window, of_all = last_days(now, days), scope.tenant_id is None
    limits = _limits(connection, scope, now)
    meters = _meters(connection, window) if of_all else {}
    history = _history(connection, window) if of_all else {}
    providers = [
        ProviderQuota(name, limits.get(name, []), meters.get(name, []), history.get(name, []))
        for name in sorted(limits.keys() | meters.keys() | history.keys())
    ]
    source = ("limit_windows", "provider_hours", "daily_totals", "provider_meters", "meter_days")
    return Quotas(about(window, now, *source), providers)


def _limits(connection: Connection, scope: Scope, now: datetime) -> dict[str, list[LimitUse]]:
    outlooks = {(f.provider, f.tenant_id, f.unit, f.clock): f.outlook for f in quota_forecasts(connection, now)}
    found: dict[str, list[LimitUse]] = defaultdict(list)
    for use in uses(connection, timestamp(now)):
        quota = use.quota
        if scope.tenant_id not in (None, quota.tenant_id):
            continue
        outlook = outlooks.get((quota.provider, quota.tenant_id, quota.unit, quota.clock), _SHORT)
        found[quota.provider].append(_limit_use(use, outlook))
    return found


def _limit_use(use: Use, outlook: Forecast | NotEnough) -> LimitUse:
    quota, window = use.quota, use.window
    return LimitUse(
        quota.id, quota.provider, quota.tenant_id, quota.unit, quota.clock, quota.shown(), quota.hard, quota.amount,
        use.used, use.pending, use.left, window.opens_at, window.closes_at, outlook,
    )  # fmt: skip


def _meters(connection: Connection, window: Window) -> dict[str, list[MeterUse]]:
    by_meter: dict[tuple[str, str, str], list[MeteredDay]] = defaultdict(list)
    m = meter_days.c
    query = select(*(m[name] for name in MeteredDay.__struct_fields__))
    query = query.where(m.day >= window.since, m.day <= window.until).order_by(m.provider, m.meter, m.day)
    for row in connection.execute(query):
        day = MeteredDay(*row)
        by_meter[day.provider, day.credential_id, day.meter].append(day)
    found: dict[str, list[MeterUse]] = defaultdict(list)
    for last in latest(connection):
        days = by_meter.get((last.provider, last.credential_id, last.meter), [])
        found[last.provider].append(
            MeterUse(
                last.credential_id, last.meter, last.unit, last.used, last.amount, last.remaining, last.resets_at,
                last.read_at, last.error, _over(day.missing for day in days), _over(day.outside for day in days), days,
            )
        )  # fmt: skip
    return found


def _over(days: Iterable[int]) -> Figure:
    amounts = list(days)
    return Figure(sum(amounts)) if amounts else Figure(None, _NOT_COMPARED)


def _history(connection: Connection, window: Window) -> dict[str, list[UsedDay]]:
    totals: dict[str, dict[str, DailyTotal]] = defaultdict(dict)
    for total in daily_totals_since(connection, window.since):
        totals[total.provider][total.day] = total
    return {provider: [_used(day, of.get(day)) for day in window.days()] for provider, of in sorted(totals.items())}


def _used(day: str, total: DailyTotal | None) -> UsedDay:
    return UsedDay(day, total.calls, total.milli_credits, total.usd_micros) if total else UsedDay(day, 0, 0, 0)
