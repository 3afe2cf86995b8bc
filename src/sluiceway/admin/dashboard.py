"""How things stand: prospects and coverage, how source results end, what is used of each provider, who is active."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from itertools import accumulate
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from sluiceway.admin.answer import About, Figure, Window, about, divided, last_days, rate_figures
from sluiceway.outcome import FAILURES, rates
from sluiceway.store.schema import (
    active_users,
    activity_days,
    coverage_days,
    outcome_days,
    tenant_days,
    tenant_outcome_days,
)
from sluiceway.tenancy.scope import Scope
from sluiceway.usage.counter import daily_totals_since

_AVERAGED_DAYS: Final = 7


class CoverageDay(msgspec.Struct, frozen=True):
    """How many of today's prospects were held by the end of a UTC day, and how many of them with something bought."""

    day: str
    prospects: int
    covered: int


class Coverage(msgspec.Struct, frozen=True):
    """All prospects that are held, and those about whom at least one field was bought."""

    prospects: int
    covered: int
    share: Figure
    series: list[CoverageDay]
    how: str = "prospects with at least one bought field ÷ all prospects held now, by the day that became so"


class PipelineDay(msgspec.Struct, frozen=True):
    """How the source results ended that were closed on a UTC day."""

    day: str
    results: int
    failed: int
    success: Figure
    hit: Figure


class Pipeline(msgspec.Struct, frozen=True):
    """How source results ended, over all days of the answer."""

    results: int
    failed: int
    success: Figure
    hit: Figure
    series: list[PipelineDay]
    how: str = (
        "by the day results were closed: success = (complete + no_data + cached) ÷ (those + failures); "
        "hit = complete ÷ (complete + no_data); skipped and cancelled count in neither"
    )


class BurnDay(msgspec.Struct, frozen=True):
    """What was used of a provider on a UTC day: counted calls, milli-credits, micro-dollars."""

    day: str
    calls: int
    milli_credits: int
    usd_micros: int


class Burn(msgspec.Struct, frozen=True):
    """What was used of one provider, over all days of the answer and day by day."""

    provider: str
    calls: int
    milli_credits: int
    usd_micros: int
    series: list[BurnDay]
    how: str = "the daily counters: billed calls on the platform's credentials, and calls tracked or imported"


class UsersDay(msgspec.Struct, frozen=True):
    """How many users did anything on a UTC day."""

    day: str
    users: int


class ActiveUsers(msgspec.Struct, frozen=True):
    """How many users did anything today, beside the average of the (up to) 7 UTC days before."""

    today: int
    average: Figure
    series: list[UsersDay]
    how: str = "users with at least one recorded action on the day; a batch's enrichments are its user's"


class Dashboard(msgspec.Struct, frozen=True):
    """The answer."""

    about: About
    coverage: Coverage
    pipeline: Pipeline
    burn: list[Burn]
    users: ActiveUsers


def dashboard(connection: Connection, scope: Scope, now: datetime, days: int = 14) -> Dashboard:
    """Return how everything stands, with a series over the last UTC days, today included."""
    window = last_days(now, days)
    of_all = scope.tenant_id is None
    tables = ("outcome_days", "daily_totals") if of_all else ("tenant_outcome_days", "tenant_days")
    return Dashboard(
        about(window, now, "coverage_days", *tables, "activity_days", "active_users"),
        _coverage(connection, scope, window),
        _pipeline(connection, scope, window),
        _burn(connection, window) if of_all else _burn_of_tenant(connection, scope, window),
        _users(connection, scope, window, now),
    )


def _coverage(connection: Connection, scope: Scope, window: Window) -> Coverage:
    c = scope.of(coverage_days).c
    sums = (func.coalesce(func.sum(c.prospects), 0), func.coalesce(func.sum(c.covered), 0))
    before = connection.execute(select(*sums).where(c.day < window.since)).one()
    query = select(c.day, *sums).where(c.day >= window.since).group_by(c.day)
    added = {day: (int(prospects), int(covered)) for day, prospects, covered in connection.execute(query)}
    steps = [added.pop(day, (0, 0)) for day in window.days()]
    held = list(accumulate((step[0] for step in steps), initial=int(before[0])))[1:]
    covered = list(accumulate((step[1] for step in steps), initial=int(before[1])))[1:]
    series = [CoverageDay(*day) for day in zip(window.days(), held, covered, strict=True)]
    share = divided(covered[-1], held[-1], "there are no prospects")
    return Coverage(held[-1], covered[-1], share, series)


def _pipeline(connection: Connection, scope: Scope, window: Window) -> Pipeline:
    o = outcome_days.c if scope.tenant_id is None else scope.of(tenant_outcome_days).c
    query = select(o.day, o.status, func.sum(o.results)).where(o.day >= window.since, o.day <= window.until)
    by_day: dict[str, Counter[str]] = defaultdict(Counter)
    for day, status, count in connection.execute(query.group_by(o.day, o.status)):
        by_day[day][status] += int(count)
    whole: Counter[str] = sum(by_day.values(), Counter())
    series = [PipelineDay(day, *_ended(by_day[day])) for day in window.days()]
    return Pipeline(*_ended(whole), series)


def _ended(counts: Mapping[str, int]) -> tuple[int, int, Figure, Figure]:
    failed = sum(count for status, count in counts.items() if status in FAILURES)
    return sum(counts.values()), failed, *rate_figures(rates(counts))


def _burn(connection: Connection, window: Window) -> list[Burn]:
    days: dict[str, dict[str, BurnDay]] = defaultdict(dict)
    for t in daily_totals_since(connection, window.since):
        if t.day <= window.until:
            days[t.provider][t.day] = BurnDay(t.day, t.calls, t.milli_credits, t.usd_micros)
    return [_burn_of(provider, of, window) for provider, of in sorted(days.items())]


def _burn_of_tenant(connection: Connection, scope: Scope, window: Window) -> list[Burn]:
    """Return what was billed for one tenant: the daily counters know nothing of tenants."""
    t = scope.of(tenant_days).c
    sums = [func.sum(t[name]) for name in ("billed", "milli_credits", "usd_micros")]
    query = select(t.provider, t.day, *sums).where(t.day >= window.since, t.day <= window.until)
    days: dict[str, dict[str, BurnDay]] = defaultdict(dict)
    for provider, day, calls, milli_credits, usd in connection.execute(query.group_by(t.provider, t.day)):
        days[provider][day] = BurnDay(day, int(calls), int(milli_credits), int(usd))
    how = "billed calls for this tenant, on whosever credentials"
    return [msgspec.structs.replace(_burn_of(provider, of, window), how=how) for provider, of in sorted(days.items())]


def _burn_of(provider: str, days: Mapping[str, BurnDay], window: Window) -> Burn:
    series = [days.get(day, BurnDay(day, 0, 0, 0)) for day in window.days()]
    calls, milli_credits, usd_micros = (sum(of) for of in zip(*map(_amounts, series), strict=True))
    return Burn(provider, calls, milli_credits, usd_micros, series)


def _amounts(day: BurnDay) -> tuple[int, int, int]:
    return day.calls, day.milli_credits, day.usd_micros


def _users(connection: Connection, scope: Scope, window: Window, now: datetime) -> ActiveUsers:
    d = scope.of(activity_days).c
    averaged = last_days(now, _AVERAGED_DAYS + 1)
    since = min(window.since, averaged.since)
    users = select(d.day, d.tenant_id, d.user_id).distinct().where(d.day >= since).subquery().c
    query = select(users.day, func.count()).group_by(users.day)
    active = {day: int(count) for day, count in connection.execute(query)}
    series = [UsersDay(day, active.get(day, 0)) for day in window.days()]
    return ActiveUsers(series[-1].users, _average(connection, scope, active, averaged), series)


def _average(connection: Connection, scope: Scope, active: Mapping[str, int], averaged: Window) -> Figure:
    first = connection.execute(select(func.min(scope.of(active_users).c.first_at))).scalar()
    days = [day for day in averaged.days()[:-1] if first and day >= first[:10]]
    if not days:
        return Figure(None, "nothing was recorded before today")
    return Figure(sum(active.get(day, 0) for day in days) / len(days))
